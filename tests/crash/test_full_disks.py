"""The disk is full: in the engine, in the box, on the host.  Each says so, and nothing is lost.

Each is a real file system that is really full: the private daemon's own disk, the box's tmpfs, a
small tmpfs with the user's whole home.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from plandock.standin import Script, StandIn, ToolCall, bash, commit, execution_scene, write_file
from tests.crash import crashing
from tests.crash.crashing import FILES, FINAL, SUBJECTS, assert_nothing_lost
from tests.support.daemon import Daemon
from tests.support.laptop import Laptop
from tests.support.machine import as_root
from tools.setup.commands import environment

pytestmark = [pytest.mark.timeout(1800), pytest.mark.e2e, pytest.mark.netns]

PATIENCE_S = 600.0


def work(*between: Any) -> Script:
    """A commit, then what fills a disk and takes its time, then the rest of `crashing.script`."""
    one, *others = zip(("one.txt", "two.txt", "three.txt"), SUBJECTS, strict=True)
    steps: list[Any] = [write_file(one[0], FILES[one[0]]), commit(one[1]), *between]
    for name, subject in others:
        steps += [write_file(name, FILES[name]), commit(subject)]
    steps += [write_file(n, FILES[n]) for n in ("left.txt", "src/left.txt")]
    return Script(scenes=(execution_scene(steps),))


def until(laptop: Laptop, what: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The newest run as `show` has it, as soon as it is so."""
    end = time.monotonic() + PATIENCE_S
    while not what(run := laptop.json("show", "last")):
        assert time.monotonic() < end, run
        time.sleep(0.2)
    return dict(run)


def test_a_full_disk_of_the_engine_is_waited_for_while_the_agent_works(
    make_laptop: Callable[..., Laptop], daemon: Daemon, cli: Path, standin: StandIn
) -> None:
    """Written full by the agent itself: waiting (disk), no request wasted; with room it goes on."""
    laptop = make_laptop(cli)
    refs = laptop.refs()
    fill = bash("dd if=/dev/zero of=junk.bin bs=1M count=600; sync")
    hold = bash("sleep 20")
    standin.script = work(fill, hold, bash("rm -f junk.bin"))
    daemon.fill(leave_bytes=400 << 20)
    run = crashing.hand_off(laptop)
    found = until(laptop, lambda r: r["state"] in ("waiting", *FINAL))
    assert (found["state"], found["reason"]) == ("waiting", "disk"), crashing.log_of(run, laptop)
    assert "the engine's disk is full" in found["message"]
    assert "waiting (disk)" in laptop.plandock("ps").stdout
    shown = laptop.plandock("show", run).stdout
    assert "goes on by itself" in shown
    asked = len(standin.model_requests)
    time.sleep(10.0)
    assert until(laptop, lambda r: True)["state"] == "waiting"
    assert len(standin.model_requests) == asked
    daemon.make_room()
    crashing.until_over(laptop, run)
    assert_nothing_lost(laptop, run, refs)


def test_a_full_disk_of_the_engine_is_waited_for_at_the_harvest(
    make_laptop: Callable[..., Laptop], daemon: Daemon, cli: Path, standin: StandIn
) -> None:
    """What is not committed yet can only be committed with room: waiting, and then all of it."""
    laptop = make_laptop(cli)
    refs = laptop.refs()
    standin.script = work()
    run = crashing.hand_off(laptop)
    crashing.until_event(laptop, run, "running to harvesting")
    daemon.fill(leave_bytes=0)
    found = until(laptop, lambda r: r["state"] in ("waiting", *FINAL))
    assert (found["state"], found["reason"]) == ("waiting", "disk"), crashing.log_of(run, laptop)
    assert "disk" in found["message"]
    daemon.make_room()
    crashing.until_over(laptop, run)
    assert_nothing_lost(laptop, run, refs)


def test_scratch_that_is_full_costs_the_agent_its_scratch_alone(
    make_laptop: Callable[..., Laptop], cli: Path, standin: StandIn
) -> None:
    """/tmp is full to the last byte, then the home folder: the agent works on, in one box."""
    laptop = make_laptop(cli)
    refs = laptop.refs()
    command = "fallocate -l $(df -k --output=avail %s | tail -n1)K %s/fill; df -k %s >%s.txt"
    # The CLI's own limit is two minutes, within which a busy machine may not have written it all.
    fill_tmp, fill_home = (
        ToolCall("Bash", {"command": words, "description": "Fill it", "timeout": 600_000})
        for words in (
            command % ("/tmp", "/tmp", "/tmp", "tmp"),
            "rm /tmp/fill; " + command % ("$HOME", "$HOME", "$HOME", "home"),
        )
    )
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


def fill(disk: Path) -> None:
    """To the last byte."""
    with (disk / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 20))
        except OSError:
            pass
    assert os.statvfs(disk).f_bavail == 0


def make_room(disk: Path) -> None:
    """All of it again."""
    (disk / "filler").unlink()


def assert_no_half_records(laptop: Laptop) -> None:
    """The store is sound, and so is each run's own record beside it."""
    with crashing.store_of(laptop) as store:
        assert store.faults() == []
    for record in (laptop.home / ".local/state/plandock/runs").glob("*/run.json"):
        assert json.loads(record.read_text())["id"] == record.parent.name


def test_a_full_disk_of_the_users_is_waited_for_at_every_stage(
    small_disk: Path, make_laptop: Callable[..., Laptop], cli: Path, standin: StandIn
) -> None:
    """Home, store and repository: a hand-off is refused in a line, and a run goes on with room."""
    laptop = make_laptop(cli, root=small_disk)
    refs = laptop.refs()
    standin.script = work(bash("sleep 4"))
    laptop.plandock("ps")

    fill(small_disk)
    refused = laptop.plandock("run", "--plan", "-", stdin="# Plan\n", check=False)
    assert refused.returncode == 1, refused
    assert len(refused.stderr.splitlines()) == 2, refused.stderr
    assert "No space left" in refused.stderr or "is full" in refused.stderr
    assert "next: make room" in refused.stderr
    make_room(small_disk)
    assert laptop.runs() == []
    assert laptop.repo.git("for-each-ref", "refs/plandock") == ""

    run = crashing.hand_off(laptop)
    for moment in ("step working", "running to harvesting"):
        crashing.until_event(laptop, run, moment)
        with crashing.store_of(laptop) as store:
            supervisor = crashing.supervisor_of(store.get(run))
        # A busy machine may take its time to fill a disk: no harvest gets ahead of it.
        os.kill(supervisor, signal.SIGSTOP)
        try:
            fill(small_disk)
        finally:
            os.kill(supervisor, signal.SIGCONT)
        time.sleep(6.0)
        for words in (["ps"], ["show", run]):
            shown = laptop.plandock(*words)
            assert f"{small_disk}" in shown.stderr
            assert "is full: runs go on by themselves once there is room" in shown.stderr
        assert laptop.json("show", run)["state"] not in FINAL
        assert_no_half_records(laptop)
        make_room(small_disk)
    crashing.until_over(laptop, run)
    assert_nothing_lost(laptop, run, refs)
    assert_no_half_records(laptop)
