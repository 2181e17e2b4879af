"""Carries one message from the host to the steward: standard input → tmpfs → FIFO.

Secrets come this way: never on a command line, never in the engine's listing of an environment.
"""

from __future__ import annotations

import os
import sys
import uuid

ROOM = "/run/plandock"

if __name__ == "__main__":
    name = f"{ROOM}/message-{uuid.uuid4().hex}"
    handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(sys.stdin.buffer.read(16 * 1024 * 1024))
    # Non-blocking: without a steward there is nobody to tell, and waiting would hang the host.
    try:
        fifo = os.open(f"{ROOM}/control", os.O_WRONLY | os.O_NONBLOCK)
        os.write(fifo, name.encode() + b"\n")
    except OSError as error:
        os.unlink(name)  # it may hold the login, and nobody would take it away
        sys.exit(f"nobody listens: {error.strerror}")
