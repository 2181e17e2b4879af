"""The stand-in itself: an HTTP server on the loopback that speaks as much of the API as needed."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterable
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from plandock.standin.failures import FailureBook
from plandock.standin.handler import Handler
from plandock.standin.requests import Request
from plandock.standin.script import Failure, Script


class StandIn:
    """A scripted model on 127.0.0.1, as a context manager or with `start` and `stop`.

    `requests` lists what was asked, in order, from the moment it is decided what to answer;
    `errors` what went wrong inside the stand-in itself (each of them was answered with 400, which
    the CLI does not retry). `log` gets one JSON line per request. With `keep_bodies` each
    Request holds its parsed body too.
    """

    def __init__(
        self,
        script: Script,
        *,
        port: int = 0,
        log: Path | None = None,
        failures: Iterable[Failure] = (),
        keep_bodies: bool = False,
    ) -> None:
        """Bind to the port (0: any free one). Raises OSError when it is taken."""
        self.script = script
        self.failures = FailureBook(failures)
        self.keep_bodies = keep_bodies
        self.errors: list[str] = []
        self.stopping = threading.Event()
        self.window_end = time.time() + 5 * 3600  # what an allowed answer says of the five hours
        self._requests: list[Request] = []
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._log = log
        self._server = _Server(self, port)
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """The address for ANTHROPIC_BASE_URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def requests(self) -> list[Request]:
        """All requests so far, oldest first (a copy)."""
        with self._lock:
            return list(self._requests)

    @property
    def model_requests(self) -> list[Request]:
        """The requests that are steps of a scene: POST /v1/messages with tools."""
        return [request for request in self.requests if request.scene]

    def wait_for(
        self, count: int = 1, *, scene: str | None = None, timeout_s: float = 30.0
    ) -> list[Request]:
        """Wait until `count` model requests (of that scene) have come; raises TimeoutError."""

        def found() -> list[Request]:
            return [r for r in self._requests if r.scene and scene in (None, r.scene)]

        with self._arrived:
            if not self._arrived.wait_for(lambda: len(found()) >= count, timeout_s):
                raise TimeoutError(f"{len(found())} of {count} model requests in {timeout_s} s")
            return found()

    def inject(self, *failures: Failure) -> None:
        """Let coming requests meet these failures."""
        self.failures.inject(failures)

    def clear_failures(self) -> None:
        """Take back every injected failure."""
        self.failures.clear()

    def record(self, request: Request) -> None:
        """Note a request; called by the handler before it answers."""
        with self._arrived:
            self._requests.append(request)
            if self._log is not None:
                with self._log.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(request.to_json()) + "\n")
            self._arrived.notify_all()

    def start(self) -> Self:
        """Serve in a thread of its own until `stop`."""
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="plandock-standin", daemon=True
        )
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop serving and close every connection, answered or not."""
        self.stopping.set()
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._thread = None
        self._server.close_connections()
        self._server.server_close()

    def __enter__(self) -> Self:
        """Start serving."""
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop serving."""
        self.stop()


class _Server(ThreadingHTTPServer):
    """Keeps track of its connections: a CLI holds one open, and `stop` must not wait for it."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, standin: StandIn, port: int) -> None:
        self.standin = standin
        self._connections: set[socket.socket] = set()
        self._connections_lock = threading.Lock()
        super().__init__(("127.0.0.1", port), Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._connections_lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._connections_lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        with self._connections_lock:
            for connection in self._connections:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # the other side was quicker

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that goes away (a killed box) is part of the tests."""
