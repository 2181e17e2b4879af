"""A run's record in its own folder, ``runs/<id>/run.json``: the store is rebuilt from it.

Standard library only: the hook imports this.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator

from plandock.runs.model import Run

NAME = "run.json"
# An id becomes part of a path, and of names in an engine.
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_LARGEST = 16 << 20
# How one that is none, or half of one, shows itself.
UNREADABLE = (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError)


def is_run_id(text: object) -> bool:
    """Whether this could be the id of a run."""
    return isinstance(text, str) and _ID.fullmatch(text) is not None


def write(runs: str, run: Run, *, synced: bool) -> None:
    """Write a run's record below ``runs``, whole or not at all.

    Where it cannot be written (no folder, no room), the one from before stays: the store is the
    truth, and a run must not fail for want of a second copy.
    """
    folder = os.path.join(runs, run.id)
    temporary = os.path.join(folder, f".{NAME}.new")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            json.dump(run.to_record(), file)
            file.flush()
            if synced:
                os.fsync(handle)
        os.replace(temporary, os.path.join(folder, NAME))
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def forget(runs: str, run_id: str) -> None:
    """Remove a run's record, so that nobody takes it in again."""
    if is_run_id(run_id):
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(runs, run_id, NAME))


def records(runs: str) -> Iterator[Run]:
    """The runs that have a readable record below ``runs``, in the order of their ids."""
    try:
        names = sorted(os.listdir(runs))
    except OSError:
        return
    for name in names:
        if (run := read(runs, name)) is not None:
            yield run


def read(runs: str, name: str) -> Run | None:
    """The run whose folder below ``runs`` has this name; None without a readable record."""
    if not is_run_id(name):
        return None
    try:
        with open(os.path.join(runs, name, NAME), "rb") as file:
            run = Run.from_record(json.loads(file.read(_LARGEST)))
    except UNREADABLE:
        return None
    return run if run.id == name else None
