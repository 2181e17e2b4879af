"""Attacks: using up what the box has, or the machine; by exec in a box, one thing at a time.

Whole runs that do the same by the real CLI's Bash tool are in ``test_exhaustion_runs.py``.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from plandock.engines import detect
from plandock.engines.command_line import CommandLineEngine
from plandock.engines.protocol import Tmpfs
from plandock.proc import Finished
from plandock.settings.keys import Settings
from tests.security.arena import plandock_image
from tests.security.executor import Executor, ExecutorEnded
from tests.security.exhaustion_payloads import (
    COUNTED,
    MEMORY,
    MIB,
    PROCESSES,
    ROOMY_MEMORY,
    ROOMY_PROCESSES,
    USES,
)
from tests.security.payloads import Payload, cases, python
from tests.security.privilege_programs import GAINED
from tests.support.boxes import Box

pytestmark = [
    pytest.mark.split_by("engine"),
    pytest.mark.timeout(1200),
    pytest.mark.skipif(sys.platform != "linux", reason="an engine on a machine of its own differs"),
]


@dataclass
class Room:
    """The box that is attacked, one with larger limits for the controls, and a neighbour."""

    box: Box
    roomy: Box
    neighbour: Box
    since: object = None
    executors: dict[str, Executor] = field(default_factory=dict)

    def close(self) -> None:
        """Remove all three."""
        for executor in self.executors.values():
            executor.close()
        for box in (self.box, self.roomy, self.neighbour):
            box.remove()

    def run(self, box: Box, command: str) -> Finished:
        """Run a command of bash as the agent's user in a box."""
        if box.name not in self.executors:
            vector = box.engine.exec_command(box.name, (), user="1000:1000", tty=False)
            self.executors[box.name] = Executor(vector)
        return self.executors[box.name].run(command, limit_s=600.0)

    def use(self, box: Box, payload: Payload) -> Finished:
        """Run a payload in a box, which begins anew where it did not end well: what is left of it
        may be memory, and that of a box goes with the box."""
        try:
            done = self.run(box, payload.command.replace("{work}", f"'{box.run.repo}'"))
        except ExecutorEnded as error:
            done = Finished((), 137, b"", str(error).encode())
        if not done.ok or payload.name.startswith("system-v") or not box.alive():
            self.begin_anew(box)
        return done

    def begin_anew(self, box: Box) -> None:
        """End a box and start it again."""
        box.engine.kill(box.name)
        box.engine.wait(box.name, 600.0)
        if executor := self.executors.pop(box.name, None):
            executor.close()
        box.engine.start(box.name)

    def neighbour_lives(self) -> bool:
        """Whether the neighbour is the same as ever, and can start programs."""
        state = self.neighbour.engine.inspect(self.neighbour.name)
        same = state is not None and state.running and state.started_at == self.since
        return same and self.run(self.neighbour, "echo up").text == "up\n"


@pytest.fixture(scope="module")
def rooms() -> Iterator[dict[str, Room]]:
    """The boxes of this file, by engine."""
    made: dict[str, Room] = {}
    yield made
    for room in made.values():
        room.close()


@pytest.fixture
def room(engine: str, rooms: dict[str, Room], base_image: str) -> Room:
    """Three boxes on one engine."""
    if engine not in rooms:
        here = detect.choose(engine)
        assert isinstance(here, CommandLineEngine)
        image = plandock_image(here, base_image)
        small = Settings(memory=MEMORY, pids=PROCESSES)
        large = Settings(memory=ROOMY_MEMORY, pids=ROOMY_PROCESSES)
        box, roomy, neighbour = (Box(here, image, x) for x in (small, large, small))
        rooms[engine] = made = Room(box, roomy, neighbour)
        made.box.start()
        state = here.inspect(made.neighbour.start().name)
        assert state is not None
        made.since = state.started_at
        more: dict[str, Any] = {"ulimits": (), "shm_bytes": 256 * MIB}
        larger = (Tmpfs("/run/plandock", 512 * MIB), *made.roomy.spec.tmpfs[:-1])
        made.roomy.start(tmpfs=larger, **more)
    return rooms[engine]


@pytest.mark.parametrize("payload", cases(USES))
def test_what_is_used_up_has_an_end_and_is_the_boxs_own(room: Room, payload: Payload) -> None:
    """Less than was asked for is given, and a neighbour lives on; with larger limits it is given
    (the positive control)."""
    said = room.use(room.box, payload)
    assert GAINED not in said.text, said
    assert room.neighbour_lives()
    said = room.use(room.roomy, payload)
    assert GAINED in said.text, said


@pytest.mark.parametrize("what", COUNTED)
def test_what_the_kernel_counts_is_counted_for_each_box(room: Room, what: str) -> None:
    """Used up in one box, it is used up there (the positive control), and there is some next
    door."""
    use, ask = COUNTED[what]
    box = room.box
    argv = ["timeout", "500", "python3", "-I", "-c", use]
    child = box.engine.open_exec(box.name, argv, user="1000:1000")
    assert child.stdout is not None
    assert child.stdin is not None
    try:
        assert child.stdout.readline() == b"held\n"
        assert room.run(box, python(ask)).text == "none left\n"
        assert room.run(room.neighbour, python(ask)).text == f"{GAINED}\n"
    finally:
        child.kill()
        child.wait()
        for stream in (child.stdin, child.stdout, child.stderr):
            if stream is not None:
                stream.close()
        room.begin_anew(box)


# How often the group of processes was full, by the kernel's count (cgroup v1 and v2).
EVENTS = ("/sys/fs/cgroup/pids/pids.events", "/sys/fs/cgroup/pids.events")


def counted(engine: str, box: str) -> str:
    """The line of that count where it is above nothing; also when a box is too full to ask."""
    argv = [engine, "exec", "--user", "1000:1000", box, "grep", "-hsE", "max [1-9]", *EVENTS]
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout


BOMB = "b() { b | b & }; b; sleep 0.2"


def test_a_fork_bomb_stays_in_its_box_and_ends_with_it(room: Room) -> None:
    """It goes on for as long as the box does; the neighbour and the host can start programs, and
    the engine ends the box."""
    box = room.box
    box.engine.exec(box.name, ["bash", "-c", BOMB], user="1000:1000", timeout_s=600.0, check=False)
    end = time.monotonic() + 600
    while not (full := "max" in counted(box.engine.name, box.name)) and time.monotonic() < end:
        time.sleep(0.2)
    assert full, "the bomb did not take every process of the box (positive control)"
    assert room.neighbour_lives()
    box.engine.kill(box.name)
    assert box.engine.wait(box.name, 600.0) is not None
    assert not box.alive()
    assert room.neighbour_lives()
