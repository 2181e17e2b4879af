"""The box's local end of the way out: two loopback ports, each joined to a gateway socket.

The gate stands between: while it is shut, bytes of the client are held back.  The steward shuts
it when it hands the prompt over and opens it when the CLI has said who pays, so that no request
of a run that would be billed per token can leave the box.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable

PROXY_PORT = 3128
UPSTREAM_PORT = 3129
# At each port, two threads each: what an agent opens at the one must not cost it the other, nor
# the steward its threads (the limit of processes counts them).  More than the gateway takes, so
# that it is the gateway that says so.
MOST_CONNECTIONS = 320


class Relay:
    """Listens on loopback and carries connections to Unix sockets."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.moved = time.monotonic()  # when the last byte came in
        self._cuts = 0
        # Called before each piece that goes out; it may shut the gate.
        self.settle: Callable[[], None] = lambda: None

    def cut(self) -> None:
        """Shut the gate, and let nothing more out of the connections that there are: what stands
        before the gate in them is dropped when it opens again."""
        self._cuts += 1
        self.gate.clear()

    def listen(self, port: int, place: str) -> None:
        """Serve one port in threads of its own."""
        listener = socket.create_server(("127.0.0.1", port), backlog=128)
        threading.Thread(target=self._accept, args=(listener, place), daemon=True).start()

    def _accept(self, listener: socket.socket, place: str) -> None:
        free = threading.BoundedSemaphore(MOST_CONNECTIONS)

        def serve(client: socket.socket) -> None:
            try:
                with client:
                    self._serve(client, place)
            except RuntimeError:  # no thread is to be had for the way back
                pass
            finally:
                free.release()

        while True:
            try:
                client, _ = listener.accept()
            except OSError:  # out of descriptors: some are closed sooner or later
                time.sleep(0.1)
                continue
            if not free.acquire(blocking=False):
                client.close()
                continue
            try:
                threading.Thread(target=serve, args=(client,), daemon=True).start()
            except RuntimeError:
                client.close()
                free.release()

    def _serve(self, client: socket.socket, place: str) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as outward:
            self._join(client, outward, place)

    def _join(self, client: socket.socket, outward: socket.socket, place: str) -> None:
        try:
            outward.connect(place)
        except OSError:
            return
        back = threading.Thread(target=_carry, args=(outward, client, self._came), daemon=True)
        back.start()
        cuts = self._cuts

        def may_go() -> None:
            self.settle()
            self.gate.wait()
            if self._cuts != cuts:
                raise ConnectionAbortedError

        _carry(client, outward, may_go)
        back.join()

    def _came(self) -> None:
        self.moved = time.monotonic()


def _carry(
    source: socket.socket,
    target: socket.socket,
    before: Callable[[], None],
) -> None:
    """Carry bytes one way; ``before`` is called before each piece, and may raise OSError."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            before()
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
