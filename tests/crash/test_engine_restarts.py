"""The engine's daemon is stopped, or falls over with the whole machine, and comes back.

A private daemon (`tests.support.daemon`), the real CLI, the stand-in.  One run meets several of
these in a row: cheaper than a run for each, and harsher.  `make crash` goes through every step
that a run records.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from plandock.runs import alive
from plandock.runs.model import Run, State
from tests.crash import crashing
from tests.crash.crashing import FINAL, Moment, assert_nothing_lost
from tests.support.daemon import Daemon
from tests.support.laptop import Laptop

pytestmark = [pytest.mark.timeout(1800), pytest.mark.e2e, pytest.mark.netns]

EVERY_STEP = "CRASH_POINTS" in os.environ
PATIENCE_S = 600.0


class Restarts:
    """Follows a run to its end, and takes the engine away from it at each of some moments."""

    def __init__(self, laptop: Laptop, daemon: Daemon, moments: Sequence[Moment]) -> None:
        self.laptop, self.daemon = laptop, daemon
        self.pending = {m.label: m for m in moments}
        self.met: list[str] = []
        self.run_id = crashing.hand_off(laptop)

    def to_the_end(self, fall: Callable[[Run], None], *, by_itself: bool = True) -> None:
        """The run's course; at each moment ``fall``, and the daemon starts again afterwards."""
        end = time.monotonic() + PATIENCE_S
        seen = 0
        with crashing.store_of(self.laptop) as store:
            while True:
                run, events = store.get(self.run_id), store.events(self.run_id)
                for event in events[seen:]:
                    moment = self.pending.pop(crashing.label(event), None)
                    if moment is None or run.state.final:
                        continue
                    time.sleep(moment.after_s)
                    if (run := store.get(self.run_id)).state.final:
                        continue  # the last steps take moments only
                    fall(run)
                    self.met.append(f"{moment.label} +{moment.after_s:.1f} s ({run.state})")
                    if by_itself:
                        self._is_waiting()
                    self.daemon.start()
                    if not by_itself:
                        self.laptop.plandock("recover")
                    end = time.monotonic() + PATIENCE_S
                seen = len(events)
                if run.state in FINAL and not crashing.supervisor_of(run):
                    return
                assert time.monotonic() < end, (
                    run,
                    self.met,
                    crashing.log_of(self.run_id, self.laptop),
                )
                time.sleep(crashing.POLL_S)

    def _is_waiting(self) -> None:
        """While the engine is away, the run says that it waits for it (if it has not ended)."""
        end = time.monotonic() + PATIENCE_S
        while True:
            run = self.laptop.json("show", self.run_id)
            if run["state"] in FINAL:
                return
            if run["state"] == State.WAITING:
                assert run["reason"] == "engine", run
                assert "docker" in run["message"]
                assert "waiting (engine)" in self.laptop.plandock("ps").stdout
                return
            assert time.monotonic() < end, (run, crashing.log_of(self.run_id, self.laptop))
            time.sleep(0.1)


def moments_of(laptop: Laptop, dice: random.Random, *some: str) -> list[Moment]:
    """Those labels at a random point soon after; in `make crash`, every one there is."""
    if not EVERY_STEP:
        # The last steps are the shortest.
        return [Moment(n, dice.uniform(0.0, 0.1 if n == some[-1] else 0.6)) for n in some]
    run = crashing.hand_off(laptop)
    laptop.plandock("wait", run)
    course = crashing.course_of(laptop, run)
    return [Moment(name, dice.uniform(0.0, 0.8 * length)) for name, length in course]


def test_a_run_goes_on_by_itself_after_each_stop_of_the_engine(
    make_laptop: Callable[..., Laptop], daemon: Daemon, cli: Path, dice: random.Random
) -> None:
    """SIGTERM to the daemon while staging, running and harvesting: waiting, then on, whole."""
    laptop = make_laptop(cli)
    moments = moments_of(laptop, dice, "step workspace", "step working", "step bundle")
    refs = laptop.refs()
    restarts = Restarts(laptop, daemon, moments)
    restarts.to_the_end(lambda run: daemon.stop())
    print(f"stopped and started at {restarts.met}")
    assert len(restarts.met) >= 3, crashing.log_of(restarts.run_id, laptop)
    assert_nothing_lost(laptop, restarts.run_id, refs)


def test_a_run_goes_on_by_itself_after_everything_of_the_engine_was_killed(
    make_laptop: Callable[..., Laptop], daemon: Daemon, cli: Path, dice: random.Random
) -> None:
    """SIGKILL to daemon, containerd, shims and containers at one moment, at three others."""
    laptop = make_laptop(cli)
    moments = moments_of(laptop, dice, "step box", "step working", "step conversation")
    refs = laptop.refs()
    restarts = Restarts(laptop, daemon, moments)
    restarts.to_the_end(lambda run: daemon.reboot())
    print(f"killed and started at {restarts.met}")
    assert len(restarts.met) >= 3, crashing.log_of(restarts.run_id, laptop)
    assert_nothing_lost(laptop, restarts.run_id, refs)


def test_after_a_reboot_of_the_machine_recover_goes_on(
    make_laptop: Callable[..., Laptop], daemon: Daemon, cli: Path, dice: random.Random
) -> None:
    """Supervisor and engine killed at one moment; with the engine back, `recover` is enough."""
    laptop = make_laptop(cli)
    moments = moments_of(laptop, dice, "step working", "step bundle")
    refs = laptop.refs()
    restarts = Restarts(laptop, daemon, moments)

    def fall(run: Run) -> None:
        if pid := crashing.supervisor_of(run):
            os.kill(pid, signal.SIGKILL)
        daemon.reboot()
        while alive.is_same(pid, run.supervisor_started):
            time.sleep(crashing.POLL_S)

    restarts.to_the_end(fall, by_itself=False)
    print(f"rebooted at {restarts.met}")
    assert len(restarts.met) >= 2, crashing.log_of(restarts.run_id, laptop)
    assert_nothing_lost(laptop, restarts.run_id, refs)


def test_a_hand_off_without_an_engine_is_refused_in_a_line_and_leaves_nothing(
    make_laptop: Callable[..., Laptop], daemon: Daemon, cli: Path
) -> None:
    """Exit code 20, what is wrong and what to do; no run, no ref; with the engine back it goes."""
    laptop = make_laptop(cli)
    refs = laptop.repo.git("for-each-ref")
    daemon.stop()
    refused = laptop.plandock("run", "--plan", "-", stdin="# Plan\n", check=False)
    assert refused.returncode == 20
    assert len(refused.stderr.splitlines()) == 2
    assert "docker is not running" in refused.stderr
    assert "next: start it" in refused.stderr
    assert refused.stdout == ""
    assert laptop.runs() == []
    assert laptop.repo.git("for-each-ref") == refs
    daemon.start()
    assert laptop.plandock("run", "--wait", "--plan", "-", stdin="# Plan\n").returncode == 0
