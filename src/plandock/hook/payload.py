"""What Claude Code tells a hook: one JSON object on standard input, hostile until checked."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from typing import Any

LARGEST_PAYLOAD = 64 * 1024 * 1024
LARGEST_PLAN = 1024 * 1024
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Event:
    """One hook event, with every field of the type and form that it must have."""

    name: str
    session_id: str
    tool: str = ""
    tool_use_id: str = ""
    mode: str = ""
    cwd: str = ""
    transcript: str = ""
    prompt_id: str = ""
    prompt: str = ""  # UserPromptSubmit: what was submitted, whoever did it
    plan: str = ""
    plan_is_too_large: bool = False
    plan_file: str = ""
    source: str = ""  # SessionStart: startup, clear, resume …
    reason: str = ""  # SessionEnd: clear, logout …
    model: str = ""  # SessionStart(startup): what it would carry out with
    effort: str = ""  # a tool call's: low, medium …
    is_agent: bool = False
    started: str = ""  # where Claude Code was started, as its variable says it; no field of these


def parse(raw: bytes) -> Event | None:
    """The event of a payload, or None for anything that is not one.

    Never raises: what cannot be understood is none of plandock's business, and must not block an
    unrelated tool call.  Field names: shared facts, section 1 (measured).
    """
    if len(raw) > LARGEST_PAYLOAD:
        return None
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict):
        return None
    session = _text(data, "session_id", 128)
    name = _text(data, "hook_event_name", 64)
    if not name or not _ID.match(session) or ".." in session:
        return None
    answer, question = _object(data, "tool_response"), _object(data, "tool_input")
    return Event(
        name=name,
        session_id=session,
        tool=_text(data, "tool_name", 256),
        tool_use_id=_text(data, "tool_use_id", 256),
        mode=_text(data, "permission_mode", 64),
        cwd=_path(data, "cwd"),
        transcript=_path(data, "transcript_path"),
        prompt_id=_text(data, "prompt_id", 256),
        prompt=_text(data, "prompt", LARGEST_PLAN),
        # Some versions send an empty `tool_input`, so the answer comes first (facts, section 1).
        plan=_plan(answer) or _plan(question),
        plan_is_too_large=_is_too_large(answer) or _is_too_large(question),
        plan_file=_path(answer, "filePath") or _path(question, "planFilePath"),
        source=_text(data, "source", 64),
        reason=_text(data, "reason", 64),
        model=_text(data, "model", 128),
        effort=_text(_object(data, "effort"), "level", 32),
        is_agent=answer.get("isAgent") is True,
    )


def _object(data: dict[str, Any], key: str) -> dict[str, Any]:
    value = data.get(key)
    return value if isinstance(value, dict) else {}


def _text(data: dict[str, Any], key: str, most: int) -> str:
    value = data.get(key)
    return value if isinstance(value, str) and len(value) <= most else ""


def _path(data: dict[str, Any], key: str) -> str:
    return clean_path(data.get(key))


def clean_path(value: object) -> str:
    """An absolute path without control characters that a file can have; "" for anything else."""
    if not isinstance(value, str) or len(value) > 4096:
        return ""
    if not value.startswith("/") or _CONTROL.search(value):
        return ""
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        return ""  # no file can have that name, and every call on it would raise
    return value


def _plan(data: dict[str, Any]) -> str:
    value = data.get("plan")
    return clean_plan(value) if isinstance(value, str) else ""


def _is_too_large(data: dict[str, Any]) -> bool:
    value = data.get("plan")
    return isinstance(value, str) and len(value) > LARGEST_PLAN


def clean_plan(text: str) -> str:
    """A plan as it can be written to a file; empty where it is too large or says nothing."""
    if len(text) > LARGEST_PLAN or not text.strip():
        return ""
    # A lone surrogate could not be written.
    return text.encode("utf-8", "replace").decode("utf-8")
