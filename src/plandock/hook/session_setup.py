"""What a session was set to (model, effort, thinking), as far as only a hook can see it.

SessionStart names the model that carries a plan out, by its full id and with ``[1m]``; with
``opusplan`` and haiku that is not the model that plans (measured, 2.1.197 and 2.1.332).  It does so
at the start of a process alone: for a resumed or cleared session there is what the process was
asked for.  Nothing is judged here: :mod:`plandock.claude.chosen_model` does that, with the
conversation before it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plandock import paths
from plandock.errors import SettingsError
from plandock.hook.payload import Event
from plandock.runs import alive, marks
from plandock.settings import project
from plandock.settings.files import read_bounded

# The user's own variables that go along: names of models, and numbers.
VARIABLES = (
    "ANTHROPIC_DEFAULT_OPUS_MODEL", "ANTHROPIC_DEFAULT_SONNET_MODEL",
    "ANTHROPIC_DEFAULT_HAIKU_MODEL", "ANTHROPIC_DEFAULT_FABLE_MODEL",
    "ANTHROPIC_SMALL_FAST_MODEL", "CLAUDE_CODE_SUBAGENT_MODEL", "CLAUDE_CODE_DISABLE_1M_CONTEXT",
    "MAX_THINKING_TOKENS", "CLAUDE_CODE_DISABLE_THINKING", "DISABLE_INTERLEAVED_THINKING",
    "CLAUDE_CODE_DISABLE_ADAPTIVE_THINKING", "CLAUDE_CODE_MAX_OUTPUT_TOKENS",
)  # fmt: skip
_VALUE = re.compile(r"[A-Za-z0-9][\w.:\[\]@/-]{0,99}", re.ASCII)
_LARGEST = 8 << 20
_LONGEST_COMMAND = 256 << 10
_LIFE_S = 60 * 24 * 3600.0


def at_start(event: Event, pid: int) -> None:
    """Keep what a process of Claude Code began with; a later one of that number replaces it."""
    data = _asked(event.cwd, pid, os.environ)
    data |= {"session": event.session_id, "model": _plain(event.model), "at": time.time()}
    _forget_old()
    marks.put(paths.started_dir(), str(pid), {**data, "process": alive.started(pid)})


def at_acceptance(event: Event, latch: Mapping[str, Any], pid: int) -> dict[str, Any]:
    """What is known of the session in which a plan is being accepted.

    After a clearing ``latch`` holds what is known of the session before it.
    """
    kept = latch.get("pid")
    pid = kept if isinstance(kept, int) else pid
    start = marks.get(paths.started_dir(), str(pid)) or {}
    if not start.get("process") or start["process"] != alive.started(pid):
        start = {}
    transcript = latch.get("transcript") or event.transcript
    return _seen(start, event.cwd, pid) | {"effort": event.effort, "transcript": transcript}


def by_hand(session: str, transcript: str, cwd: str) -> dict[str, Any]:
    """What is known of a session whose plan is handed off by a command.

    For a plan without a session ("") that is what the user's own settings say.
    """
    marked = marks.each(paths.started_dir()) if session else []
    start = max(
        (m for m in marked if m.get("session") == session),
        key=lambda m: float(m.get("at") or 0),
        default={},
    )
    return _seen(start, cwd if session else "", 0) | {"effort": "", "transcript": transcript}


def _forget_old() -> None:
    """Remove marks of processes that began long ago: their numbers would pile up."""
    with contextlib.suppress(OSError), os.scandir(paths.started_dir()) as entries:
        for entry in entries:
            if entry.stat().st_mtime < time.time() - _LIFE_S:
                os.unlink(entry)


def _seen(start: Mapping[str, Any], cwd: str, pid: int) -> dict[str, Any]:
    # Less what a repository's settings lay over them: those are not the user's.
    held = project.read(project.folders_of(cwd, os.environ))
    theirs = held.names(os.environ)
    environ = {n: v for n, v in os.environ.items() if n not in theirs}
    now = _asked(cwd, pid, environ)
    return {
        "started": _plain(start.get("model")),
        "at": start.get("at") or 0.0,
        "repository": "ANTHROPIC_MODEL" in theirs or any("model" in x for _, x in held.parsed),
        "asked": _plain((start or now).get("asked")),
        "saved_then": _plain((start or now).get("saved")),
        "saved": now["saved"],
        "saved_effort": now["saved_effort"],
        "thinking": now["thinking"],
        "fast": now["fast"],
        "variables": {n: environ[n] for n in VARIABLES if _plain(environ.get(n))},
    }


def _asked(cwd: str, pid: int, environ: Mapping[str, str]) -> dict[str, Any]:
    """The model that a process was asked for, by the most specific of the ways there are."""
    held = _settings(cwd)
    found = [_of_command_line(pid), environ.get("ANTHROPIC_MODEL"), held.get("model")]
    effort = held.get("effortLevel")
    return {
        "asked": next((x for x in map(_plain, found) if x), ""),
        "saved": _plain(held.get("model")),
        "saved_effort": _plain(effort),
        "thinking": held.get("alwaysThinkingEnabled") is not False,
        "fast": held.get("fastMode") is True,
    }


def _settings(cwd: str) -> dict[str, Any]:
    """What bears on the model in the settings files: local, the project's, the user's own."""
    files = [held for _, held in reversed(project.read(project.folders_of(cwd, {})).parsed)]
    try:
        raw = read_bounded(paths.claude_config_dir() / "settings.json", most=_LARGEST, follow=True)
        files.append(json.loads(raw or b"{}"))
    except (SettingsError, ValueError, RecursionError):
        pass
    merged: dict[str, Any] = {}
    for held in files:
        if isinstance(held, dict):
            merged = {**held, **merged}
    return merged


def _of_command_line(pid: int) -> str:
    """What ``--model`` names in the command line of a process, where the system tells that."""
    try:
        with open(Path("/proc", str(pid), "cmdline"), "rb") as file:
            words = file.read(_LONGEST_COMMAND).decode("utf-8", "replace").split("\0")
    except OSError:
        return ""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word == "--":
            break
        if word == "--model":
            return following
        if word.startswith("--model="):
            return word.partition("=")[2]
    return ""


def _plain(value: object) -> str:
    """A name that can stand in a command line, or ""."""
    return value if isinstance(value, str) and _VALUE.fullmatch(value) else ""
