"""The CLI's output, line by line, and whether all of it has been looked at.

The CLI says who paid before it asks again, so what it sends waits until what it has said is read:
on a busy machine the reader would come too late otherwise (measured).
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import termios
import threading
import time
from collections.abc import Iterator

_PIECE = 64 * 1024
_LOOK_S = 0.002
# A line that is never ended holds nothing up for longer.
PATIENCE_S = 5.0


class Output:
    """Of one process; ``place``: the pipe's descriptor, which is open until :meth:`lines` ends."""

    def __init__(self, place: int) -> None:
        self._place = place
        self._looking = threading.Lock()
        self._rest = b""
        self._ended = False

    def lines(self) -> Iterator[bytes]:
        """Each line, up to the end; whoever takes it has looked at it when they ask for more."""
        readable = select.poll()
        readable.register(self._place, select.POLLIN)
        try:
            while True:
                readable.poll()
                with self._looking:
                    data = os.read(self._place, _PIECE)
                    if not data:
                        break
                    *whole, self._rest = (self._rest + data).split(b"\n")
                    for line in whole:
                        yield line + b"\n"
            if self._rest:
                yield self._rest + b"\n"
        finally:
            self._ended = True

    def settle(self) -> None:
        """Wait until all that has been said is looked at."""
        end = time.monotonic() + PATIENCE_S
        while not self._ended and time.monotonic() < end:
            with self._looking:
                if not (self._rest or self._waiting()):
                    return
            time.sleep(_LOOK_S)

    def _waiting(self) -> bool:
        count: int = struct.unpack("i", fcntl.ioctl(self._place, termios.FIONREAD, b"\0" * 4))[0]
        return count > 0
