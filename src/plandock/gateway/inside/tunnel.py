"""Carrying bytes between two connected sockets, counted, and ended when nothing moves.

A side is read only when the other has taken what came before, so nothing piles up here.  A side
that has said its last word is passed on as such, and goes on being answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time

IDLE_S = 900.0
_PIECE = 64 * 1024


class Tunnel:
    """One pair of sockets; ``bytes_out`` went from the box outward, ``bytes_in`` came back."""

    def __init__(
        self, client: socket.socket, outward: socket.socket, idle_s: float = IDLE_S
    ) -> None:
        self.bytes_out = 0
        self.bytes_in = 0
        self._client = client
        self._outward = outward
        self._idle_s = idle_s
        self._moved = time.monotonic()

    async def carry(self) -> str:
        """Carry both ways until both have ended; why it ended.  The sockets stay open."""
        ways = {
            asyncio.ensure_future(self._way(self._client, self._outward, outward=True)),
            asyncio.ensure_future(self._way(self._outward, self._client, outward=False)),
        }
        try:
            while True:
                left = self._moved + self._idle_s - time.monotonic()
                if left <= 0:
                    return "idle"
                done, waiting = await asyncio.wait(
                    ways, timeout=left, return_when=asyncio.FIRST_EXCEPTION
                )
                if any(way.exception() is not None for way in done):
                    return "broken"
                if not waiting:
                    return "ended"
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _way(self, source: socket.socket, target: socket.socket, *, outward: bool) -> None:
        loop = asyncio.get_running_loop()
        while True:
            data = await loop.sock_recv(source, _PIECE)
            if not data:
                break
            self._moved = time.monotonic()
            await loop.sock_sendall(target, data)
            self._moved = time.monotonic()
            if outward:
                self.bytes_out += len(data)
            else:
                self.bytes_in += len(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)
