"""Carries one message from the host to the steward: standard input → tmpfs → FIFO.

Secrets come this way: never on a command line, never in the engine's listing of an environment.
"""

from __future__ import annotations

import errno
import os
import sys
import time
import uuid

ROOM = "/run/plandock"
# A steward that has just been started opens its FIFO in a moment; without one the host must not
# hang.
PATIENCE_S = 10.0
_LOOK_S = 0.02


def tell(room: str, message: bytes, patience_s: float) -> str:
    """Hand a message over; returns what kept it from being heard, "" where nothing did."""
    name = f"{room}/message-{uuid.uuid4().hex}"
    handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(message)
    end = time.monotonic() + patience_s
    while True:
        try:
            fifo = os.open(f"{room}/control", os.O_WRONLY | os.O_NONBLOCK)
            with os.fdopen(fifo, "wb", buffering=0) as control:
                control.write(name.encode() + b"\n")
            return ""
        except OSError as error:
            # ENXIO: the FIFO is there, and nobody reads it yet.
            if error.errno not in (errno.ENOENT, errno.ENXIO) or time.monotonic() > end:
                os.unlink(name)  # it may hold the login, and nobody would take it away
                return f"nobody listens: {error.strerror}"
        time.sleep(_LOOK_S)


if __name__ == "__main__":
    sys.exit(tell(ROOM, sys.stdin.buffer.read(16 * 1024 * 1024), PATIENCE_S) or 0)
