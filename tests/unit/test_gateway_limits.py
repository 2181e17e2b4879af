"""What the gateway bounds: time, size, number, the log; and what a tunnel keeps."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gateway as program
import proxy
import pytest
from allowlist import Allowlist
from disk import Disk
from report import BURST, RATE, Report, shown
from tunnel import Tunnel


@pytest.fixture
def place() -> Iterator[str]:
    """A short path for a socket."""
    with tempfile.TemporaryDirectory() as folder:
        yield str(Path(folder) / "s")


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """The decisions written since this was last asked."""
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected sockets that do not block."""
    one, other = socket.socketpair()
    one.setblocking(False)
    other.setblocking(False)
    return one, other


def test_a_flood_of_refusals_is_counted_and_not_written(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A burst is written, the rest counted, the count said; later there is room again."""
    now = [0.0]
    report = Report(lambda: now[0])
    for _ in range(1000):
        report.say("refused", target="x")
    report.say("allowed", target="y")
    assert [x["decision"] for x in lines(capsys)] == ["refused"] * BURST + ["allowed"]
    report.flush()
    report.flush()
    (said,) = lines(capsys)
    assert (said["decision"], said["refused"]) == ("suppressed", 1000 - BURST)
    now[0] = 1.0
    for _ in range(1000):
        report.say("refused", target="x")
    assert len(lines(capsys)) == RATE


def test_what_the_box_chose_is_printable_and_short_in_the_log() -> None:
    """Control characters and long targets change nothing on a terminal that shows the log."""
    assert shown("a\x1b[31mb\n") == "a\\x1b[31mb\\x0a"
    assert len(shown("\x00" * 5000)) == 300


def test_a_slow_head_is_refused_when_its_time_is_over(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bytes that trickle in do not extend the time."""
    monkeypatch.setattr(proxy, "HEADER_TIME_S", 0.3)

    async def run() -> bytes:
        client, box = pair()
        answering = proxy.Proxy(Allowlist([]), frozenset(), Report()).answer(client)
        task = asyncio.ensure_future(answering)
        loop = asyncio.get_running_loop()
        try:
            for byte in b"CONNECT a.org:443 HTTP/1.1\r\nX: " + b"a" * 1000:
                if task.done():
                    break
                await loop.sock_sendall(box, bytes([byte]))
                await asyncio.sleep(0.02)
                try:
                    return box.recv(1000)
                except BlockingIOError:
                    continue
            return b""
        finally:
            box.close()
            await task
            client.close()

    assert asyncio.run(run()).startswith(b"HTTP/1.1 408 ")
    assert "too long" in lines(capsys)[0]["why"]


def test_more_connections_than_allowed_are_refused_at_once(
    place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The third of two gets 503 and a line in the log; when one has gone there is room again."""

    async def run() -> tuple[bytes, bytes]:
        server = program.Server(Report(), most=2)

        async def answer(client: socket.socket) -> None:
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(client, b"in")
            await loop.sock_recv(client, 1)

        server.listen(place, answer)
        server.listen(f"{place}-2", answer)
        held = [await asyncio.open_unix_connection(place) for _ in range(2)]
        for reader, _ in held:
            assert await reader.read(2) == b"in"
        # The places of another socket are its own: a full proxy does not shut the API out.
        elsewhere = await asyncio.open_unix_connection(f"{place}-2")
        assert await elsewhere[0].read(2) == b"in"
        elsewhere[1].close()
        reader, writer = await asyncio.open_unix_connection(place)
        third = await reader.read()
        writer.close()
        held[0][1].close()
        await held[0][0].read()
        reader, writer = await asyncio.open_unix_connection(place)
        fourth = await reader.read(2)
        for _, each in (*held, (reader, writer)):
            each.close()
        await server.close()
        return third, fourth

    third, fourth = asyncio.run(run())
    assert third.startswith(b"HTTP/1.1 503 ")
    assert fourth == b"in"
    assert [x["why"] for x in lines(capsys)] == ["too many connections"]


def test_a_client_that_has_said_its_last_word_is_still_answered() -> None:
    """A half-closed way is passed on as such; the other goes on, and bytes are counted."""

    async def run() -> tuple[str, bytes, int, int]:
        loop = asyncio.get_running_loop()
        client, box = pair()
        outward, host = pair()
        tunnel = Tunnel(client, outward)
        task = asyncio.ensure_future(tunnel.carry())
        await loop.sock_sendall(box, b"question")
        box.shutdown(socket.SHUT_WR)
        asked = b""
        while data := await loop.sock_recv(host, 100):
            asked += data
        await loop.sock_sendall(host, b"answer of " + asked)
        host.close()
        got = b""
        while data := await loop.sock_recv(box, 100):
            got += data
            if got.endswith(b"question"):
                break
        why = await task
        for each in (client, box, outward):
            each.close()
        return why, got, tunnel.bytes_out, tunnel.bytes_in

    assert asyncio.run(run()) == ("ended", b"answer of question", 8, 18)


def test_a_tunnel_reads_no_more_than_the_other_side_takes() -> None:
    """A client that never reads holds the sender back instead of filling the memory."""

    async def run() -> int:
        client, box = pair()
        outward, host = pair()
        task = asyncio.ensure_future(Tunnel(client, outward).carry())
        sent = quiet = 0
        while quiet < 20 and sent < (64 << 20):
            try:
                sent += host.send(bytes(65536))
                quiet = 0
            except BlockingIOError:
                quiet += 1
            await asyncio.sleep(0.005)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        for each in (client, box, outward, host):
            each.close()
        return sent

    assert asyncio.run(run()) < (8 << 20)


def test_a_tunnel_in_which_nothing_moves_is_ended() -> None:
    """Neither way for the idle time: over."""

    async def run() -> str:
        sockets = [*pair(), *pair()]
        try:
            return await asyncio.wait_for(Tunnel(sockets[0], sockets[2], 0.2).carry(), 600)
        finally:
            for each in sockets:
                each.close()

    assert asyncio.run(run()) == "idle"


@pytest.mark.parametrize(
    ("free", "total", "inodes", "low"),
    [
        (2 << 30, 1 << 40, 50, False),
        ((1 << 30) - 4096, 1 << 40, 50, True),
        (1 << 20, 40 << 20, 50, False),
        (1 << 19, 40 << 20, 50, True),
        (2 << 30, 1 << 40, 0, True),
    ],
)
def test_a_disk_that_runs_full_is_said_once_a_minute(
    capsys: pytest.CaptureFixture[str], free: int, total: int, inodes: int, low: bool
) -> None:
    """Below 1 GiB or 2 %, whichever is smaller, or below 1 % of the inodes."""
    now = [0.0]
    found = SimpleNamespace(
        f_bavail=free // 4096, f_frsize=4096, f_blocks=total // 4096, f_files=1000, f_favail=inodes
    )
    disk = Disk("/", Report(), lambda: now[0], lambda _: found)  # type: ignore[arg-type,return-value]
    disk.look()
    disk.look()
    assert [x["decision"] for x in lines(capsys)] == ["disk"] * low
    now[0] = 61.0
    disk.look()
    said = lines(capsys)
    assert len(said) == low
    if low:
        assert (said[0]["free_bytes"], said[0]["free_inodes"]) == (free, inodes)


def test_a_disk_that_runs_full_within_a_minute_is_said_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """At each half of what was left before: a few lines, however fast it goes."""
    found = SimpleNamespace(f_frsize=1 << 20, f_blocks=4096, f_files=0, f_favail=0)
    disk = Disk("/", Report(), lambda: 0.0, lambda _: found)  # type: ignore[arg-type,return-value]
    for free in (73, 70, 36, 35, 0, 0, 0):
        found.f_bavail = free
        disk.look()
    assert [x["free_bytes"] >> 20 for x in lines(capsys)] == [73, 36, 0]


def test_a_real_disk_can_be_looked_at() -> None:
    """The fields that are read are those of this system."""
    Disk(os.path.dirname(__file__), Report()).look()
