"""The box's only way out; runs in a container of its own.

Reached through a Unix socket in a volume that it shares with the box.  It answers CONNECT to
allowlisted host names on port 443 and nothing else, resolves names itself, refuses every address
that is not public, and connects to the very address that it checked.  HTTP is parsed by h11.
One JSON line per decision on standard output.

Settings come as one JSON object in ``PLANDOCK_GATEWAY``:
``{"socket": path, "allow": [names], "upstream": {"socket": path, "host": h, "port": n} | null}``.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import os
import signal
import socket
import sys
import time

import h11

HEADER_LIMIT = 16 * 1024
HEADER_TIME_S = 10.0
CONNECT_TIME_S = 15.0
IDLE_S = 900.0
MOST_CONNECTIONS = 256


def say(decision: str, **facts: object) -> None:
    """Write one decision as a JSON line."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    sys.stdout.write(json.dumps({"at": stamp, "decision": decision, **facts}) + "\n")
    sys.stdout.flush()


class Refused(Exception):
    """A request that is not let through; the reason is logged and told to the client."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


def target_of(request: h11.Request, allow: frozenset[str]) -> str:
    """The host name that a CONNECT request asks for; raises :class:`Refused`."""
    if request.method != b"CONNECT":
        raise Refused(405, "only CONNECT is answered")
    host, colon, port = request.target.decode("ascii", "replace").rpartition(":")
    name = host.lower().rstrip(".")
    if not colon or port != "443":
        raise Refused(403, "only port 443 is open")
    if name not in allow:
        raise Refused(403, "the host is not on the allowlist")
    return name


async def resolve(name: str) -> str:
    """A public address of the name; raises :class:`Refused` where it has another one."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(name, 443, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Refused(502, "the name does not resolve") from error
    addresses = [str(entry[4][0]) for entry in found]
    for address in addresses:
        parsed = ipaddress.ip_address(address.split("%")[0])
        mapped = getattr(parsed, "ipv4_mapped", None) or getattr(parsed, "sixtofour", None)
        if not (mapped or parsed).is_global or parsed.is_multicast:
            raise Refused(403, "the name resolves to an address that is not public")
    return addresses[0]


async def read_request(reader: asyncio.StreamReader) -> tuple[h11.Request, bytes]:
    """The request's head, and what came behind it; raises :class:`Refused`."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=HEADER_LIMIT)
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Request):
            trailing, _ = connection.trailing_data
            return event, trailing
        if event is not h11.NEED_DATA:
            raise Refused(400, "not a request")
        data = await reader.read(4096)
        if not data:
            raise ConnectionError("closed before a request")
        connection.receive_data(data)


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry bytes one way until the end, or until nothing moved for a long time."""
    with contextlib.suppress(OSError, asyncio.TimeoutError):
        while data := await asyncio.wait_for(reader.read(65536), IDLE_S):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError, RuntimeError):
        if writer.can_write_eof():
            writer.write_eof()


async def join(
    one: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    other: tuple[asyncio.StreamReader, asyncio.StreamWriter],
) -> None:
    """Carry bytes both ways between two connections, then close both."""
    try:
        await asyncio.gather(pump(one[0], other[1]), pump(other[0], one[1]))
    finally:
        one[1].close()
        other[1].close()


class Gateway:
    """The two listeners and what they let through."""

    def __init__(self, allow: frozenset[str], upstream: tuple[str, int] | None) -> None:
        self.allow = allow
        self.upstream = upstream
        self.room = asyncio.Semaphore(MOST_CONNECTIONS)

    async def proxy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one client of the proxy socket."""
        asked = ""
        try:
            async with self.room:
                request, early = await asyncio.wait_for(read_request(reader), HEADER_TIME_S)
                asked = request.target.decode("ascii", "replace")[:300]
                name = target_of(request, self.allow)
                address = await resolve(name)
                outward = await asyncio.wait_for(
                    asyncio.open_connection(address, 443), CONNECT_TIME_S
                )
                say("allowed", target=asked, address=address)
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                if early:
                    outward[1].write(early)
                await join((reader, writer), outward)
        except (Refused, h11.RemoteProtocolError) as error:
            status = error.status if isinstance(error, Refused) else 400
            why = str(error) if isinstance(error, Refused) else "not HTTP"
            say("refused", target=asked, why=why)
            body = f"plandock gateway: {why}\n".encode()
            head = f"HTTP/1.1 {status} Refused\r\nContent-Length: {len(body)}\r\n"
            with contextlib.suppress(OSError):
                writer.write(head.encode() + b"Connection: close\r\n\r\n" + body)
                await writer.drain()
        except (OSError, asyncio.TimeoutError) as error:  # noqa: UP041 - older Pythons in images
            say("failed", target=asked, why=type(error).__name__)
        finally:
            writer.close()

    async def reverse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one client of the upstream socket to what stands in for the model's API."""
        assert self.upstream is not None
        try:
            async with self.room:
                outward = await asyncio.open_connection(*self.upstream)
                await join((reader, writer), outward)
        except OSError as error:
            say("failed", target="stand-in", why=type(error).__name__)
        finally:
            writer.close()


async def serve(settings: dict[str, object]) -> None:
    """Listen until SIGTERM."""
    upstream = settings.get("upstream")
    route = None
    if isinstance(upstream, dict):
        route = (str(upstream["host"]), int(upstream["port"]))
    allow = settings.get("allow")
    gateway = Gateway(frozenset(allow if isinstance(allow, list) else []), route)
    os.umask(0o077)
    listeners = []
    places = [(str(settings["socket"]), gateway.proxy)]
    if isinstance(upstream, dict):
        places.append((str(upstream["socket"]), gateway.reverse))
    for place, answer in places:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(place)
        listeners.append(await asyncio.start_unix_server(answer, place, backlog=128))
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    say("ready")
    await stopped.wait()
    for listener in listeners:
        listener.close()


if __name__ == "__main__":
    asyncio.run(serve(json.loads(os.environ["PLANDOCK_GATEWAY"])))
