"""The engine's daemon is stopped, or falls over with the whole machine, and comes back.

A private daemon (`tests.support.daemon`), the real CLI, the stand-in.  One run meets several of
these in a row: cheaper than a run for each, and harsher.  `make crash` goes through every step
that a run records.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from plandock.runs.model import Run, State
from plandock.runs.store import Store
from plandock.standin import StandIn
from tests.crash import crashing
from tests.crash.disturbing import POINTS, Disturber, at_each
from tests.support.daemon import Daemon
from tests.support.laptop import Laptop

pytestmark = [
    pytest.mark.timeout(3600),
    pytest.mark.e2e,
    pytest.mark.netns,
    pytest.mark.exclusive("private-daemon"),
]


class Restarts(Disturber):
    """Takes the engine away (``fall``) and starts it again once the run says that it waits; with
    ``after`` the user sees to that it goes on."""

    def __init__(
        self,
        laptop: Laptop,
        daemon: Daemon,
        fall: Callable[[Run], object],
        delays_s: Mapping[str, float],
        after: Callable[[], object] | None = None,
    ) -> None:
        super().__init__(laptop, delays_s)
        self.daemon, self.fall, self.after = daemon, fall, after
        self.shown = ""

    def disturb(self, store: Store, name: str) -> bool:
        """The engine falls, and comes back; false where the run was at its end already."""
        if store.get(self.run_id).state.final:
            return False
        self.fall(store.get(self.run_id))
        met = not store.get(self.run_id).state.final if self.after else self._waits(store)
        self.daemon.start()
        if self.after:
            self.after()
        return met

    def _waits(self, store: Store) -> bool:
        """Wait until the run waits for its engine; false where it came to its end instead."""
        end = time.monotonic() + crashing.PATIENCE_S
        # Its API may go first, with the gateway; then it waits for that before.
        while ((run := store.get(self.run_id)).state, run.reason) != (State.WAITING, "engine"):
            if run.state.final and not crashing.supervisor_of(run):
                return False
            assert time.monotonic() < end, (run, crashing.log_of(self.run_id, self.laptop))
            time.sleep(10 * crashing.POLL_S)
        assert "docker" in run.message, run
        if not self.shown:
            self.shown = self.laptop.plandock("ps").stdout
            assert "waiting (engine)" in self.shown
        return True


@pytest.fixture
def standin() -> Iterator[StandIn]:
    """The agent whose box is killed: it looks what it has done before it commits."""
    with StandIn(crashing.script(looks=True)) as server:
        yield server
        assert server.errors == []


@pytest.fixture
def moments(
    dice: random.Random, timeline_of_engine: Callable[[str], Mapping[str, float]]
) -> Callable[..., dict[str, float]]:
    """A factory: these steps at a random point soon after; in `make crash`, every one there is."""

    def draw(*some: str) -> dict[str, float]:
        # The last steps are the shortest.
        lengths = {name: 0.1 if name == some[-1] else 0.75 for name in some}
        if POINTS:
            lengths = dict(timeline_of_engine("docker"))
        return {name: dice.uniform(0.0, 0.8 * length) for name, length in lengths.items()}

    return draw


def test_a_run_goes_on_by_itself_after_each_stop_of_the_engine(
    make_laptop: Callable[..., Laptop],
    daemon: Daemon,
    cli: Path,
    moments: Callable[..., dict[str, float]],
) -> None:
    """SIGTERM to the daemon while staging, running and harvesting: waiting, then on, whole."""
    laptop, steps = make_laptop(cli), ("step workspace", "step working", "step bundle")
    met = at_each(
        lambda delays_s: Restarts(laptop, daemon, lambda run: daemon.stop(), delays_s or {}),
        moments(*steps),
        sure=lambda name: name in steps,
    )
    print(f"stopped and started at {met}")


def test_a_run_goes_on_by_itself_after_everything_of_the_engine_was_killed(
    make_laptop: Callable[..., Laptop],
    daemon: Daemon,
    cli: Path,
    moments: Callable[..., dict[str, float]],
) -> None:
    """SIGKILL to daemon, containerd, shims and containers at one moment, at three others."""
    laptop, steps = make_laptop(cli), ("step box", "step working", "step conversation")
    met = at_each(
        lambda delays_s: Restarts(laptop, daemon, lambda run: daemon.reboot(), delays_s or {}),
        moments(*steps),
        sure=lambda name: name in steps,
    )
    print(f"killed and started at {met}")


def test_after_a_reboot_of_the_machine_recover_goes_on(
    make_laptop: Callable[..., Laptop],
    daemon: Daemon,
    cli: Path,
    moments: Callable[..., dict[str, float]],
) -> None:
    """Supervisor and engine killed at one moment; with the engine back, `recover` is enough."""
    laptop, steps = make_laptop(cli), ("step working", "step bundle")

    def fall(run: Run) -> None:
        crashing.kill_supervisor(run)
        daemon.reboot()

    met = at_each(
        lambda delays_s: Restarts(
            laptop, daemon, fall, delays_s or {}, after=lambda: laptop.plandock("recover")
        ),
        moments(*steps),
        sure=lambda name: name in steps,
    )
    print(f"rebooted at {met}")


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
