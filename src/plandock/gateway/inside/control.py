"""The token of a sealed run: told through a socket that only the gateway's container has.

It is in no file, no environment and no command line, and this process cannot be dumped.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import re
import resource
import sys

from report import Report

PLACE = "/run/plandock/control"
WAIT_S = 60.0
_PR_SET_DUMPABLE = 4  # linux/prctl.h
_LONGEST = 64 * 1024
_TOKEN = re.compile(r"[!-~]{8,16384}", re.ASCII)


def forbid_dumps() -> None:
    """No core file of this process, and no other process of this user may read its memory."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_DUMPABLE)")


class Token:
    """The token of now; there is none at first, and every telling replaces it."""

    def __init__(self, report: Report) -> None:
        self._value = ""
        self._there = asyncio.Event()
        self._report = report

    def __repr__(self) -> str:
        """Nothing of it, wherever it is printed."""
        return "Token(…)"

    async def get(self, patience_s: float = WAIT_S) -> str:
        """The token, waited for; raises :class:`asyncio.TimeoutError`."""
        await asyncio.wait_for(self._there.wait(), patience_s)
        return self._value

    async def listen(self, place: str = PLACE) -> asyncio.AbstractServer:
        """Take tokens at this Unix socket, until the server that is returned is closed."""
        return await asyncio.start_unix_server(self._told, place, backlog=4)

    async def _told(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            data = await asyncio.wait_for(reader.read(_LONGEST), 5.0)
            while len(data) < _LONGEST and (more := await asyncio.wait_for(reader.read(4096), 5.0)):
                data += more
            good = self._take(data)
            writer.write(b"ok\n" if good else b"not understood\n")
            await writer.drain()
            self._report.say("token", why="renewed" if good else "not understood")
        except (OSError, asyncio.TimeoutError):  # noqa: UP041 - older Pythons in images
            self._report.say("token", why="not told to the end")
        finally:
            writer.close()

    def _take(self, data: bytes) -> bool:
        try:
            wish = json.loads(data)
        except (ValueError, RecursionError):
            return False
        value = wish.get("token") if isinstance(wish, dict) else None
        if not isinstance(value, str) or not _TOKEN.fullmatch(value):
            return False
        self._value = value
        self._there.set()
        return True
