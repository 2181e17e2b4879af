"""Marks on disk: what one hook call leaves for the next, one small JSON file per session.

Three kinds, each in a folder of its own so that the shell test in front can tell by a file's mere
existence whether Python is needed: ``latch`` (look at this session's tool calls), ``proposed``
(a plan is being looked at), ``note`` (the next prompt is to carry a word for the model).
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

from plandock import paths

# A proposal that nobody decided within this time is forgotten (seconds).
PROPOSAL_LIFE_S = 7 * 24 * 3600.0


def put(folder: Path, name: str, data: dict[str, Any]) -> None:
    """Write a mark durably: it is on the disk when this returns.  Raises :class:`OSError`."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = folder / f".{name}.{os.getpid()}"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(handle, json.dumps(data).encode())
        os.fsync(handle)
    finally:
        os.close(handle)
    os.replace(temporary, folder / name)
    entry = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(entry)
    finally:
        os.close(entry)


def get(folder: Path, name: str) -> dict[str, Any] | None:
    """The mark of that name, or None.  A mark that cannot be read counts as an empty one."""
    try:
        data = json.loads((folder / name).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def take_away(folder: Path, name: str) -> None:
    """Remove a mark; one that is not there is fine."""
    with contextlib.suppress(FileNotFoundError):
        (folder / name).unlink()


def proposals() -> list[dict[str, Any]]:
    """Every proposal that is still undecided, newest first."""
    found = []
    folder = paths.proposal_dir()
    with contextlib.suppress(FileNotFoundError):
        for entry in os.scandir(folder):
            if entry.name.startswith("."):
                continue
            if entry.stat().st_mtime < time.time() - PROPOSAL_LIFE_S:
                take_away(folder, entry.name)
                continue
            data = get(folder, entry.name)
            if data:
                found.append(data)
    return sorted(found, key=lambda d: str(d.get("at", "")), reverse=True)
