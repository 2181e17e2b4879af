"""Following a run to its end, and disturbing it at every step and move that it records.

Which steps there are the run itself says, never a list.  One run is disturbed many times: cheaper
than a run for each, and harsher, for what the first left behind meets the second.
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Callable, Mapping

from plandock.runs.model import Run
from plandock.runs.store import Store
from tests.crash import crashing
from tests.crash.crashing import PATIENCE_S, POLL_S, label, supervisor_of
from tests.support.laptop import Laptop

POINTS = int(os.environ.get("CRASH_POINTS", "0"))
"""Random points inside each step, beside its beginning; 3 in `make crash`."""
SHARES = int(os.environ.get("CRASH_SHARES", "1"))
"""Into how many runs such points are dealt; 1 is the harshest and the cheapest."""
MOST_RUNS = 10
"""How many runs a moment may take that is over before a busy machine came to disturb it."""


class Disturber:
    """Hands a plan off, follows the run to its end, and sees that nothing was lost.

    At each step and move it disturbs the run (what that is, a subclass says), once, and again at
    the next of that name where it came too late.  ``delays_s`` names the steps and moves at which
    to do so, each with the time to let go by; by default it is done at the beginning of every one.
    ``most`` is how often a run bears it.
    """

    most = 1000

    def __init__(self, laptop: Laptop, delays_s: Mapping[str, float] | None = None) -> None:
        self.laptop, self.delays_s = laptop, delays_s
        self.seen: list[str] = []
        self.disturbed: list[str] = []
        self._refs = laptop.refs()
        self.run_id = crashing.hand_off(laptop)

    def disturb(self, store: Store, name: str) -> bool:
        """Do it now, at the step or move of this name; whether there was something to disturb."""
        raise NotImplementedError

    def keep_going(self, run: Run) -> None:
        """What the user does meanwhile."""

    @property
    def missed(self) -> list[str]:
        """The wanted steps and moves at which the run was not disturbed, in order."""
        wanted = self.delays_s if self.delays_s is not None else dict.fromkeys(self.seen)
        return [name for name in wanted if name not in self.disturbed]

    def to_the_end(self) -> None:
        """Follow the run to its final state, and see that all of its work is there."""
        end = time.monotonic() + PATIENCE_S
        with crashing.store_of(self.laptop) as store:
            while True:
                # In this order: of an ended run every event is seen.
                run = store.get(self.run_id)
                over = run.state.final and not supervisor_of(run)
                for name in self._names(store)[len(self.seen) :]:
                    self.seen.append(name)
                    self._at(store, name)
                if over:
                    break
                self.keep_going(run)
                words = (run, self.seen[-1:], self.disturbed)
                assert time.monotonic() < end, (*words, crashing.log_of(run.id, self.laptop))
                time.sleep(POLL_S)
        crashing.assert_nothing_lost(self.laptop, self.run_id, self._refs)

    def _names(self, store: Store) -> list[str]:
        return [name for e in store.events(self.run_id) if (name := label(e))]

    def _at(self, store: Store, name: str) -> None:
        delays = self.delays_s if self.delays_s is not None else {name: 0.0}
        if name not in delays or name in self.disturbed or len(self.disturbed) == self.most:
            return
        time.sleep(delays[name])
        if self.disturb(store, name):
            self.disturbed.append(name)
            print(f"{self.laptop.engine} {self.run_id}: disturbed at {name} +{delays[name]:.2f} s")


Start = Callable[[Mapping[str, float] | None], Disturber]


def at_each(
    start: Start, delays_s: Mapping[str, float] | None, sure: Callable[[str], bool]
) -> list[str]:
    """Disturb runs, as ``start`` begins them, at these moments (:class:`Disturber`); the steps at
    which it was done.  What a busy machine missed of the ``sure`` ones is tried with another run,
    and sooner."""
    done: list[str] = []
    for _ in range(MOST_RUNS):
        one = start(delays_s)
        one.to_the_end()
        done += one.disturbed
        missed = [name for name in one.missed if sure(name)]
        if not missed:
            return done
        delays_s = {name: (delays_s or {}).get(name, 0.0) / 2 for name in missed}
    raise AssertionError(f"never disturbed in time: {missed}")


def at_every_step(
    start: Start,
    timeline: Callable[[], Mapping[str, float]],
    *,
    sure: Callable[[str], bool],
    shares: int = SHARES,
    dice: random.Random,
) -> list[str]:
    """Disturb runs at the beginning of every step, and in `make crash` at random points inside
    each, as long as it is in the ``timeline``; the steps at which it was done."""
    done = at_each(start, None, sure)
    for _ in range(POINTS):
        for share in range(shares):
            some = list(timeline().items())[share::shares]
            done += at_each(start, {n: dice.uniform(0.0, 0.8 * s) for n, s in some}, sure)
    return done


class SupervisorKiller(Disturber):
    """Kills the supervisor; the user gives a command as often as it is gone."""

    _asked = 0.0

    def disturb(self, store: Store, name: str) -> bool:
        """SIGKILL, and wait until it is dead."""
        self._asked = 0.0
        return crashing.kill_supervisor(store.get(self.run_id))

    def keep_going(self, run: Run) -> None:
        """A command, at once and then every second, for as long as nobody drives the run."""
        if not supervisor_of(run) and time.monotonic() - self._asked > 1.0:
            crashing.recover(self.laptop)
            self._asked = time.monotonic()


ALWAYS = ("step box", "staging to running", "step working")
"""The steps at which each of the containers is there, or just coming up, in every run."""


class ContainerKiller(Disturber):
    """Kills one of the run's containers, and leaves the rest to the supervisor."""

    def __init__(
        self, laptop: Laptop, role: str, delays_s: Mapping[str, float] | None = None
    ) -> None:
        super().__init__(laptop, delays_s)
        self.container = f"plandock-{self.run_id}-{role}"
        if role == "box":
            self.most = 3  # the fourth start that is false would end the run

    def disturb(self, store: Store, name: str) -> bool:
        """SIGKILL; where it is just coming up, as soon as it is there, within this step."""
        names = self._names(store)
        while not self._engine("kill", "--signal", "KILL", self.container):
            if name not in ALWAYS or self._names(store) != names:
                return False
            time.sleep(10 * POLL_S)
        if store.get(self.run_id).state == "harvesting":
            # Nobody brings it back any more, and the next step is to have one to lose.
            self._engine("start", self.container)
        return True

    def _engine(self, *words: str) -> bool:
        argv = [self.laptop.engine, *words]
        return subprocess.run(argv, capture_output=True, check=False).returncode == 0
