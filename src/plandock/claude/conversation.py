"""The conversation's file: waiting for the approval record, copying it out, bringing one home.

Layout and behaviour: shared facts, section 3 (measured).
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plandock import paths

_UNWRITTEN_S = 2.0
LARGEST = 512 * 1024 * 1024
_SESSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{7,127}\Z")


@dataclass(frozen=True)
class BoxFile:
    """A file for the box's conversation volume: its path there and its bytes."""

    path: str
    content: bytes


@dataclass(frozen=True)
class Conversation:
    """A conversation ready to be forked."""

    files: tuple[BoxFile, ...]


def is_session_id(text: str) -> bool:
    """Whether a text may stand for a session in a file name or a command line."""
    return bool(_SESSION.match(text))


def wait_for_approval(transcript: Path, *, timeout_s: float = 10.0) -> bool:
    """Wait until the ExitPlanMode call at the transcript's end is answered; whether it was.

    The CLI writes that record only after the hook has returned (measured), so whoever copies
    earlier copies an unanswered tool call.
    """
    start = time.monotonic()
    while True:
        asked: object = None
        answered: set[object] = set()
        for record in read_records(transcript):
            for block in _blocks(record):
                if block.get("type") == "tool_use" and block.get("name") == "ExitPlanMode":
                    asked = block.get("id")
                elif block.get("type") == "tool_result":
                    answered.add(str(block.get("tool_use_id")))
        if asked is not None and str(asked) in answered:
            return True
        # Some conversations are written only at their end, or not at all (read): not waited for.
        patience_s = timeout_s if transcript.exists() else min(timeout_s, _UNWRITTEN_S)
        if time.monotonic() - start > patience_s:
            return False
        time.sleep(0.02)


def read_records(transcript: Path) -> Iterator[dict[str, Any]]:
    """The transcript's records; a torn last line and anything that is no object is passed over."""
    try:
        with open(transcript, "rb") as file:
            for raw in file:
                if not raw.endswith(b"\n"):
                    return
                try:
                    record = json.loads(raw)
                except (ValueError, RecursionError):
                    continue
                if isinstance(record, dict):
                    yield record
    except OSError:
        return


def _blocks(record: dict[str, Any]) -> list[dict[str, Any]]:
    message = record.get("message")
    content = message.get("content") if isinstance(message, dict) else None
    return [b for b in content if isinstance(b, dict)] if isinstance(content, list) else []


def collect(transcript: Path, *, cwd: str) -> Conversation | None:
    """The conversation's file and its subagents', as they are to lie in the box; None without.

    A torn last line is left off.  The key is that of ``cwd``: the same absolute path in the box.
    """
    if not is_session_id(transcript.stem) or not transcript.is_file():
        return None
    if transcript.stat().st_size > LARGEST:
        return None
    folder = f"projects/{paths.project_key(cwd)}"
    files = [BoxFile(f"{folder}/{transcript.name}", _whole_lines(transcript))]
    if not files[0].content:
        return None
    beside = transcript.with_suffix("") / "subagents"
    for extra in sorted(beside.glob("*.jsonl"))[:200] if beside.is_dir() else []:
        if extra.is_file() and not extra.is_symlink():
            place = f"{folder}/{transcript.stem}/subagents/{extra.name}"
            files.append(BoxFile(place, _whole_lines(extra)))
    return Conversation(tuple(files))


def _whole_lines(path: Path) -> bytes:
    data = path.read_bytes()
    return data[: data.rfind(b"\n") + 1]


def bring_home(content: bytes, *, session_id: str, cwd: str, config_dir: Path) -> Path | None:
    """Lay the box's conversation beside the user's own, so that `claude --resume` opens it.

    Only whole lines that are JSON objects of that very session are taken, and a file that is
    there already is never touched.  Returns where it lies, or None when nothing was usable.
    """
    if not is_session_id(session_id) or len(content) > LARGEST:
        return None
    kept = []
    for raw in content.splitlines(keepends=True):
        try:
            record = json.loads(raw)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and record.get("sessionId", session_id) == session_id:
            kept.append(raw if raw.endswith(b"\n") else raw + b"\n")
    if not kept:
        return None
    folder = config_dir / "projects" / paths.project_key(cwd)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    target = folder / f"{session_id}.jsonl"
    temporary = folder / f".{session_id}.plandock"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines(kept)
        os.link(temporary, target)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
    return target
