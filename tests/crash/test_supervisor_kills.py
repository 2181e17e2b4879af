"""The supervisor is killed at every step that it records, and in the middle of each.

Which steps there are is found by an undisturbed run.  One run is killed at several of them in a
row (killed, recovered, killed again): cheaper than a run for each, and harsher, for what a first
death left behind meets the second.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.crash import crashing
from tests.crash.crashing import Killer, Moment, assert_nothing_lost
from tests.support.laptop import Laptop

pytestmark = [pytest.mark.timeout(1800), pytest.mark.e2e]

# Random points inside each step: 1 in `make test`, 3 in `make crash`.
POINTS = int(os.environ.get("CRASH_POINTS", "1"))
# Into how many runs the kills of one round are dealt; 1 is the harshest and the cheapest.
SHARES = int(os.environ.get("CRASH_SHARES", "1"))


def test_a_supervisor_killed_at_any_step_loses_nothing(
    make_laptop: Callable[..., Laptop], cli: Path, engine: str, dice: random.Random
) -> None:
    """After SIGKILL at each step and move, and inside each: one branch with all, one end."""
    laptop = make_laptop(cli, engine)
    before = laptop.fingerprint()
    course = crashing.undisturbed(laptop)
    print(f"{engine}: {len(course)} steps: {[name for name, _ in course]}")
    assert len(course) > 8
    kills = 0
    for point in range(POINTS + 1):
        # A step may be over before its moment came; then once more, with other moments.
        left, tries = list(course), 0
        while left and tries < 5:
            moments = [Moment(n, dice.uniform(0.0, 0.8 * s) if point else 0.0) for n, s in left]
            shares = SHARES if not tries else 1
            missed: set[str] = set()
            for share in range(shares):
                killer = _killed(laptop, moments[share::shares])
                kills += len(killer.killed)
                missed |= {*killer.missed, *killer.pending}
            left = [(n, s) for n, s in left if n in missed and n != course[-1][0]]
            tries += 1
        assert not left, f"never killed in time: {left}"
    assert laptop.fingerprint() == before
    print(f"{engine}: {kills} kills, 0 lost")
    # After the very last move there is nearly nothing left to kill.
    assert kills >= (len(course) - 1) * (POINTS + 1)


def _killed(laptop: Laptop, moments: Sequence[Moment]) -> Killer:
    refs = laptop.refs()
    killer = Killer(laptop, crashing.hand_off(laptop), moments)
    killer.to_the_end()
    assert_nothing_lost(laptop, killer.run_id, refs)
    return killer
