"""The lock on a run's folder: whoever holds it drives the run, and nobody else does."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator

from plandock import paths

_POLL_S = 0.05


def take(run_id: str, patience_s: float = 0.0) -> int | None:
    """The lock, held until its descriptor is closed; None where another keeps it that long.

    Raises :class:`OSError` where the run has no folder.
    """
    handle = os.open(paths.run_dir(run_id) / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    end = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return handle
        except BlockingIOError:
            if time.monotonic() >= end:
                os.close(handle)
                return None
            time.sleep(_POLL_S)


@contextlib.contextmanager
def alone(run_id: str, patience_s: float = 0.0) -> Iterator[bool]:
    """Whether nobody drives the run; nobody can, until the end of the block."""
    try:
        handle = take(run_id, patience_s)
    except OSError:
        yield True  # without a folder there is no supervisor
        return
    try:
        yield handle is not None
    finally:
        if handle is not None:
            os.close(handle)
