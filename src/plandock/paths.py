"""Where plandock keeps things.  Standard library only: the hook imports this.

Layout (shared/design.md, section 4): ``$XDG_STATE_HOME/plandock`` holds the store, the runs'
folders and the hook's marks; ``$XDG_CONFIG_HOME/plandock`` holds the user's own settings.
"""

from __future__ import annotations

import os
import re
from pathlib import Path


def home() -> Path:
    """The user's home folder (``$HOME``, else the password database's)."""
    return Path(os.path.expanduser("~"))


def _base(variable: str, default: str) -> Path:
    value = os.environ.get(variable, "")
    # The XDG specification: a relative value must be ignored.
    return Path(value) if value.startswith("/") else home() / default


def state_dir() -> Path:
    """``$XDG_STATE_HOME/plandock``; not created here."""
    return _base("XDG_STATE_HOME", ".local/state") / "plandock"


def config_dir() -> Path:
    """``$XDG_CONFIG_HOME/plandock``; not created here."""
    return _base("XDG_CONFIG_HOME", ".config") / "plandock"


def cache_dir() -> Path:
    """``$XDG_CACHE_HOME/plandock`` (downloaded CLI packages); not created here."""
    return _base("XDG_CACHE_HOME", ".cache") / "plandock"


def make_private(folder: Path) -> Path:
    """Create ``folder`` (and the state folder above it) readable by its owner alone."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def store_file() -> Path:
    """The SQLite database with every run."""
    return state_dir() / "plandock.db"


def run_dir(run_id: str) -> Path:
    """The folder of one run: plan.md, conversation.jsonl, events.jsonl, supervisor.log …"""
    return state_dir() / "runs" / run_id


def latch_dir() -> Path:
    """One file per session whose tool calls are to be looked at; names are session ids."""
    return state_dir() / "latch"


def proposal_dir() -> Path:
    """One file per session that has a plan proposed and undecided."""
    return state_dir() / "proposed"


def note_dir() -> Path:
    """One file per session whose next prompt is to carry a note for the model."""
    return state_dir() / "note"


def started_dir() -> Path:
    """One file per process of Claude Code, named by its number: what it began with."""
    return state_dir() / "started"


def hook_launcher() -> Path:
    """The small shell program that the wired hook commands call; written by ``init``."""
    return state_dir() / "hook"


def seen_dir() -> Path:
    """One empty file per acceptance that a hook has seen; names are ids of calls and sessions."""
    return state_dir() / "seen"


def missed_dir() -> Path:
    """One file per session with an accepted plan that no hook has seen."""
    return state_dir() / "missed"


def claude_config_dir() -> Path:
    """Claude Code's own folder: ``$CLAUDE_CONFIG_DIR`` or ``~/.claude``.

    Like Claude Code (measured, 2.1.197 and 2.1.332) it takes a relative value, and an empty one,
    from the folder in which it is started, and expands no tilde.
    """
    value = os.environ.get("CLAUDE_CONFIG_DIR")
    return home() / ".claude" if value is None else Path(os.path.abspath(value))


def project_key(directory: str) -> str:
    """The folder name under ``projects/`` that Claude Code uses for a working directory.

    Every character outside ``[A-Za-z0-9]`` becomes ``-``; what is longer than 200 characters is
    cut there and gets a hash of the whole (measured, 2.1.197 and 2.1.332).  JavaScript counts
    UTF-16 units, so a character beyond the basic plane becomes two dashes.
    """
    raw = directory.encode("utf-16-le", "surrogatepass")
    units = [raw[n] | raw[n + 1] << 8 for n in range(0, len(raw), 2)]
    key = re.sub(r"[^A-Za-z0-9]", "-", "".join(map(chr, units)))
    if len(key) <= _LONGEST_KEY:
        return key
    number = 0
    for unit in units:
        number = (number * 31 + unit) & 0xFFFFFFFF
    number = min(number, (1 << 32) - number)  # the absolute value of a signed number
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return f"{key[:_LONGEST_KEY]}-{digits or '0'}"


_LONGEST_KEY = 200
