"""Answering CONNECT on the box's socket, and carrying the raw route of a stand-in."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import time

import dial
import head
from allowlist import Allowlist
from head import Refused
from report import Report
from tunnel import Tunnel

HEADER_TIME_S = 10.0
# How long a refused client is listened to: closing on unread data would cost it the answer.
LINGER_S = 1.0
_LINGER_BYTES = 256 * 1024


class Proxy:
    """Answers one client after the other; ``closed_hosts`` are refused whatever is allowed."""

    def __init__(self, allow: Allowlist, closed_hosts: frozenset[str], report: Report) -> None:
        self._allow = allow
        self._closed = closed_hosts
        self._report = report

    async def answer(self, client: socket.socket) -> None:
        """Serve one client of the proxy's socket to its end."""
        raw = bytearray()
        name = ""
        try:
            try:
                await asyncio.wait_for(_read(client, raw), HEADER_TIME_S)
            except asyncio.TimeoutError:  # noqa: UP041 - older Pythons in images
                raise Refused(408, "the head took too long") from None
            name = head.target_of(head.parse(bytes(raw)), self._allow)
            if name in self._closed:
                raise Refused(403, "sealed: the API is reached through its own route alone")
            outward, address = await dial.reach(name, 443, self._allow.pinned(name))
            with outward:
                if _waiting(client):
                    raise Refused(400, "data before the answer")
                await self._join(client, outward, f"{name}:443", address)
        except Refused as error:
            self._report.say("refused", target=name or _asked(raw), why=str(error))
            await refuse(client, error)
        except (OSError, asyncio.TimeoutError) as error:  # noqa: UP041 - older Pythons in images
            why = type(error).__name__
            self._report.say("failed", target=name or _asked(raw), why=why)
            if name:
                await refuse(client, Refused(504, "no connection to the host"))

    async def _join(
        self, client: socket.socket, outward: socket.socket, target: str, address: str
    ) -> None:
        loop = asyncio.get_running_loop()
        self._report.say("allowed", target=target, address=address)
        began = time.monotonic()
        tunnel = Tunnel(client, outward)
        why = "broken"
        try:
            await loop.sock_sendall(client, b"HTTP/1.1 200 Connection established\r\n\r\n")
            why = await tunnel.carry()
        except OSError:
            pass  # the client went away before its answer; the line below says so
        finally:
            self._report.say(
                "closed",
                target=target,
                address=address,
                why=why,
                bytes_in=tunnel.bytes_in,
                bytes_out=tunnel.bytes_out,
                seconds=round(time.monotonic() - began, 1),
            )


class Upstream:
    """The route to what stands in for the API: bytes as they are, to one place of the host's."""

    def __init__(self, host: str, port: int, report: Report) -> None:
        self._place = (host, port)
        self._report = report

    async def answer(self, client: socket.socket) -> None:
        """Serve one client of the upstream socket to its end."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(*self._place, type=socket.SOCK_STREAM)
            outward, _ = await dial.connect([str(x[4][0]) for x in found], self._place[1])
        except (OSError, asyncio.TimeoutError) as error:  # noqa: UP041 - older Pythons in images
            self._report.say("failed", target="stand-in", why=type(error).__name__)
            return
        with outward:
            await Tunnel(client, outward).carry()


async def refuse(client: socket.socket, why: Refused) -> None:
    """Tell a client why, then let it go."""
    body = f"plandock gateway: {why}\n".encode()
    lines = f"HTTP/1.1 {why.status} Refused\r\nContent-Type: text/plain\r\n"
    lines += f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    with contextlib.suppress(OSError, asyncio.TimeoutError):
        await asyncio.wait_for(_farewell(client, lines.encode() + body), LINGER_S)


async def _farewell(client: socket.socket, answer: bytes) -> None:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(client, answer)
    client.shutdown(socket.SHUT_WR)
    left = _LINGER_BYTES
    while left > 0 and (data := await loop.sock_recv(client, 65536)):
        left -= len(data)


async def _read(client: socket.socket, raw: bytearray) -> None:
    """Read into ``raw`` until the head is whole; raises :class:`Refused`, :class:`OSError`."""
    loop = asyncio.get_running_loop()
    looked = 0
    while True:
        data = await loop.sock_recv(client, head.LIMIT + 1 - len(raw))
        if not data:
            raise ConnectionError("closed before a request")
        raw += data
        # Byte by byte, a head of 16 KiB would be looked through 16384 times.
        if b"\n" in data or len(raw) < 64 or len(raw) - looked >= 1024 or len(raw) > head.LIMIT:
            looked = len(raw)
            if head.complete(bytes(raw)):
                return


def _waiting(client: socket.socket) -> bool:
    """Whether the client has sent something that was not read yet (a closed one has not)."""
    try:
        return bool(client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EWOULDBLOCK):
            return False
        raise


def _asked(raw: bytearray) -> str:
    """The second word of a request line that was refused, for the log."""
    words = bytes(raw[:2000]).partition(b"\n")[0].split(b" ")
    return (words[1] if len(words) > 1 else words[0]).decode("latin-1").rstrip("\r")
