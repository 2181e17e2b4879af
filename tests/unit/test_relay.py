"""The relay in the box: what an agent opens at one port costs it nothing at the other."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from plandock.box.inside import output, relay


@pytest.fixture
def place(socket_folder: Path) -> Iterator[str]:
    """A Unix socket whose server answers each line with the same line."""
    where = str(socket_folder / "gateway.sock")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(where)
    listener.listen(128)

    def echo(client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            while data := client.recv(100):
                client.sendall(data)

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=echo, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield where
    listener.close()


def a_port() -> int:
    """A port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        number: int = free.getsockname()[1]
        return number


def answered(port: int) -> bool:
    """Whether a line comes back through the relay."""
    try:
        with socket.create_connection(("127.0.0.1", port), 240) as client:
            client.settimeout(240)
            client.sendall(b"hello\n")
            return client.recv(100) == b"hello\n"
    except OSError:
        return False


def test_a_flood_at_one_port_leaves_the_other_open(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One connection more than are taken is closed at once, and there is room again afterwards."""
    monkeypatch.setattr(relay, "MOST_CONNECTIONS", 5)
    one, other = a_port(), a_port()
    both = relay.Relay()
    both.listen(one, place)
    both.listen(other, place)
    held = [socket.create_connection(("127.0.0.1", one), 240) for _ in range(5)]
    for client in held:
        client.settimeout(240)
        client.sendall(b"x\n")
        assert client.recv(10) == b"x\n"
    assert not answered(one)
    assert answered(other)
    for client in held:
        client.close()
    end = time.monotonic() + 240
    while not answered(one):
        assert time.monotonic() < end
        time.sleep(0.02)


def test_the_relay_outlives_a_box_without_room_for_a_thread(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent that uses up the limit of processes loses one connection, not the way out."""
    port = a_port()
    relay.Relay().listen(port, place)
    assert answered(port)
    start = threading.Thread.start

    def no_room(thread: threading.Thread) -> None:
        monkeypatch.setattr(threading.Thread, "start", start)
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_room)
    assert not answered(port)
    assert answered(port)


def test_a_cut_drops_what_stands_before_the_gate(place: str) -> None:
    """A request that a process had begun to send does not go out when the gate opens again."""
    made, port = relay.Relay(), a_port()
    made.listen(port, place)
    with socket.create_connection(("127.0.0.1", port), 240) as client:
        client.settimeout(240)
        client.sendall(b"first\n")
        assert client.recv(100) == b"first\n"
        made.cut()
        client.sendall(b"second\n")
        client.settimeout(0.5)
        with pytest.raises(TimeoutError):
            client.recv(100)
        made.gate.set()
        client.settimeout(240)
        assert client.recv(100) == b""
    assert answered(port)  # a new connection goes through


def test_what_the_cli_has_said_is_looked_at_before_it_may_ask(place: str) -> None:
    """A busy reader shuts the way out in time for the request that follows."""
    made, port = relay.Relay(), a_port()
    made.listen(port, place)
    reading, writing = os.pipe()
    heard = output.Output(reading)
    made.settle = heard.settle
    looking = threading.Event()

    def look() -> None:
        for _ in heard.lines():
            looking.set()
            time.sleep(0.5)  # so busy is the machine
            made.cut()

    reader = threading.Thread(target=look)
    reader.start()
    with socket.create_connection(("127.0.0.1", port), 240) as client:
        client.settimeout(240)
        client.sendall(b"first\n")
        assert client.recv(100) == b"first\n"  # the control: nothing was said
        os.write(writing, b"credits pay\n")
        assert looking.wait(240)
        client.sendall(b"second\n")
        client.settimeout(2.0)
        with pytest.raises(TimeoutError):
            client.recv(100)
    os.close(writing)
    reader.join(240)
    heard.settle()  # of what has ended nothing is waited for
    os.close(reading)
    made.gate.set()
