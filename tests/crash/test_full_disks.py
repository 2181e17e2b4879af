"""The disk is full: in the engine, in the box, on the host.  Each says so, and nothing is lost.

Each is a real file system that is really full: the private daemon's own disk, the box's tmpfs, a
small tmpfs with the user's whole home.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from plandock.runs.model import Run, State
from plandock.standin import Script, StandIn, ToolCall, bash, execution_scene, write_file
from tests.crash import crashing
from tests.crash.crashing import FILES, FINAL, PATIENCE_S, SUBJECTS, assert_nothing_lost, once
from tests.support.daemon import Daemon
from tests.support.heldrun import GO
from tests.support.laptop import Laptop
from tests.support.machine import as_root
from tools.setup.commands import environment

pytestmark = [pytest.mark.timeout(3600), pytest.mark.e2e, pytest.mark.netns]

WAITS = "still waits (disk)"
LOOKS = 3
"""How often a supervisor has to have met a full disk before it is made out what it does."""


def work(*between: Any) -> Script:
    """A commit, then what fills a disk and takes its time, then the rest of `crashing.script`."""
    one, *others = zip(("one.txt", "two.txt", "three.txt"), SUBJECTS, strict=True)
    # On a full disk the conversation is cut off as well: what was done may be asked for again.
    steps: list[Any] = [write_file(one[0], FILES[one[0]]), bash(once(one[1])), *between]
    for name, subject in others:
        steps += [write_file(name, FILES[name]), bash(once(subject))]
    steps += [write_file(n, FILES[n]) for n in ("left.txt", "src/left.txt")]
    return Script(scenes=(execution_scene(steps),))


def slow(command: str) -> ToolCall:
    """A command that may take longer than the CLI's own two minutes on a busy machine."""
    return ToolCall("Bash", {"command": command, "description": "Wait", "timeout": 600_000})


def until(condition: Callable[[], Any], laptop: Laptop, run_id: str) -> None:
    """Wait until it is so."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, crashing.log_of(run_id, laptop)
        time.sleep(0.05)


def until_it_waits(laptop: Laptop, run_id: str) -> Run:
    """The run as soon as it waits for room, as the store has it."""
    with crashing.store_of(laptop) as store:

        def waits() -> bool:
            run = store.get(run_id)
            assert run.state not in FINAL, (run, crashing.log_of(run_id, laptop))
            return (run.state, run.reason) == (State.WAITING, "disk")

        until(waits, laptop, run_id)
        return store.get(run_id)


def until_said(laptop: Laptop, run_id: str, *words: str) -> None:
    """Wait until the supervisor has said one of these as often as it takes, from now on."""
    log = crashing.run_folder(laptop, run_id) / "supervisor.log"

    def said() -> int:
        lines = log.read_text(errors="replace").splitlines()
        return sum(any(x in line for x in words) for line in lines)

    before = said()
    until(lambda: said() >= before + LOOKS, laptop, run_id)


@pytest.fixture
def harvest_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file, for the laptops of this test: as long as it is there, no harvest begins."""
    gate, tools = tmp_path / "gate", tmp_path / "tools"
    gate.touch()
    tools.mkdir()
    client = tools / "docker"
    # It begins with the removal of what an earlier one has left.
    wait = f"while [ -e {shlex.quote(str(gate))} ]; do sleep 0.1; done"
    real = shlex.quote(shutil.which("docker") or "")
    client.write_text(f'#!/bin/sh\ncase "$*" in rm*-harvest) {wait} ;; esac\nexec {real} "$@"\n')
    client.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    yield gate
    gate.unlink(missing_ok=True)


@pytest.mark.exclusive("private-daemon")
def test_a_full_disk_of_the_engine_is_waited_for_while_the_agent_works(
    make_laptop: Callable[..., Laptop], daemon: Daemon, cli: Path, standin: StandIn
) -> None:
    """Written full by the agent itself: waiting (disk), no request wasted; with room it goes on."""
    laptop = make_laptop(cli)
    refs = laptop.refs()
    room = "$(df -k --output=avail . | tail -n1)"
    # Once: where it was cut off before the conversation knew of it, it is called again.
    all_of_it = f"fallocate -l {room}K junk.bin; cat /dev/zero >>junk.bin"
    fill = slow(f"test -e full || {{ touch full; {all_of_it}; }}")
    # Again in the second box, where there is room.
    hold = slow(f"while [ {room} -lt {600 << 10} ]; do sleep 0.2; done")
    standin.script = work(fill, hold, bash("rm -f junk.bin full"))
    daemon.fill(leave_bytes=400 << 20)
    run = crashing.hand_off(laptop)
    found = until_it_waits(laptop, run)
    assert "the engine's disk is full" in found.message
    assert "waiting (disk)" in laptop.plandock("ps").stdout
    shown = laptop.plandock("show", run).stdout
    assert "goes on by itself" in shown
    asked = len(standin.model_requests)
    until_said(laptop, run, WAITS)
    assert laptop.json("show", run)["state"] == "waiting"
    assert len(standin.model_requests) == asked
    daemon.make_room()
    crashing.until_over(laptop, run)
    assert_nothing_lost(laptop, run, refs)


@pytest.mark.exclusive("private-daemon")
def test_a_full_disk_of_the_engine_is_waited_for_at_the_harvest(
    make_laptop: Callable[..., Laptop],
    daemon: Daemon,
    harvest_gate: Path,
    cli: Path,
    standin: StandIn,
) -> None:
    """What is not committed yet can only be committed with room: waiting, and then all of it."""
    laptop = make_laptop(cli)
    refs = laptop.refs()
    standin.script = work()
    run = crashing.hand_off(laptop)
    crashing.until_event(laptop, run, "running to harvesting")
    daemon.fill(leave_bytes=0)
    harvest_gate.unlink()
    assert "disk" in until_it_waits(laptop, run).message
    until_said(laptop, run, WAITS)
    daemon.make_room()
    crashing.until_over(laptop, run)
    assert_nothing_lost(laptop, run, refs)


def fill_up(place: str, shown: str) -> str:
    """A command that fills the file system of a folder, and writes down what `df` says of it then.

    The CLI writes there meanwhile: what is free may not be so a moment later, and then `fallocate`
    takes nothing at all.  `cat` ends where there is no room, whoever has taken it.
    """
    most = "fallocate -l $(df -k --output=avail . | tail -n1)K fill"
    return f"(cd {place}; {most}; cat /dev/zero >>fill); df -k {place} >{shown}"


def test_scratch_that_is_full_costs_the_agent_its_scratch_alone(
    make_laptop: Callable[..., Laptop], cli: Path, standin: StandIn
) -> None:
    """/tmp is full to the last byte, then the home folder: the agent works on, in one box."""
    laptop = make_laptop(cli)
    refs = laptop.refs()
    fill_tmp = slow(fill_up("/tmp", "tmp.txt"))
    fill_home = slow(f"rm /tmp/fill; {fill_up('$HOME', 'home.txt')}")
    standin.script = work(fill_tmp, write_file("zero.txt", "0"), fill_home)
    run = crashing.hand_off(laptop)
    crashing.until_over(laptop, run)
    found = assert_nothing_lost(laptop, run, refs)
    assert found.attempt == 1
    for name in ("tmp", "home"):
        assert "100%" in laptop.repo.git("show", f"{found.branch}:{name}.txt")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system in memory, mounted by this test, that is soon full."""
    place = tmp_path / "small"
    place.mkdir()
    owner = f"uid={os.getuid()},gid={os.getgid()},mode=0700"
    words = ["mount", "-t", "tmpfs", "-o", f"size=96m,{owner}", "tmpfs", str(place)]
    subprocess.run([*as_root(), *words], env=environment(), check=True)
    yield place
    words = ["umount", "--lazy", str(place)]
    subprocess.run([*as_root(), *words], env=environment(), check=True)


@contextlib.contextmanager
def full(disk: Path) -> Iterator[None]:
    """Full to the last byte, also of what others give back meanwhile."""
    over, zeros = threading.Event(), bytes(1 << 20)
    with (disk / "filler").open("wb", buffering=0) as file:

        def take() -> None:
            try:
                while True:
                    file.write(zeros)
            except OSError:
                pass

        def keep() -> None:
            while not over.wait(0.002):
                take()

        take()
        assert os.statvfs(disk).f_bavail == 0
        keeper = threading.Thread(target=keep)
        keeper.start()
        try:
            yield
        finally:
            over.set()
            keeper.join()
            (disk / "filler").unlink()


def assert_no_half_records(laptop: Laptop) -> None:
    """The store is sound, and so is each run's own record beside it."""
    with crashing.store_of(laptop) as store:
        assert store.faults() == []
    for record in (laptop.home / ".local/state/plandock/runs").glob("*/run.json"):
        assert json.loads(record.read_text())["id"] == record.parent.name


def test_a_full_disk_of_the_users_is_waited_for_at_every_stage(
    small_disk: Path,
    make_laptop: Callable[..., Laptop],
    harvest_gate: Path,
    cli: Path,
    standin: StandIn,
) -> None:
    """Home, store and repository: a hand-off is refused in a line, and a run goes on with room."""
    laptop = make_laptop(cli, root=small_disk)
    refs = laptop.refs()
    standin.script = work(slow(f"until [ -e {GO} ]; do sleep 0.2; done"))
    laptop.plandock("ps")

    with full(small_disk):
        refused = laptop.plandock("run", "--plan", "-", stdin="# Plan\n", check=False)
    assert refused.returncode == 1, refused
    assert len(refused.stderr.splitlines()) == 2, refused.stderr
    assert "No space left" in refused.stderr or "is full" in refused.stderr
    assert "next: make room" in refused.stderr
    assert laptop.runs() == []
    assert laptop.repo.git("for-each-ref", "refs/plandock") == ""

    run = crashing.hand_off(laptop)
    box = ["docker", "exec", "--user", "1000:1000", f"plandock-{run}-box", "touch", GO]
    for moment, let_go in (
        ("step working", lambda: subprocess.run(box, check=True)),
        ("running to harvesting", harvest_gate.unlink),
    ):
        crashing.until_event(laptop, run, moment)
        log = crashing.run_folder(laptop, run) / "supervisor.log"
        # Room for its words alone, so that it can be seen what it meets.
        words = ["fallocate", "--keep-size", "--offset", f"{log.stat().st_size}", "--length", "64K"]
        subprocess.run([*words, str(log)], check=True)
        with full(small_disk):
            let_go()
            until_said(laptop, run, "the store cannot be written, trying again", WAITS)
            for command in (["ps"], ["show", run]):
                shown = laptop.plandock(*command)
                assert f"{small_disk}" in shown.stderr
                assert "is full: runs go on by themselves once there is room" in shown.stderr
            assert laptop.json("show", run)["state"] not in FINAL
            assert_no_half_records(laptop)
    crashing.until_over(laptop, run)
    assert_nothing_lost(laptop, run, refs)
    assert_no_half_records(laptop)
