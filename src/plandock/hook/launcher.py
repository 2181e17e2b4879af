"""The shell in front of Python: the commands that Claude Code runs, and the launcher they call.

The commands are the same on every machine, because a project's settings are committed and
shared.  What differs (which Python, where plandock lies) stands in the launcher, a small shell
program in the state folder.  Plain POSIX ``sh`` throughout (dash, busybox), and no text of a
payload is ever expanded or evaluated.
"""

from __future__ import annotations

import os
import shlex
import tempfile
from dataclasses import dataclass
from pathlib import Path

from plandock import paths

# How long Claude Code waits for one of our hooks, in seconds; past it the call goes ahead.
TIMEOUT_S = 60

# What the state folder is: as in `plandock.paths`, a relative XDG_STATE_HOME does not count.
_STATE = (
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


def _when_marked(word: str, *folders: str) -> str:
    """A command that calls the launcher only when a mark stands; builtins alone until then."""
    files = " ".join(f'"$d"/{folder}/*' for folder in folders)
    # `exec`, so that Python's parent is Claude Code itself: the hook tells sessions apart by it.
    return (
        f'{_STATE}; for f in {files}; do [ -e "$f" ] && [ -f "$d/hook" ] '
        f'&& exec sh "$d/hook" {word}; done; exit 0'
    )


def _always(word: str) -> str:
    """A command that calls the launcher, else `plandock` where it is installed, else nothing."""
    return (
        f'{_STATE}; [ -f "$d/hook" ] && exec sh "$d/hook" {word}; '
        "command -v plandock >/dev/null 2>&1 && exec plandock hook; exit 0"
    )


# In this order they are written.  A command ends in a marker comment by which it is known again.
HOOKS: tuple[Hook, ...] = (
    Hook("PreToolUse", "*", "guard", _when_marked("guard", "latch")),
    Hook("PreToolUse", "ExitPlanMode", "proposed", _always("proposed")),
    Hook("PostToolUse", "ExitPlanMode", "accepted", _always("accepted")),
    Hook("UserPromptSubmit", None, "prompt", _when_marked("prompt", "note", "latch", "proposed")),
    Hook("SessionEnd", "clear", "cleared-end", _when_marked("cleared-end", "proposed")),
    Hook("SessionStart", "clear", "cleared-start", _when_marked("cleared-start", "proposed")),
)

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
[ "${{1-}}" = guard ] || exec "$python" -I -S "$entry" "$@"
head=$(dd bs=256 count=1 2>/dev/null; printf .)
head=${{head%.}}
rest=${{head#'{{"session_id":"'}}
id=${{rest%%'"'*}}
if [ "x$rest" != "x$head" ] && [ "x$id" != "x$rest" ]; then
    case $id in
    '' | *[!0-9A-Za-z-]*) ;;
    *) [ -e "$marks/latch/$id" ] || exit 0 ;;
    esac
fi
{{ printf %s "$head"; cat; }} | "$python" -I -S "$entry" guard
"""


def write_launcher(python: str, entry: Path) -> Path:
    """Write the launcher (0700) for this interpreter and ``hook/entry.py``; returns its path.

    Replaces an older one in one step.  Raises :class:`OSError` when the state folder cannot be
    written.
    """
    target = paths.hook_launcher()
    paths.make_private(target.parent)
    text = _LAUNCHER.format(python=shlex.quote(python), entry=shlex.quote(str(entry)))
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


def remove_launcher() -> bool:
    """Take the launcher away; whether there was one."""
    try:
        paths.hook_launcher().unlink()
    except FileNotFoundError:
        return False
    return True
