"""Marks on disk: what one hook call leaves for the next, one small JSON file per session.

Three kinds, each in a folder of its own so that the shell test in front can tell by a file's mere
existence whether Python is needed: ``latch`` (look at this session's tool calls), ``proposed``
(a plan is being looked at), ``note`` (the next prompt is to carry a word for the model: of a
hand-off, and of the runs in ``outcomes`` that have ended).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from plandock import paths

# A proposal that nobody decided within this time is forgotten (seconds).
PROPOSAL_LIFE_S = 7 * 24 * 3600.0
_PATIENCE_S = 1.0


def put(folder: Path, name: str, data: dict[str, Any]) -> None:
    """Write a mark durably: it is on the disk when this returns.  Raises :class:`OSError`."""
    paths.make_private(folder.parent)
    paths.make_private(folder)
    temporary = folder / f".{name}.{os.getpid()}"
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(json.dumps(data).encode())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, folder / name)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    entry = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(entry)
    finally:
        os.close(entry)


def get(folder: Path, name: str) -> dict[str, Any] | None:
    """The mark of that name, or None.  A mark that cannot be read counts as an empty one."""
    try:
        data = json.loads((folder / name).read_bytes())
    except (OSError, ValueError, RecursionError):
        # Where even the folder cannot be looked into, nothing is known to stand: a broken state
        # folder must not refuse every tool call.
        return {} if os.path.lexists(folder / name) else None
    return data if isinstance(data, dict) else {}


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Read a mark and write it anew without another's change in between.

    For a hook waits behind this: after a second, or without a lock, it goes on all the same.
    """
    handle = -1
    with contextlib.suppress(OSError):
        paths.make_private(folder.parent)
        handle = os.open(f"{folder}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        end = time.monotonic() + _PATIENCE_S
        while time.monotonic() < end:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(0.005)
    try:
        yield
    finally:
        if handle >= 0:
            os.close(handle)


def take(folder: Path, name: str) -> dict[str, Any] | None:
    """The mark of that name, which is gone then; None where another took it, or none stands."""
    mine = folder / f".{name}.{os.getpid()}.taken"
    try:
        os.rename(folder / name, mine)
    except OSError:
        return None
    data = get(folder, mine.name)
    with contextlib.suppress(OSError):
        mine.unlink()
    return data


def take_away(folder: Path, name: str) -> None:
    """Remove a mark; one that is not there is fine."""
    with contextlib.suppress(FileNotFoundError):
        (folder / name).unlink()


def each(folder: Path) -> list[dict[str, Any]]:
    """Every mark that stands in a folder and can be read."""
    try:
        names = [x for x in os.listdir(folder) if not x.startswith(".")]
    except OSError:
        return []
    return [data for name in names if (data := get(folder, name))]


def proposals() -> list[dict[str, Any]]:
    """Every proposal that is still undecided, newest first."""
    found = []
    folder = paths.proposal_dir()
    try:
        names = [x for x in os.listdir(folder) if not x.startswith(".")]
    except OSError:
        return []
    for name in names:
        with contextlib.suppress(OSError):  # taken away meanwhile
            if (folder / name).stat().st_mtime < time.time() - PROPOSAL_LIFE_S:
                take_away(folder, name)
            elif data := get(folder, name):
                found.append(data)
    return sorted(found, key=lambda d: str(d.get("at", "")), reverse=True)
