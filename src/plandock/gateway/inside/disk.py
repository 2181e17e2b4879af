"""Says when the disk below the shared volume runs full; the host acts on it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable

from report import Report

EVERY_S = 5.0
SAID_EVERY_S = 60.0
_LEAST_BYTES = 1 << 30


class Disk:
    """Looks at one file system, and says that it is nearly full: once a minute, and at once when
    half of what was left is gone, for an agent may fill the rest within seconds."""

    def __init__(
        self,
        folder: str,
        report: Report,
        clock: Callable[[], float] = time.monotonic,
        statvfs: Callable[[str], os.statvfs_result] = os.statvfs,
    ) -> None:
        self._folder = folder
        self._report = report
        self._clock = clock
        self._statvfs = statvfs
        self._said = float("-inf")
        self._said_free = 0

    def look(self) -> None:
        """Look once."""
        try:
            found = self._statvfs(self._folder)
        except OSError:
            return
        free = found.f_bavail * found.f_frsize
        low = free < min(_LEAST_BYTES, found.f_blocks * found.f_frsize // 50)
        # Some file systems count no inodes.
        low = low or (found.f_files > 0 and found.f_favail * 100 < found.f_files)
        sinks = free <= self._said_free // 2 and free < self._said_free
        if low and (sinks or self._clock() - self._said >= SAID_EVERY_S):
            self._said, self._said_free = self._clock(), free
            self._report.say("disk", free_bytes=free, free_inodes=found.f_favail)

    async def watch(self) -> None:
        """Look every five seconds, for ever."""
        while True:
            self.look()
            await asyncio.sleep(EVERY_S)
