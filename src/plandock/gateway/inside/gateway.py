"""The box's only way out; runs in a container of its own.

Reached through Unix sockets in a volume that it shares with the box.  Settings come as one JSON
object in ``PLANDOCK_GATEWAY``::

    {"socket": path,                                 CONNECT is answered here (proxy)
     "allow": [name, …] | {name: [address, …], …},   names, and private addresses pinned to them
     "upstream": {"socket", "host", "port"} | null,  a stand-in for the API, carried as it is
     "api": {"socket", "host", "port", "tls"} | null,  sealed: the one route to the API (sealed)
     "control": path}                                where the token is told; has a default

One JSON line per decision on standard output (report).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable

from allowlist import Allowlist, BadEntry, canonical
from control import PLACE, Token, forbid_dumps
from disk import Disk
from head import Refused
from proxy import Proxy, Upstream, refuse
from report import Report
from sealed import Api, Sealed

API_HOST = "api.anthropic.com"
MOST_CONNECTIONS = 256
_MOST_REFUSALS = 64

Answer = Callable[[socket.socket], Awaitable[None]]


class Server:
    """Accepts clients at Unix sockets, up to a number at each; more are told so at once.

    At each: who keeps the proxy's places busy does not shut the way to the API.
    """

    def __init__(self, report: Report, most: int = MOST_CONNECTIONS) -> None:
        self._report = report
        self._most = most
        self._serving: list[set[asyncio.Task[None]]] = []
        self._refusing: set[asyncio.Task[None]] = set()
        self._ways: list[tuple[socket.socket, asyncio.Task[None]]] = []

    def listen(self, place: str, answer: Answer) -> None:
        """Serve the clients of one socket, until :meth:`close`."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(place)
        listener = socket.socket(socket.AF_UNIX)
        listener.setblocking(False)
        listener.bind(place)
        listener.listen(128)
        self._ways.append((listener, asyncio.ensure_future(self._accept(listener, answer))))

    async def close(self) -> None:
        """Take no more clients, and end those that are there."""
        ending = [way for _, way in self._ways] + list(self._refusing.union(*self._serving))
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        for listener, _ in self._ways:
            listener.close()

    async def _accept(self, listener: socket.socket, answer: Answer) -> None:
        loop = asyncio.get_running_loop()
        serving: set[asyncio.Task[None]] = set()
        self._serving.append(serving)
        while True:
            try:
                client, _ = await loop.sock_accept(listener)
            except OSError:  # out of descriptors: some are closed sooner or later
                await asyncio.sleep(0.1)
                continue
            client.setblocking(False)
            if len(serving) < self._most:
                self._start(client, answer(client), serving)
                continue
            self._report.say("refused", target="", why="too many connections")
            if len(self._refusing) < _MOST_REFUSALS:
                full = Refused(503, "too many connections")
                self._start(client, refuse(client, full), self._refusing)
            else:
                client.close()

    def _start(
        self, client: socket.socket, work: Awaitable[None], among: set[asyncio.Task[None]]
    ) -> None:
        async def run() -> None:
            with client:
                try:
                    await work
                except Exception as error:
                    # One client never ends the gateway.  The type alone is said: a message
                    # may hold what must not be logged.
                    self._report.say("failed", target="", why=type(error).__name__)

        task: asyncio.Task[None] = asyncio.ensure_future(run())
        among.add(task)
        task.add_done_callback(among.discard)


async def serve(settings: dict[str, object]) -> None:
    """Listen until SIGTERM; raises :class:`BadEntry` for settings that cannot be meant."""
    report = Report()
    allow = Allowlist(settings.get("allow", []))
    place = str(settings["socket"])
    upstream, api_wish = settings.get("upstream"), settings.get("api")
    os.umask(0o077)
    server = Server(report)
    closed_hosts: frozenset[str] = frozenset()
    control = None
    if isinstance(api_wish, dict):
        forbid_dumps()
        api = Api.of(api_wish)
        closed_hosts = frozenset({API_HOST, canonical(api.host) or API_HOST})
        token = Token(report)
        told_at = str(settings.get("control", PLACE))
        with contextlib.suppress(FileNotFoundError):
            os.unlink(told_at)
        control = await token.listen(told_at)
        sealed = Sealed(api, token, allow.pinned(api.host), report)
        server.listen(str(api_wish["socket"]), sealed.answer)
    server.listen(place, Proxy(allow, closed_hosts, report).answer)
    if isinstance(upstream, dict):
        route = Upstream(str(upstream["host"]), int(upstream["port"]), report)
        server.listen(str(upstream["socket"]), route.answer)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    report.say("ready")
    watching = asyncio.ensure_future(Disk(os.path.dirname(place), report).watch())
    flushing = asyncio.ensure_future(_flush(report))
    await stopped.wait()
    watching.cancel()
    flushing.cancel()
    if control is not None:
        control.close()
    await server.close()
    report.flush()


async def _flush(report: Report) -> None:
    while True:
        await asyncio.sleep(1.0)
        report.flush()


if __name__ == "__main__":
    try:
        asyncio.run(serve(json.loads(os.environ["PLANDOCK_GATEWAY"])))
    except BadEntry as error:
        sys.exit(f"gateway: {error}")
