"""The shell in front of Python: the commands that Claude Code runs, and the launcher they call.

In a project's settings, which are committed and shared, the commands are the same on every
machine.  In a file of one user's (scopes user and local) the state folder is frozen into them:
there a repository's ``env`` block, which Claude Code lays over a hook's environment, has no say.
What else differs (which Python, where plandock lies, what the user's own environment was) stands
in the launcher, a small shell program in the state folder.  Plain POSIX ``sh`` throughout (dash,
busybox), no program looked up on PATH, and no text of a payload is ever expanded or evaluated.

The launcher latches before Python starts: where a plan is proposed, accepted or cleared for, it
leaves a mark of its own, which Python replaces or takes away as soon as it has decided.  So
whatever becomes of Python, the tool calls that follow are refused, by the shell alone.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from plandock import paths
from plandock.hook import answers
from plandock.settings.project import FROZEN

# A file that was emptied would do nothing, and say nothing.
_LAUNCHER_IS_THERE = '[ -f "$d/hook" ] && [ -s "$d/hook" ]'

# How long Claude Code waits for one of our hooks, in seconds; past it the call goes ahead.  The
# longest that every version respects: above, 2.1.197 waits no time at all (measured; its timer
# counts milliseconds in 31 bits, and 2.1.332 cuts to that).
TIMEOUT_S = 2_147_483

# What the state folder is: as in `plandock.paths`, a relative XDG_STATE_HOME does not count.
_SHARED_STATE = (
    "case ${XDG_STATE_HOME-} in /*) d=$XDG_STATE_HOME;; *) d=$HOME/.local/state;; esac; "
    "d=$d/plandock"
)


@dataclass(frozen=True)
class Hook:
    """One entry of ours: the event, its matcher (None: the event has none), and the command."""

    event: str
    matcher: str | None
    word: str
    command: str
    timeout_s: int = TIMEOUT_S


def _when_marked(state: str, word: str, *folders: str) -> str:
    """A command that calls the launcher only when a mark stands; builtins alone until then.

    In one user's own file a latch holds its conversation without a launcher as well.
    """
    files = " ".join(f'"$d"/{folder}/*' for folder in folders)
    # `exec`, so that Python's parent is Claude Code itself: the hook tells sessions apart by it.
    call = (
        f'{state}; for f in {files}; do [ -e "$f" ] && {_LAUNCHER_IS_THERE} '
        f'&& exec /bin/sh "$d/hook" {word}; done; '
    )
    if word == "guard" and state != _SHARED_STATE:
        call += (
            '[ -e "$f" ] || exit 0; IFS= read -r p; p=${p%%\'"tool_\'*}; '
            f"for f in {files}; do case $p in *'\"'\"${{f##*/}}\"'\"'*) ;; *) continue;; esac; "
            'm=; IFS= read -r m <"$f"; case $m in \'{"kind": "copy"\'*) continue;; esac; '
            f"printf '%s\\n' {shlex.quote(_GONE_LATCHED)} >&2; exit 2; done; "
        )
    return call + "exit 0"


def _always(state: str, word: str) -> str:
    """A command that calls the launcher; without one, a shared command asks PATH for plandock.

    In one user's own file the user has asked for plandock: there a plan is not carried out just
    because its launcher is gone.
    """
    call = f'{state}; {_LAUNCHER_IS_THERE} && exec /bin/sh "$d/hook" {word}; '
    is_shared, stop = state == _SHARED_STATE, f"printf %s {shlex.quote(_GONE)}"
    if is_shared and word == "accepted":
        call += f"command -v plandock >/dev/null 2>&1 && {{ plandock hook || {stop}; }}; "
    elif is_shared:
        call += "command -v plandock >/dev/null 2>&1 && exec plandock hook; "
    elif word == "accepted":
        call += f"IFS= read -r p; case ${{p%%'\"tool_'*}} in {BY_HAND}) ;; *) {stop};; esac; "
    elif word == "proposed":
        # With cleared context nothing else comes that could be answered.
        return call + f"printf '%s\\n' {shlex.quote(_GONE_PROPOSED)} >&2; exit 2"
    return call + "exit 0"


# A plan that its user goes on with by hand, told by what stands before the tool's own fields.  A
# quote inside of a value comes with a backslash, so nothing but the payload's own key matches.
BY_HAND = """*'"permission_mode":"default"'*|*'"permission_mode":"plan"'*"""


def _where_a_plan_was_accepted(state: str) -> str:
    """A command that calls the launcher only where the conversation's file holds an acceptance.

    A path with an escape in it names no file, and Python looks.
    """
    return (
        f'{state}; [ -f "$d/hook" ] || exit 0; p=$(/bin/dd bs=4096 count=1 2>/dev/null; printf .); '
        "p=${p%.}; t=${p#*'\"transcript_path\":\"'}; t=${t%%'\"'*}; "
        "for g in /usr/bin/grep /bin/grep; do "
        '[ -f "$t" ] && [ -x "$g" ] && { LC_ALL=C "$g" -qF -e \'"isAgent":false\' '
        '-e \'"planContent":\' "$t" || exit 0; break; }; done; '
        '{ printf %s "$p"; /bin/cat; } | /bin/sh "$d/hook" stopped; exit 0'
    )


_GONE = (
    '{"continue":false,"stopReason":"plandock does not work: its launcher is gone or its program '
    "failed, so this plan was not handed off and not carried out here.\\nNext: plandock init, "
    'then: plandock run --session last; or take its hooks out of the settings: plandock uninit"}'
)

_GONE_PROPOSED = (
    "plandock does not work: its launcher is gone, so no plan can be handed off, and none is shown "
    "to the user. Tell the user this and stop. Next for the user: plandock init, then plan again; "
    "or take its hooks out of the settings: plandock uninit"
)
_GONE_LATCHED = (
    "plandock took over the plan of this conversation, but its launcher is gone. No tool may run "
    "here. Tell the user this and stop. Next for the user: plandock init, then write a message "
    "here; or take its hooks out of the settings: plandock uninit"
)


def hooks(state: Path | None = None) -> tuple[Hook, ...]:
    """Our entries in the order in which they are written; ``state`` is frozen into them.

    Without it (and where its path is no plain text) the commands look for the state folder by
    the environment, as those that are shared have to.
    """
    text = "" if state is None else str(state)
    plain = text.isprintable() and text.startswith("/")
    d = f"d={shlex.quote(text)}" if plain else _SHARED_STATE
    return (
        Hook("PreToolUse", "*", "guard", _when_marked(d, "guard", "latch")),
        Hook("PreToolUse", "ExitPlanMode", "proposed", _always(d, "proposed")),
        Hook("PostToolUse", "ExitPlanMode", "accepted", _always(d, "accepted")),
        Hook(
            "UserPromptSubmit", None, "prompt",
            _when_marked(d, "prompt", "note", "latch", "proposed"),
        ),
        Hook("SessionEnd", "clear", "cleared-end", _when_marked(d, "cleared-end", "proposed")),
        Hook(
            "SessionStart", "clear", "cleared-start",
            _when_marked(d, "cleared-start", "proposed"),
        ),
        Hook("SessionStart", "startup|resume", "started", _always(d, "started")),
        Hook("Stop", None, "stopped", _where_a_plan_was_accepted(d)),
    )  # fmt: skip


# As they stand in shared settings.  A command ends in a marker comment by which it is known again.
HOOKS: tuple[Hook, ...] = hooks()

# The payload begins with the session's id (shared facts, section 1); where it does not, Python
# looks.  `dd` reads once and no further than it says, unlike `head -c` on busybox and macOS, and
# the dot keeps newlines at the end of the piece.  `set -C` leaves a mark that stands as it is.
_FORM = "# form 4: latches before Python starts, at a clearing as well"
_CANNOT_MARK = "the mark of this plan does not stand, and plandock's program failed"
_LAUNCHER = """\
#!/bin/sh
# plandock's hook for Claude Code; written by `plandock init`.
{form}
python={python}
entry={entry}
marks=${{0%/*}}
word=${{1-}}
why='its program did not come to an end; see: plandock doctor'
works=1
if [ ! -x "$python" ] || [ ! -r "$entry" ]; then
    works=
    why='it is not installed any more; install it again, then: plandock init'
fi
size=16384
case $word in
guard) size=256 ;;
proposed | accepted | cleared-start | cleared-end) ;;
*)
    [ -z "$works" ] || exec "$python" -I -S "$entry" "$word" {frozen}
    [ "$word" = prompt ] || exit 0
    ;;
esac
head=$({dd} bs=$size count=1 2>/dev/null; printf .)
head=${{head%.}}
blank=' {tab}
'
rest=$head
id=
for next in '{{' '"session_id"' ':' '"'; do
    case $rest in
    "$next"*) rest=${{rest#"$next"}} ;;
    *)
        rest=
        break
        ;;
    esac
    case $rest in
    [$blank]*) [ "$next" = '"' ] || rest=${{rest#"${{rest%%[!$blank]*}}"}} ;;
    esac
done
case $rest in
*'"'*) id=${{rest%%'"'*}} ;;
esac
case $id in
*[!0-9A-Za-z-]*) id= ;;
esac

put() {{
    [ "${{#id}}" = 36 ] || return 0
    case $id in
    *[!0123456789abcdefABCDEF-]*) return 0 ;;
    esac
    (
        umask 077
        [ -d "$marks/$1" ] || {mkdir} "$marks/$1"
        set -C
        printf '{{"by": "launcher", %s}}\\n' "$2" >"$marks/$1/$id"
    ) 2>/dev/null
    return 0
}}

call() {{
    [ -n "$works" ] || return 127
    {{ printf %s "$head"; {cat}; }} | "$python" -I -S "$entry" "$word" "PPID=$PPID" {frozen}
}}

may_latch() {{
    [ -d "$marks/latch" ] || {mkdir} -m 700 "$marks/latch" 2>/dev/null
    [ -w "$marks/latch" ] && [ -x "$marks/latch" ]
}}

stands() {{
    [ -n "$id" ] && [ -e "$marks/latch/$id" ]
}}

how_on() {{
    if [ -z "$id" ]; then
        printf %s "Next for the user: make plandock work again (plandock doctor), then: \
plandock run --session last"
        return
    fi
    printf %s "Next for the user: make plandock work again, and write a message here; the plan is \
handed off with: plandock run --session $id (plandock ps shows whether it was). To go on here \
without plandock: remove the file {latches}/$id"
}}

refuse() {{
    printf '%s\\n' "plandock could not take the plan of this conversation over: $why. No tool may \
run here. Tell the user this and stop. $(how_on)" >&2
    exit 2
}}

say() {{
    printf '%s' "{{$1\\"plandock could not take the plan of this conversation over: $why. It is \
not carried out here.\\\\n$(how_on)\\"}}"
    exit 0
}}

case $word in
guard)
    mark=
    if [ -n "$id" ]; then
        [ -e "$marks/latch/$id" ] || exit 0
        IFS= read -r mark 2>/dev/null <"$marks/latch/$id"
        case $mark in
        '{{"by": "launcher"'*) refuse ;;
        esac
    fi
    call
    code=$?
    case $code in
    0 | 2) exit $code ;;
    esac
    case $mark in
    '{{"kind": "copy"'*) exit 0 ;;
    esac
    ! stands || refuse
    for file in "$marks"/latch/*; do
        id=${{file##*/}}
        case $head in
        *"$id"*) refuse ;;
        esac
    done
    exit 0
    ;;
proposed)
    put proposed "\\"session\\": \\"$id\\""
    call
    code=$?
    case $code in
    0 | 2) exit $code ;;
    esac
    if [ -n "$id" ] && [ -s "$marks/proposed/$id" ] && may_latch; then
        exit 0
    fi
    printf '%s\n' {cannot_write} >&2
    exit 2
    ;;
cleared-end)
    [ -z "$id" ] || [ ! -e "$marks/proposed/$id" ] || put latch '"kind": "cleared-away"'
    [ -z "$works" ] || call
    exit
    ;;
cleared-start)
    put latch '"kind": "cleared"'
    ! call || exit 0
    ! stands || say '"systemMessage":'
    ;;
accepted)
    case ${{head%%'"tool_'*}} in
    {by_hand}) by_hand=1 ;;
    *)
        by_hand=
        put latch '"kind": "handing-off"'
        ;;
    esac
    ! call || exit 0
    [ -n "$by_hand" ] || say '"continue":false,"stopReason":'
    ;;
*)
    ! stands || say '"systemMessage":'
    ;;
esac
exit 0
"""


def write_launcher(python: str, entry: Path) -> Path:
    """Write the launcher (0700) for this interpreter and ``hook/entry.py``; returns its path.

    What of this process's environment the hook has to rely on (:data:`FROZEN`) is written into it
    as words for Python, which no variable can forge.  Replaces an older one in one step.  Raises
    :class:`OSError` when the state folder cannot be written.
    """
    target = paths.hook_launcher()
    paths.make_private(target.parent)
    text = _LAUNCHER.format(
        form=_FORM,
        python=shlex.quote(python),
        entry=shlex.quote(str(entry)),
        frozen=" ".join(shlex.quote(f"{name}={value}") for name, value in _frozen().items()),
        tab="\t",
        dd=shlex.quote(_program("dd")),
        cat=shlex.quote(_program("cat")),
        mkdir=shlex.quote(_program("mkdir")),
        by_hand=BY_HAND,
        cannot_write=shlex.quote(answers.cannot_remember(_CANNOT_MARK)),
        latches=_in_quotes(json.dumps(str(paths.latch_dir()))[1:-1]),
    )
    handle, temporary = tempfile.mkstemp(prefix=".hook-", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), 0o700)
            file.write(os.fsencode(text))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return target


def is_current(text: str) -> bool:
    """Whether a launcher is of this form, or an older plandock's."""
    return _FORM in text.splitlines()[:4]


def _in_quotes(text: str) -> str:
    """Text as it may stand between the shell's double quotes, without meaning anything there."""
    return "".join(f"\\{c}" if c in '\\"$`' else c for c in text)


def _frozen() -> dict[str, str]:
    found = {name: os.environ[name] for name in FROZEN if os.environ.get(name)}
    # Even where it is not set: the launcher's own place says which one it is.
    return found | {"XDG_STATE_HOME": str(paths.state_dir().parent), "HOME": str(paths.home())}


def _program(name: str) -> str:
    """A system program's path; the system's own folders first."""
    return shutil.which(name, path=os.defpath) or shutil.which(name) or f"/bin/{name}"


def remove_launcher() -> bool:
    """Take the launcher away; whether there was one."""
    try:
        paths.hook_launcher().unlink()
    except FileNotFoundError:
        return False
    return True
