"""How a message of the host's reaches the steward, run on this machine's own files."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from plandock.box.inside import tell

LONG_S = 300.0


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """The steward's place, without a steward."""
    made = tmp_path / "room"
    made.mkdir()
    return made


@pytest.mark.parametrize("fifo_is_there", [True, False])
def test_a_message_waits_for_a_steward_that_comes_later(room: Path, fifo_is_there: bool) -> None:
    """An exec can be quicker than the steward that was started just before it."""
    if fifo_is_there:
        os.mkfifo(room / "control")
    said: list[str] = []
    teller = threading.Thread(target=lambda: said.append(tell.tell(str(room), b"hello", LONG_S)))
    teller.start()
    end = time.monotonic() + LONG_S
    while not (names := [p for p in room.iterdir() if p.name != "control"]):
        assert teller.is_alive(), said
        assert time.monotonic() < end
        time.sleep(0.01)
    teller.join(0.2)  # as long as a steward may take to come
    assert teller.is_alive(), said
    if not fifo_is_there:
        os.mkfifo(room / "control")
    with open(room / "control", "rb") as control:
        assert control.readline().decode().strip() == str(names[0])
    teller.join(LONG_S)
    assert said == [""]
    assert names[0].read_bytes() == b"hello"
    assert names[0].stat().st_mode & 0o777 == 0o600


def test_a_message_that_nobody_hears_is_taken_away(room: Path) -> None:
    """It may hold the login."""
    assert "nobody listens" in tell.tell(str(room), b"secret", 0.0)
    assert list(room.iterdir()) == []
