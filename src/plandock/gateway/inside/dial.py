"""From an allowed name to a connection: resolve here, check every answer, connect to one of them.

The connection is made to an address that was checked, never to the name again: a name server that
answers differently the second time is not asked a second time.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import socket

import addresses
from head import Refused

CONNECT_TIME_S = 15.0
# Looking up a name blocks a thread for as long as the name server pleases.
_LOOKUPS = concurrent.futures.ThreadPoolExecutor(max_workers=16, thread_name_prefix="lookup")


async def resolve(name: str, port: int, pinned: frozenset[addresses.Address]) -> list[str]:
    """The checked addresses of a name; raises :class:`Refused` if a single one is not allowed."""
    loop = asyncio.get_running_loop()

    def lookup() -> list[str]:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))

    try:
        answers = await loop.run_in_executor(_LOOKUPS, lookup)
    except (OSError, UnicodeError) as error:
        raise Refused(502, "the name does not resolve") from error
    for answer in answers:
        why = addresses.why_refused(answer, pinned)
        if why is not None:
            raise Refused(403, f"the name resolves to an address that is not public: {why}")
    if not answers:
        raise Refused(502, "the name does not resolve")
    return answers


async def connect(checked: list[str], port: int) -> tuple[socket.socket, str]:
    """A connection to the first of these addresses that takes one; raises :class:`OSError`."""
    last: OSError = ConnectionError("no address")
    for place, address in enumerate(checked):
        patience = CONNECT_TIME_S / (len(checked) - place + 1)
        try:
            return await asyncio.wait_for(_connect(address, port), patience), address
        except asyncio.TimeoutError:  # noqa: UP041 - older Pythons in images
            last = TimeoutError("no answer")
        except OSError as error:
            last = error
    raise last


async def _connect(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    outward = socket.socket(family, socket.SOCK_STREAM)
    try:
        outward.setblocking(False)
        outward.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        outward.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(outward, (address, port))
    except BaseException:
        outward.close()
        raise
    return outward


async def reach(
    name: str, port: int, pinned: frozenset[addresses.Address]
) -> tuple[socket.socket, str]:
    """Resolve, check and connect within the time; raises :class:`Refused`, :class:`OSError`."""

    async def both() -> tuple[socket.socket, str]:
        return await connect(await resolve(name, port, pinned), port)

    return await asyncio.wait_for(both(), CONNECT_TIME_S)
