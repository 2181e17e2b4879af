"""The gateway's answers, from its real program over a real Unix socket."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import plandock
from tests.support.gateway import PATH

PROGRAM = Path(plandock.__file__).parent / "gateway" / "inside" / "gateway.py"


class Running:
    """A gateway that listens, and an upstream that says hello."""

    def __init__(self, folder: Path) -> None:
        self.proxy, self.upstream = folder / "proxy.sock", folder / "upstream.sock"
        self.server = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._greet, daemon=True).start()
        wish = {
            "socket": str(self.proxy),
            "allow": ["api.anthropic.com", "localhost"],
            "upstream": {
                "socket": str(self.upstream),
                "host": "127.0.0.1",
                "port": self.server.getsockname()[1],
            },
        }
        self.child = subprocess.Popen(
            [sys.executable, str(PROGRAM)],
            env={"PLANDOCK_GATEWAY": json.dumps(wish), "PYTHONPATH": PATH,
                 "PATH": os.environ["PATH"]},
            stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self.child.stdout is not None
        assert json.loads(self.child.stdout.readline())["decision"] == "ready"

    def _greet(self) -> None:
        while True:
            try:
                client, _ = self.server.accept()
            except OSError:
                return
            # Who asked may have gone before the answer.
            with client, contextlib.suppress(OSError):
                client.sendall(b"hello " + client.recv(100))

    def ask(self, request: bytes, place: Path | None = None) -> bytes:
        """What is answered to these bytes, up to the end."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(120)
            client.connect(str(place or self.proxy))
            client.sendall(request)
            answer = b""
            while data := client.recv(4096):
                answer += data
        return answer

    def decision(self) -> dict[str, str]:
        """The next line of its log."""
        assert self.child.stdout is not None
        found: dict[str, str] = json.loads(self.child.stdout.readline())
        return found

    def close(self) -> None:
        """End it."""
        self.child.terminate()
        self.child.wait(120)
        assert self.child.stdout is not None
        self.child.stdout.close()
        self.server.close()


@pytest.fixture
def gateway() -> Iterator[Running]:
    """A gateway of this test's own; a short path, for a socket's may have 107 bytes."""
    with tempfile.TemporaryDirectory() as folder:
        running = Running(Path(folder))
        yield running
        running.close()


@pytest.mark.parametrize(
    ("request_line", "why"),
    [
        (b"CONNECT evil.invalid:443 HTTP/1.1", "allowlist"),
        (b"CONNECT api.anthropic.com.evil.invalid:443 HTTP/1.1", "allowlist"),
        (b"CONNECT xapi.anthropic.com:443 HTTP/1.1", "allowlist"),
        (b"CONNECT 127.0.0.1:443 HTTP/1.1", "literal"),
        (b"CONNECT [::1]:443 HTTP/1.1", "literal"),
        (b"CONNECT 2130706433:443 HTTP/1.1", "literal"),
        (b"CONNECT api.anthropic.com:80 HTTP/1.1", "443"),
        (b"CONNECT api.anthropic.com HTTP/1.1", "443"),
        (b"GET http://api.anthropic.com/ HTTP/1.1", "CONNECT"),
        (b"POST http://127.0.0.1/ HTTP/1.1", "CONNECT"),
    ],
)
def test_everything_but_connect_to_an_allowed_name_is_refused(
    gateway: Running, request_line: bytes, why: str
) -> None:
    """Other hosts, look-alikes, address literals, ports and methods: refused and logged."""
    answer = gateway.ask(request_line + b"\r\nHost: " + request_line.split()[1] + b"\r\n\r\n")
    assert answer.startswith((b"HTTP/1.1 403", b"HTTP/1.1 405"))
    said = gateway.decision()
    assert said["decision"] == "refused"
    assert why in said["why"]


def test_an_allowed_name_with_a_private_address_is_refused(gateway: Running) -> None:
    """`localhost` is on this list, and still not reached: the address is checked."""
    answer = gateway.ask(b"CONNECT localhost:443 HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 403")
    assert "not public" in gateway.decision()["why"]


def test_what_is_no_http_is_refused(gateway: Running) -> None:
    """Garbage and headers without end get an error and no connection."""
    assert gateway.ask(b"\x16\x03\x01 garbage\r\n\r\n").startswith(b"HTTP/1.1 400")
    endless = b"CONNECT a:443 HTTP/1.1\r\nX: " + b"x" * 100_000
    assert gateway.ask(endless).startswith(b"HTTP/1.1 431")


def test_the_upstream_route_carries_bytes(gateway: Running) -> None:
    """Positive control: the stand-in's route goes through, both ways."""
    assert gateway.ask(b"bytes", gateway.upstream) == b"hello bytes"
