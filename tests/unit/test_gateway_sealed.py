"""The sealed route: what the API gets, what the box gets, and where the token is."""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.gateway import Gateway

TOKEN = "made-up-token-of-this-test"
END = b"Connection: close\r\n\r\n"


class Api:
    """Stands in for the API: keeps what it got, and answers what it is told to, piece by piece."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.got: list[bytes] = []
        self.pieces = [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"]
        self.go_on = threading.Event()
        self.go_on.set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            client.settimeout(600)
            kept = b""
            while True:
                while b"\r\n\r\n" not in kept:
                    if not (data := client.recv(65536)):
                        return
                    kept += data
                head, _, kept = kept.partition(b"\r\n\r\n")
                self.got.append(head + b"\r\n\r\n")
                length = next(
                    (int(x.split(b":")[1]) for x in head.lower().split(b"\r\n")
                     if x.startswith(b"content-length")), 0,
                )  # fmt: skip
                while len(kept) < length:
                    kept += client.recv(65536)
                self.got[-1] += kept[:length]
                kept = kept[length:]
                for number, piece in enumerate(self.pieces):
                    if number:
                        self.go_on.wait(600)
                    client.sendall(piece)


@pytest.fixture
def api() -> Iterator[Api]:
    """A stand-in of this test's own."""
    made = Api()
    yield made
    made.listener.close()


@pytest.fixture
def sealed(api: Api) -> Iterator[Gateway]:
    """A sealed gateway before the stand-in, without a token so far."""
    with tempfile.TemporaryDirectory() as folder:
        place = {"host": "127.0.0.1", "port": api.port, "tls": False}
        gateway = Gateway(Path(folder), allow=["api.anthropic.com", "localhost"], api=place)
        yield gateway
        gateway.close()


def tell(gateway: Gateway, token: str = TOKEN) -> None:
    """Tell the token as the host does."""
    told = json.dumps({"token": token}).encode()
    # The gateway has five seconds for whoever tells it; a slow machine takes several tries.
    assert any(gateway.tell(told).returncode == 0 for _ in range(10))


def test_who_asks_is_said_by_the_gateway_alone(api: Api, sealed: Gateway) -> None:
    """Every login, cookie, forwarding and hop-by-hop header of the box goes; the token comes."""
    tell(sealed)
    taken = (
        "Authorization: Bearer placeholder", "AUTHORIZATION: Basic eA==", "X-Api-Key: x",
        "Proxy-Authorization: Basic placeholder", "Cookie: placeholder=1",
        "X-Forwarded-For: 10.0.0.1", "X-Forwarded-Host: placeholder.invalid",
        "Forwarded: for=placeholder", "Keep-Alive: timeout=5", "TE: trailers",
        "Connection: x-placeholder", "X-Placeholder: 1",
    )  # fmt: skip
    head = "GET /v1/models?limit=2 HTTP/1.1\r\nHost: placeholder.invalid\r\nX-Kept: yes\r\n"
    answer = sealed.ask(head.encode() + "\r\n".join(taken).encode() + b"\r\n" + END, sealed.api)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"ok")
    (got,) = api.got
    lines = got.decode().lower().split("\r\n")
    assert lines[0] == "get /v1/models?limit=2 http/1.1"
    assert sorted(lines[1:-2]) == [
        f"authorization: bearer {TOKEN}",
        f"host: 127.0.0.1:{api.port}",
        "x-kept: yes",
    ]


@pytest.mark.parametrize(
    "request_",
    [
        b"PUT /v1/messages HTTP/1.1", b"DELETE /v1/files/1 HTTP/1.1", b"OPTIONS /v1/ HTTP/1.1",
        b"CONNECT api.anthropic.com:443 HTTP/1.1", b"GET / HTTP/1.1", b"POST / HTTP/1.1",
        b"GET /v1 HTTP/1.1", b"GET /v2/models HTTP/1.1", b"GET /V1/models HTTP/1.1",
        b"GET /v1/../oauth HTTP/1.1", b"GET /v1/%2e%2e/oauth HTTP/1.1",
        b"GET /v1/%2E./oauth HTTP/1.1", b"GET /v1/..%2foauth HTTP/1.1",
        b"GET /v1/a%5c..%5coauth HTTP/1.1", b"GET /v1/%252e%252e/oauth HTTP/1.1",
        b"GET //v1/models HTTP/1.1", b"GET /v1//models HTTP/1.1", b"GET /v1/a%00b HTTP/1.1",
        b"GET /v1/a%0d%0ab HTTP/1.1", b"GET /v1/a\\..\\b HTTP/1.1",
        b"GET http://127.0.0.1/v1/models HTTP/1.1", b"GET @evil.invalid/v1/ HTTP/1.1",
        b"GET /v1/models HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade",
        b"POST /v1/m HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked",
        b"POST /v1/m HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2",
        b"POST /v1/m HTTP/1.1\r\nTransfer-Encoding: gzip, chunked",
        b"GET /v1/models HTTP/1.1\r\nHost: two", b"GET /v1/models HTTP/2.0", b"GET /v1/models",
    ],
)  # fmt: skip
def test_what_does_not_belong_to_the_api_is_refused(
    api: Api, sealed: Gateway, request_: bytes
) -> None:
    """Other methods, paths, tricks with dots, upgrades and two lengths never reach the API."""
    tell(sealed)
    answer = sealed.ask(request_ + b"\r\nHost: x\r\n" + END, sealed.api)
    assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 501"))
    assert api.got == []
    assert sealed.wait_for(lambda said: said["decision"] == "refused")


def test_connect_to_the_api_is_refused_where_the_run_is_sealed(sealed: Gateway) -> None:
    """Allowed or not: the box could use the tunnel with somebody else's key."""
    answer = sealed.ask(
        b"CONNECT api.anthropic.com:443 HTTP/1.1\r\nHost: api.anthropic.com\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 403")
    assert "sealed" in sealed.wait_for(lambda said: said["decision"] == "refused")["why"]


def test_a_request_waits_for_the_token_and_the_next_one_has_the_new(
    api: Api, sealed: Gateway
) -> None:
    """Nothing goes out without a token; a renewed one is used at once."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(0.3)
        client.connect(str(sealed.api))
        client.sendall(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
        with pytest.raises(TimeoutError):
            client.recv(100)
        assert api.got == []
        api.pieces = [b"HTTP/1.1 200 OK\r\n\r\n"]
        client.settimeout(120)
        tell(sealed)
        assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
        tell(sealed, "a-renewed-token")
        client.sendall(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
    assert f"Bearer {TOKEN}".encode() in api.got[0]
    assert b"Bearer a-renewed-token" in api.got[1]


def test_a_streamed_answer_arrives_piece_by_piece_without_cookies(
    api: Api, sealed: Gateway
) -> None:
    """The first event is there while the API still keeps the second back."""
    tell(sealed)
    api.go_on.clear()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nSet-Cookie: a=b\r\n"
    api.pieces = [
        head + b"Transfer-Encoding: chunked\r\n\r\n8\r\ndata: 1\n\r\n",
        b"8\r\ndata: 2\n\r\n0\r\n\r\n",
    ]
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(120)
        client.connect(str(sealed.api))
        client.sendall(b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
        seen = b""
        while b"data: 1\n" not in seen:
            seen += client.recv(1000)
        api.go_on.set()
        while not seen.endswith(b"0\r\n\r\n"):
            seen += client.recv(1000)
    assert b"data: 2\n" in seen
    assert b"cookie" not in seen.lower()
    assert api.got[0].endswith(b"\r\n\r\n{}")


def test_a_large_body_goes_through_whole(api: Api, sealed: Gateway) -> None:
    """Sixteen MiB out, byte by byte the same."""
    tell(sealed)
    body = os.urandom(1 << 20) * 16
    head = f"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n".encode()
    assert sealed.ask(head + END + body, sealed.api).endswith(b"ok")
    assert api.got[0].partition(b"\r\n\r\n")[2] == body


@pytest.mark.parametrize("told", [b"", b"token", b"[]", b"{}", b'{"token": 5}', b'{"token": ""}',
                                  b'{"token": "a b c d e f"}', b'{"token": "aaaaaaaa\\r\\nX: y"}',
                                  b'{"token": "' + b"a" * 70000 + b'"}'])  # fmt: skip
def test_what_is_no_token_is_not_taken(sealed: Gateway, told: bytes) -> None:
    """The teller fails, and nothing of what it said is in the log."""
    assert sealed.tell(told).returncode == 1


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_the_token_is_in_no_log_environment_command_line_or_file(api: Api, sealed: Gateway) -> None:
    """Looked for after it was used; nor may the process leave a core."""
    tell(sealed)
    sealed.ask(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n" + END, sealed.api)
    assert TOKEN.encode() in api.got[0]
    sealed.wait_for(lambda said: said["decision"] == "closed")
    assert TOKEN not in json.dumps(sealed.said)
    process = Path(f"/proc/{sealed.child.pid}")
    assert TOKEN.encode() not in (process / "cmdline").read_bytes()
    limits = (process / "limits").read_text().splitlines()
    assert [x.split()[-3:-1] for x in limits if "core" in x] == [["0", "0"]]
    # A process that cannot be dumped belongs to root in /proc, and root alone reads its memory.
    assert (process / "environ").stat().st_uid == 0
    for path in sealed.control.parent.iterdir():
        assert path.is_socket()
