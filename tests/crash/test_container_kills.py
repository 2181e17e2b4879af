"""The gateway and the box are killed at several moments; the run goes on by itself.

No command of the user's is given in between: the supervisor lives, and sees to it.
"""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash import crashing
from tests.crash.crashing import assert_nothing_lost
from tests.support.laptop import Laptop

pytestmark = [pytest.mark.timeout(600), pytest.mark.e2e]


@pytest.mark.parametrize("role", ["gateway", "box"])
@pytest.mark.parametrize("moment", ["as soon as it runs", "running", "working", "later"])
def test_a_run_whose_container_is_killed_goes_on_by_itself(
    make_laptop: Callable[..., Laptop],
    cli: Path,
    engine: str,
    role: str,
    moment: str,
    dice: random.Random,
) -> None:
    """Killed while staging, at the move to running, at work and later: all is on the branch."""
    laptop = make_laptop(cli, engine)
    refs = laptop.refs()
    run = crashing.hand_off(laptop)
    if moment == "running":
        crashing.until_event(laptop, run, "staging to running")
    elif moment != "as soon as it runs":
        crashing.until_event(laptop, run, "step working")
        time.sleep(dice.uniform(0.0, 1.0) + (1.0 if moment == "later" else 0.0))
    state = _kill(laptop, run, role)
    print(f"{engine}: killed the {role} ({moment}) in state {state}")
    crashing.until_over(laptop, run)
    assert_nothing_lost(laptop, run, refs)


def _kill(laptop: Laptop, run_id: str, role: str) -> str:
    """Kill the container, as soon as there is one to kill; the run's state then."""
    argv = [laptop.engine, "kill", "--signal", "KILL", f"plandock-{run_id}-{role}"]
    end = time.monotonic() + 60
    while subprocess.run(argv, capture_output=True, check=False).returncode:
        assert time.monotonic() < end
    with crashing.store_of(laptop) as store:
        return str(store.get(run_id).state)
