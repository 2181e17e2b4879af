"""Attacks on the gateway by what the box can send it, and by what name servers answer.

The gateway's real program runs in a network namespace of the test's own that has no way out: its
loopback bears public, private and metadata addresses with a recorder behind each.  A payload is
repelled when it is refused *and* no recorder got anything.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.security import outside_world as world
from tests.support.gateway import Gateway
from tests.support.journal import note

pytestmark = pytest.mark.netns

GOOD = "good.example.org"
ALLOW: dict[str, list[str]] = {
    "api.anthropic.com": [],
    GOOD: [],
    "localhost": [],
    "alias.example.org": [],
    "six.example.org": [],
    "*.wild.example.org": [],
    "rebinds.example.org": [],
    "mixed.example.org": [],
    "mixed6.example.org": [],
    "mirror.example.org": [world.MIRROR],
    "moved.example.org": [world.MIRROR],
    "pinnedloop.example.org": ["127.0.0.1"],
    "pinnedmeta.example.org": [world.METADATA],
    **{world.name_for(address): [] for address in world.BAD},
}


def _run(argv: list[str], **more: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(argv, capture_output=True, timeout=240, check=True, **more)


@dataclass
class Space:
    """The namespace, the world in it, and a gateway between this test and that world."""

    enter: list[str]
    folder: Path
    gateway: Gateway

    def recorded(self) -> list[dict[str, Any]]:
        """What has reached any recorder so far, in order."""
        file = self.folder / "recorded.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        return [json.loads(line) for line in lines]

    def directly(self, address: str, port: int) -> None:
        """Connect from inside the namespace without the gateway, and say something."""
        code = (
            "import socket,sys; s=socket.create_connection((sys.argv[1], int(sys.argv[2])), 240);"
        )
        code += "s.sendall(b'direct'); s.recv(100)"
        _run([*self.enter, sys.executable, "-I", "-c", code, address, str(port)])

    def wait_recorded(self, count: int) -> list[dict[str, Any]]:
        """What is recorded, when it is this much; recorders write after they answer."""
        end = time.monotonic() + 240
        while len(self.recorded()) < count and time.monotonic() < end:
            time.sleep(0.02)
        return self.recorded()


@pytest.fixture(scope="module")
def space() -> Iterator[Space]:
    """A namespace with a world and a gateway in it; nothing is left of it afterwards."""
    if sys.platform != "linux" or shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("network namespaces need Linux, iproute2 and root")
    name = f"plandock-{uuid.uuid4().hex[:8]}"
    note("name", name)
    note("folder", configuration := Path("/etc/netns") / name)
    enter = ["ip", "netns", "exec", name]
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gw")))
        configuration.mkdir(parents=True)
        stack.callback(_forget, configuration)
        (configuration / "resolv.conf").write_text(
            "nameserver 127.0.0.1\noptions timeout:30 attempts:1\n"
        )
        _run(["ip", "netns", "add", name])
        stack.callback(_run, ["ip", "netns", "delete", name])
        _run([*enter, "ip", "link", "set", "lo", "up"])
        for address in world.ADDRESSES:
            more = ["nodad"] if ":" in address else []
            size = "128" if ":" in address else "32"
            _run([*enter, "ip", "address", "add", f"{address}/{size}", "dev", "lo", *more])
        outside = subprocess.Popen(
            [*enter, sys.executable, str(Path(world.__file__)), str(folder)],
            stdout=subprocess.PIPE,
        )
        stack.callback(_end, outside)
        assert outside.stdout is not None
        assert outside.stdout.readline() == b"ready\n"
        gateway = Gateway(
            folder,
            allow=ALLOW,
            api={"host": "127.0.0.1", "port": 8080, "tls": False},
            before=enter,
            patient=True,
        )
        stack.callback(gateway.close)
        yield Space(enter, folder, gateway)


def _forget(configuration: Path) -> None:
    shutil.rmtree(configuration)
    with contextlib.suppress(OSError):  # another test's may lie beside it, or it was there before
        configuration.parent.rmdir()


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    child.wait(240)
    assert child.stdout is not None
    child.stdout.close()


def connect(target: str, host: str | None = None, more: str = "", version: str = "1.1") -> bytes:
    """A CONNECT request for a target; its Host header is the target unless told otherwise."""
    lines = f"CONNECT {target} HTTP/{version}\r\nHost: {host or target}\r\n{more}\r\n"
    return lines.encode("latin-1")


OK = f"{GOOD}:443"
PAYLOADS: dict[str, bytes] = {
    # Where to
    "another host": connect("evil.example.net:443"),
    "an allowed name as the front of another": connect(f"{GOOD}.evil.example.net:443"),
    "an allowed name as the end of another": connect(f"x{GOOD}:443"),
    "the bare suffix of a wildcard": connect("wild.example.org:443"),
    "a look-alike of a wildcard's suffix": connect("xwild.example.org:443"),
    "a wildcard itself": connect("*.wild.example.org:443"),
    "two trailing dots": connect(f"{GOOD}..:443"),
    "a leading dot": connect(f".{GOOD}:443"),
    "the API's own name in sealed mode": connect("api.anthropic.com:443"),
    "the API's own name in capitals and with a dot in sealed mode": connect(
        "API.Anthropic.COM.:443"
    ),
    "port 80": connect(f"{GOOD}:80"),
    "port 22": connect(f"{GOOD}:22"),
    "port 8443": connect(f"{GOOD}:8443"),
    "a port with a leading zero": connect(f"{GOOD}:0443"),
    "a port with a sign": connect(f"{GOOD}:+443"),
    "a port that wraps around to 443": connect(f"{GOOD}:65979"),
    "two ports": connect(f"{GOOD}:443:22"),
    "no port": connect(GOOD),
    "an empty port": connect(f"{GOOD}:"),
    "no host": connect(":443"),
    # Address literals
    "a public address": connect(f"{world.PUBLIC}:443"),
    "the metadata address": connect("169.254.169.254:443"),
    "loopback": connect("127.0.0.1:443"),
    "loopback in the short form": connect("127.1:443"),
    "loopback as zero": connect("0:443"),
    "an address in decimal": connect("167838211:443"),
    "an address in hex": connect("0x0a010203:443"),
    "an address in dotted hex": connect("0xa.0x1.0x2.0x3:443"),
    "an address in octal": connect("012.01.02.03:443"),
    "an address with a trailing dot": connect("10.1.2.3.:443"),
    "IPv6 loopback": connect("[::1]:443"),
    "a public IPv6 address": connect(f"[{world.PUBLIC_6}]:443"),
    "IPv6 without brackets": connect("::1:443"),
    "an IPv4-mapped address": connect("[::ffff:10.1.2.3]:443"),
    "an IPv4-mapped address in hex": connect("[::ffff:a01:203]:443"),
    "a NAT64 address": connect("[64:ff9b::a01:203]:443"),
    "an IPv6 address with a zone": connect("[fe80::1%25lo]:443"),
    "full-width digits": "CONNECT １０.１.２.３:443 HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
    # The target's form
    "user information before an allowed name": connect(f"user:pw@{OK}"),
    "an allowed name as user information": connect(f"{GOOD}@evil.example.net:443", OK),
    "an allowed name as user information with a port": connect(f"{OK}@evil.example.net:443", OK),
    "percent-encoding": connect("good%2eexample.org:443", OK),
    "an encoded NUL": connect(f"{GOOD}%00.evil.example.net:443", OK),
    "a NUL": connect(f"{GOOD}\0.evil.example.net:443", OK),
    "a bare CR in the target": connect(f"{GOOD}\revil.example.net:443", OK),
    "a bare LF in the target": connect(f"{GOOD}\nevil.example.net:443", OK),
    "a tab in the target": connect(f"evil.example.net:443\t{OK}", OK),
    "two targets": connect(f"evil.example.net:443 {OK}", OK),
    "a unicode dot": f"CONNECT good。example.org:443 HTTP/1.1\r\nHost: {OK}\r\n\r\n".encode(),
    "a backslash": connect(f"evil.example.net\\.{GOOD}:443", OK),
    "a path": connect(f"{OK}/../evil", OK),
    "a fragment": connect(f"evil.example.net#{OK}", OK),
    "absolute form with CONNECT": connect(f"https://{OK}/", OK),
    "absolute form with GET": f"GET http://{GOOD}/ HTTP/1.1\r\nHost: {GOOD}\r\n\r\n".encode(),
    "origin form with GET": f"GET / HTTP/1.1\r\nHost: {GOOD}\r\n\r\n".encode(),
    "POST to the metadata address": (
        b"POST http://169.254.169.254/ HTTP/1.1\r\nHost: 169.254.169.254\r\n"
        b"Content-Length: 0\r\n\r\n"
    ),
    "a method in small letters": f"connect {OK} HTTP/1.1\r\nHost: {OK}\r\n\r\n".encode(),
    # Headers
    "a Host header of another host": connect(OK, "evil.example.net:443"),
    "a Host header with another port": connect(OK, f"{GOOD}:80"),
    "a Host header with user information": connect(OK, f"evil@{OK}"),
    "an empty Host header": f"CONNECT {OK} HTTP/1.1\r\nHost:\r\n\r\n".encode(),
    "no Host header in HTTP/1.1": f"CONNECT {OK} HTTP/1.1\r\n\r\n".encode(),
    "two Host headers": connect(OK, more="Host: evil.example.net:443\r\n"),
    "two equal Host headers": connect(OK, more=f"Host: {OK}\r\n"),
    "a Host header that is folded": connect(OK, more="X: a\r\n b\r\n"),
    "a space before the colon": connect(OK, more="Transfer-Encoding : chunked\r\n"),
    "a header without a name": connect(OK, more=": x\r\n"),
    "a NUL in a header": connect(OK, more="X: a\0b\r\n"),
    "line feeds alone": f"CONNECT {OK} HTTP/1.1\nHost: {OK}\n\n".encode(),
    "a chunked body": connect(OK, more="Transfer-Encoding: chunked\r\n"),
    "a chunked body in an odd spelling": connect(OK, more="Transfer-Encoding: xchunked\r\n"),
    "a length": connect(OK, more="Content-Length: 5\r\n"),
    "a length of zero": connect(OK, more="Content-Length: 0\r\n"),
    "two lengths": connect(OK, more="Content-Length: 0\r\nContent-Length: 9\r\n"),
    "a length and chunks": connect(OK, more="Content-Length: 4\r\nTransfer-Encoding: chunked\r\n"),
    "an upgrade": connect(OK, more="Connection: upgrade\r\nUpgrade: h2c\r\n"),
    "an expectation": connect(OK, more="Expect: 100-continue\r\n"),
    # What comes behind, and what is no HTTP/1
    "a second request behind the first": connect(OK) + connect("evil.example.net:443"),
    "early data": connect(OK) + b"\x16\x03\x01",
    "a body behind the head": connect(OK) + b"GET / HTTP/1.1\r\nHost: 10.1.2.3\r\n\r\n",
    "an empty line first": b"\r\n" + connect(OK),
    "HTTP/0.9": f"CONNECT {OK}\r\n\r\n".encode(),
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/2.0 in the line": connect(OK, version="2.0"),
    "HTTP/1.2 in the line": connect(OK, version="1.2"),
    "TLS without CONNECT": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "SOCKS": b"\x05\x01\x00\r\n\r\n",
    "a head of 17 KiB": connect(OK, more="X: " + "a" * 17 * 1024 + "\r\n"),
    "a thousand headers": connect(OK, more="".join(f"X{i}: {'a' * 20}\r\n" for i in range(1000))),
    # What the name servers say
    "localhost": connect("localhost:443"),
    "a CNAME to a private address": connect("alias.example.org:443"),
    "a public and a private address": connect("mixed.example.org:443"),
    "a public and a loopback address": connect("mixed6.example.org:443"),
    "a pinned name at another private address": connect("moved.example.org:443"),
    "a name pinned to loopback": connect("pinnedloop.example.org:443"),
    "a name pinned to the metadata address": connect("pinnedmeta.example.org:443"),
    **{
        f"a name that resolves to {address}": connect(f"{world.name_for(address)}:443")
        for address in world.BAD
    },
}


@pytest.mark.parametrize("claim", PAYLOADS)
def test_nothing_gets_out_by(space: Space, claim: str) -> None:
    """The payload is refused with an error of HTTP, and no recorder anywhere got a byte."""
    before = space.recorded()
    answer = space.gateway.ask(PAYLOADS[claim])
    assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 502"))
    assert b" 200 " not in answer
    if claim.startswith("a name that resolves to"):
        assert answer.startswith(b"HTTP/1.1 403")  # a name without an answer gives 502
    assert space.recorded() == before


@pytest.mark.parametrize(
    ("request_", "address"),
    [
        (connect(OK), world.PUBLIC),
        (connect("GOOD.Example.Org.:443", GOOD), world.PUBLIC),
        (f"CONNECT {OK} HTTP/1.0\r\n\r\n".encode(), world.PUBLIC),
        (connect("six.example.org:443"), world.PUBLIC_6),
        (connect("sub.wild.example.org:443"), world.PUBLIC),
        (connect("mirror.example.org:443"), world.MIRROR),
    ],
    ids=["plain", "capitals and a dot", "HTTP/1.0", "IPv6", "a wildcard", "a pinned mirror"],
)
def test_an_allowed_name_gets_through(space: Space, request_: bytes, address: str) -> None:
    """Positive control: the same way, the recorder gets what was said and answers."""
    before = len(space.recorded())
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(240)
        client.connect(str(space.gateway.proxy))
        client.sendall(request_)
        assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
        client.sendall(b"hello")
        assert client.recv(100) == b"recorded"
    said = space.wait_recorded(before + 1)[before:]
    assert said == [{"address": address, "port": 443, "got": "hello"}]


@pytest.mark.parametrize("address", world.ADDRESSES)
def test_without_the_gateway_the_recorder_is_reachable(space: Space, address: str) -> None:
    """Positive control: what keeps a payload away is the gateway, not a dead recorder."""
    before = len(space.recorded())
    space.directly(address, 443)
    said = space.wait_recorded(before + 1)[before:]
    assert said == [{"address": address, "port": 443, "got": "direct"}]


def test_a_name_that_rebinds_is_connected_to_the_address_that_was_checked(space: Space) -> None:
    """The first, public answer is used for the connection; the second, private one is refused."""
    before = len(space.recorded())
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(240)
        client.connect(str(space.gateway.proxy))
        client.sendall(connect("rebinds.example.org:443"))
        assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
        client.sendall(b"hello")
        client.recv(100)
    assert [x["address"] for x in space.wait_recorded(before + 1)[before:]] == [world.PUBLIC]
    assert space.gateway.ask(connect("rebinds.example.org:443")).startswith(b"HTTP/1.1 403")
    assert len(space.recorded()) == before + 1


def test_a_redirect_of_the_api_is_passed_back_and_not_followed(space: Space) -> None:
    """The sealed route hands a redirect to the metadata address to the box, without cookies."""
    before = len(space.recorded())
    assert space.gateway.tell(b'{"token": "made-up-token"}').returncode == 0
    request = b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = space.gateway.ask(request, space.gateway.api)
    assert answer.startswith(b"HTTP/1.1 302 ")
    assert b"169.254.169.254" in answer
    assert b"cookie" not in answer.lower()
    said = space.wait_recorded(before + 1)[before:]
    assert [(x["address"], x["port"]) for x in said] == [("127.0.0.1", 8080)]


def test_no_way_leads_out_of_the_namespace(space: Space) -> None:
    """Positive control of the set-up: loopback is the only interface there."""
    shown = _run([*space.enter, "ip", "-json", "link", "show"]).stdout
    assert [link["ifname"] for link in json.loads(shown)] == ["lo"]
