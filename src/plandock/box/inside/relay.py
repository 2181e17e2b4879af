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


class Relay:
    """Listens on loopback and carries connections to Unix sockets."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.moved = time.monotonic()  # when the last byte came in

    def listen(self, port: int, place: str) -> None:
        """Serve one port in threads of its own."""
        listener = socket.create_server(("127.0.0.1", port), backlog=128)
        threading.Thread(target=self._accept, args=(listener, place), daemon=True).start()

    def _accept(self, listener: socket.socket, place: str) -> None:
        while True:
            client, _ = listener.accept()
            threading.Thread(target=self._serve, args=(client, place), daemon=True).start()

    def _serve(self, client: socket.socket, place: str) -> None:
        outward = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            outward.connect(place)
        except OSError:
            client.close()
            return
        back = threading.Thread(
            target=_carry, args=(outward, client, None, self._came), daemon=True
        )
        back.start()
        _carry(client, outward, self.gate, None)
        back.join()
        client.close()
        outward.close()

    def _came(self) -> None:
        self.moved = time.monotonic()


def _carry(
    source: socket.socket,
    target: socket.socket,
    gate: threading.Event | None,
    moved: Callable[[], None] | None,
) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            if gate is not None:
                gate.wait()
            if moved is not None:
                moved()
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
