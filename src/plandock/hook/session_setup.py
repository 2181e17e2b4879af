"""What a session was set to (model, effort, thinking), as far as only a hook can see it.

SessionStart names the model that carries a plan out, by its full id and with ``[1m]``; with
``opusplan`` and haiku that is not the model that plans (measured, 2.1.197 and 2.1.332).  It does so
at the start of a process alone: for a resumed or cleared session there is what the process was
asked for.  Nothing is judged here: :mod:`plandock.claude.chosen_model` does that, with the
conversation before it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from plandock import paths
from plandock.hook.payload import Event
from plandock.hook.transcript import written_by
from plandock.runs import alive, marks
from plandock.runs.session_variables import SESSION_VARIABLES
from plandock.settings import project
from plandock.settings.claude_project import files_read

_VALUE = re.compile(r"[A-Za-z0-9][\w.:\[\]@/,-]{0,199}", re.ASCII)
_TIERS = ("local", "project", "user")
# Settings that say how the model is to write; each is judged before it counts in a box.
_WORDS = ("outputStyle", "language", "attribution", "includeCoAuthoredBy")
_LONGEST_WORDS = 4096
# Options by which a session works in other words, or as another agent.
_STAY = (
    "--agent", "--system-prompt", "--system-prompt-file", "--append-system-prompt",
    "--append-system-prompt-file",
)  # fmt: skip
_NEWEST = "9999.0.0"
_LONGEST_COMMAND = 256 << 10
_LIFE_S = 60 * 24 * 3600.0


def at_start(event: Event, pid: int) -> None:
    """Keep what a process of Claude Code began with; a later one of that number replaces it."""
    # A file that another version reads too is kept as well: this one is not always known yet.
    files = _read(event.started or event.cwd, _NEWEST)
    data: dict[str, Any] = {
        "asked": _asked(pid, os.environ),
        "models": {str(f.path): _plain(f.held.get("model")) for f in files},
        "session": event.session_id,
        "model": _plain(event.model),
        "at": time.time(),
    }
    _forget_old()
    marks.put(paths.started_dir(), str(pid), {**data, "process": alive.started(pid)})


def at_acceptance(
    event: Event, latch: Mapping[str, Any], pid: int, *, folder: str
) -> dict[str, Any]:
    """What is known of the session in which a plan is being accepted.

    ``folder`` is the conversation's.  After a clearing ``latch`` holds what is known of the session
    before it.
    """
    kept = latch.get("pid")
    pid = kept if isinstance(kept, int) else pid
    start = marks.get(paths.started_dir(), str(pid)) or {}
    if not start.get("process") or start["process"] != alive.started(pid):
        start = {}
    transcript = str(latch.get("transcript") or event.transcript)
    version = written_by(event.transcript) or written_by(transcript)
    found = _seen(start, folder, pid, version)
    return found | {"effort": event.effort, "transcript": transcript}


def by_hand(session: str, transcript: str, folder: str) -> dict[str, Any]:
    """What is known of a session whose plan is handed off by a command.

    For a plan without a session ("") that is what the user's own settings say.
    """
    marked = marks.each(paths.started_dir()) if session else []
    start = max(
        (m for m in marked if m.get("session") == session),
        key=lambda m: float(m.get("at") or 0),
        default={},
    )
    version = written_by(transcript) if session else ""
    found = _seen(start, folder if session else "", 0, version)
    words = _words(_merged(_read(folder, version)))
    return found | {"effort": "", "transcript": transcript, "words": words}


def _forget_old() -> None:
    """Remove marks of processes that began long ago: their numbers would pile up."""
    with contextlib.suppress(OSError), os.scandir(paths.started_dir()) as entries:
        for entry in entries:
            if entry.stat().st_mtime < time.time() - _LIFE_S:
                os.unlink(entry)


def _seen(start: Mapping[str, Any], folder: str, pid: int, version: str) -> dict[str, Any]:
    # Less what a repository's settings may have laid over them: those are not the user's.
    theirs = project.read(project.folders_of(folder, os.environ)).names(os.environ)
    environ = {n: v for n, v in os.environ.items() if n not in theirs}
    files = _read(folder, version)
    repositorys = project.read_files([f.path for f in files if f.tier != "user"])
    now = [_plain(f.held.get("model")) for f in files]
    kept = start.get("models")
    models = kept if isinstance(kept, dict) else {}
    then = [_plain(models.get(str(f.path), m)) for f, m in zip(files, now, strict=True)]
    saved, saved_then = next(filter(None, now), ""), next(filter(None, then), "")
    merged = _merged(files)
    return {
        "started": _plain(start.get("model")),
        "began_as": str(start.get("session") or ""),
        "at": start.get("at") or 0.0,
        "repository": "ANTHROPIC_MODEL" in repositorys.names(os.environ)
        or any("model" in held for _, held in repositorys.parsed),
        "asked": (_plain(start.get("asked")) if start else _asked(pid, environ)) or saved_then,
        "saved_then": saved_then,
        "saved": saved,
        "saved_effort": _plain(merged.get("effortLevel")),
        "thinking": merged.get("alwaysThinkingEnabled") is not False,
        "fast": merged.get("fastMode") is True,
        "words": _words(merged),
        "left_out": _left_out(pid, merged),
        "variables": {n: environ[n] for n in SESSION_VARIABLES if _plain(environ.get(n))},
    }


def _asked(pid: int, environ: Mapping[str, str]) -> str:
    """The model that a process was asked for by its command line, else by a variable."""
    return _plain(_of_command_line(pid)) or _plain(environ.get("ANTHROPIC_MODEL"))


class _Read(NamedTuple):
    tier: str
    path: Path
    held: Mapping[str, Any]


def _read(folder: str, version: str) -> list[_Read]:
    """The settings files that Claude Code reads when started there, the most specific first.

    Without a folder those are the user's own.
    """
    config = paths.claude_config_dir()
    named = files_read(folder or config, config_dir=config, version=version)
    found = [f for f in named if folder or f.tier == "user"]
    found.sort(key=lambda f: _TIERS.index(f.tier))
    held = dict(project.read_files([f.path for f in found]).parsed)
    return [_Read(f.tier, f.path, held.get(f.path, {})) for f in found]


def _merged(files: list[_Read]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for file in files:
        merged = {**file.held, **merged}
    return merged


def _words(merged: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: merged[name] for name in _WORDS if name in merged}
    return {n: v for n, v in found.items() if len(repr(v)) <= _LONGEST_WORDS}


def _of_command_line(pid: int) -> str:
    """What ``--model`` names in the command line of a process."""
    for word, following in itertools.pairwise([*_command_line(pid), ""]):
        if word == "--model":
            return following
        if word.startswith("--model="):
            return word.partition("=")[2]
    return ""


def _command_line(pid: int) -> list[str]:
    """The words of a process's command line up to ``--``, where the system tells them."""
    try:
        with open(Path("/proc", str(pid), "cmdline"), "rb") as file:
            words = file.read(_LONGEST_COMMAND).decode("utf-8", "replace").split("\0")
    except OSError:
        return []
    return words[: words.index("--")] if "--" in words else words


def _left_out(pid: int, merged: Mapping[str, Any]) -> list[str]:
    """What else the session was given that bears on how it works, and stays at home."""
    given = {word.partition("=")[0] for word in _command_line(pid)}
    found = [name for name in _STAY if name in given]
    return [*found, *(["agent (of the settings)"] if merged.get("agent") else [])]


def _plain(value: object) -> str:
    """A name that can stand in a command line, or ""."""
    return value if isinstance(value, str) and _VALUE.fullmatch(value) else ""
