"""The gateway and the box are killed at every step that a run records; the run goes on by itself.

Which steps there are is found by an undisturbed run; where the container is not there at a step,
there is nothing to kill.  No command of the user's is given in between: the supervisor lives, and
sees to it.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from plandock.runs.store import Store
from plandock.standin import StandIn
from tests.crash import crashing
from tests.crash.crashing import Killer, Moment, assert_nothing_lost, label
from tests.support.laptop import Laptop

pytestmark = [pytest.mark.timeout(1800), pytest.mark.e2e]

# Random points inside each step, beside its beginning: 1 in `make test`, 3 in `make crash`.
POINTS = int(os.environ.get("CRASH_POINTS", "1"))
# Into how many runs the kills of one round are dealt: a fifth death in a row would end a run.
SHARES = 2
# The steps at which each of the containers is there, or just coming up, in every run.
ALWAYS = {"staging to running", "step box", "step working"}


class ContainerKiller(Killer):
    """Kills one of the run's containers at every one of the given moments in turn."""

    recovers = False

    def __init__(self, laptop: Laptop, role: str, moments: list[Moment]) -> None:
        super().__init__(laptop, crashing.hand_off(laptop), moments)
        self.role = role

    def _kill(self, store: Store, moment: Moment) -> None:
        name = f"plandock-{self.run_id}-{self.role}"
        argv = [self.laptop.engine, "kill", "--signal", "KILL", name]
        came = self._course(store)
        # It may just be coming up: until the next step there may be one to kill.
        while subprocess.run(argv, capture_output=True, check=False).returncode:
            if self._course(store) != came or store.get(self.run_id).state.final:
                self.missed.append(moment.label)
                return
        state = store.get(self.run_id).state
        self.killed.append(moment.label)
        words = f"{moment.label} +{moment.after_s * 1000:.0f} ms (state {state})"
        print(f"{self.laptop.engine} {self.run_id}: killed the {self.role} at {words}")

    def _course(self, store: Store) -> list[str]:
        return [name for e in store.events(self.run_id) if (name := label(e))]


@pytest.mark.parametrize("role", ["gateway", "box"])
def test_a_run_whose_container_is_killed_at_any_step_goes_on_by_itself(
    make_laptop: Callable[..., Laptop],
    cli: Path,
    standin: StandIn,
    engine: str,
    role: str,
    dice: random.Random,
) -> None:
    """SIGKILL at each step that has one, and inside each: all is on the branch, nothing is left."""
    standin.script = crashing.script(looks=role == "box")
    laptop = make_laptop(cli, engine)
    course = crashing.undisturbed(laptop)
    killed: list[str] = []
    for point in range(POINTS + 1):
        # A step may be over before its moment came; then once more, with other moments.
        left, tries = list(course), 0
        while left and tries < 5:
            moments = [Moment(n, dice.uniform(0.0, 0.8 * s) if point else 0.0) for n, s in left]
            shares = SHARES if not tries else 1
            for share in range(shares):
                refs = laptop.refs()
                killer = ContainerKiller(laptop, role, moments[share::shares])
                killer.to_the_end()
                assert_nothing_lost(laptop, killer.run_id, refs)
                killed += killer.killed
            left = [(n, s) for n, s in left if n in ALWAYS and killed.count(n) <= point]
            tries += 1
        assert not left, f"never killed in time: {left}"
    print(f"{engine}: {role}: {len(killed)} kills at {sorted(set(killed))}, 0 lost")
    assert len(killed) >= len(ALWAYS) * (POINTS + 1)
