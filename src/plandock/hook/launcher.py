"""The shell in front of Python: the commands that Claude Code runs, and the launcher they call.

In a project's settings, which are committed and shared, the commands are the same on every
machine.  In a file of one user's (scopes user and local) the state folder is frozen into them:
there a repository's ``env`` block, which Claude Code lays over a hook's environment, has no say.
What else differs (which Python, where plandock lies, what the user's own environment was) stands
in the launcher, a small shell program in the state folder.  Plain POSIX ``sh`` throughout (dash,
busybox), no program looked up on PATH, and no text of a payload is ever expanded or evaluated.
"""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from plandock import paths
from plandock.settings.project import FROZEN

# How long Claude Code waits for one of our hooks, in seconds; past it the call goes ahead.
TIMEOUT_S = 60

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
    """A command that calls the launcher only when a mark stands; builtins alone until then."""
    files = " ".join(f'"$d"/{folder}/*' for folder in folders)
    # `exec`, so that Python's parent is Claude Code itself: the hook tells sessions apart by it.
    return (
        f'{state}; for f in {files}; do [ -e "$f" ] && [ -f "$d/hook" ] '
        f'&& exec /bin/sh "$d/hook" {word}; done; exit 0'
    )


def _always(state: str, word: str) -> str:
    """A command that calls the launcher; without one, a shared command asks PATH for plandock."""
    call = f'{state}; [ -f "$d/hook" ] && exec /bin/sh "$d/hook" {word}; '
    if state == _SHARED_STATE:
        call += "command -v plandock >/dev/null 2>&1 && exec plandock hook; "
    elif word == "accepted":
        call += f"printf %s {shlex.quote(_GONE)}; "
    return call + "exit 0"


def _where_a_mod_may_be(state: str) -> str:
    """A command that calls the launcher only where a plugin is in reach of this conversation."""
    config = '"${CLAUDE_CONFIG_DIR:-$HOME/.claude}"'
    return (
        f"{state}; for f in .claude/skills/*/.claude-plugin {config}/skills/*/.claude-plugin "
        f'{config}/plugins/installed_plugins.json; do [ -e "$f" ] && [ -f "$d/hook" ] '
        '&& exec /bin/sh "$d/hook" started; done; exit 0'
    )


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
    '{"systemMessage":"plandock\'s launcher is gone: this plan was not handed off. '
    'Run plandock init, or plandock uninit to take its hooks out of the settings."}'
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
        Hook("SessionStart", "startup|resume", "started", _where_a_mod_may_be(d)),
        Hook("Stop", None, "stopped", _where_a_plan_was_accepted(d)),
    )  # fmt: skip


# As they stand in shared settings.  A command ends in a marker comment by which it is known again.
HOOKS: tuple[Hook, ...] = hooks()

# The payload begins with the session's id (shared facts, section 1); where it does not, Python
# looks.  `dd` reads once and no further than it says, unlike `head -c` on busybox and macOS, and
# the dot keeps newlines at the end of the piece.
_LAUNCHER = """\
#!/bin/sh
# plandock's hook for Claude Code; written by `plandock init`.
python={python}
entry={entry}
marks=${{0%/*}}
if [ ! -x "$python" ] || [ ! -r "$entry" ]; then
    [ "${{1-}}" != accepted ] ||
        printf '%s\\n' '{{"systemMessage":"plandock is not installed any more: this plan was not \
handed off. Install it again and run plandock init, or take its hooks out of the settings."}}'
    exit 0
fi
[ "${{1-}}" = guard ] || exec "$python" -I -S "$entry" "$1" {frozen}
head=$({dd} bs=256 count=1 2>/dev/null; printf .)
head=${{head%.}}
rest=${{head#'{{"session_id":"'}}
id=${{rest%%'"'*}}
if [ "x$rest" != "x$head" ] && [ "x$id" != "x$rest" ]; then
    case $id in
    '' | *[!0-9A-Za-z-]*) ;;
    *) [ -e "$marks/latch/$id" ] || exit 0 ;;
    esac
fi
{{ printf %s "$head"; {cat}; }} | "$python" -I -S "$entry" guard {frozen}
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
        python=shlex.quote(python),
        entry=shlex.quote(str(entry)),
        frozen=" ".join(shlex.quote(f"{name}={value}") for name, value in _frozen().items()),
        dd=shlex.quote(_program("dd")),
        cat=shlex.quote(_program("cat")),
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
