"""The gateway and the box are killed at every step that a run records; it goes on by itself.

Where the container is not there at a step, there is nothing to kill.  No command of the user's is
given in between: the supervisor lives, and sees to it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from plandock.standin import StandIn
from tests.crash import crashing
from tests.crash.disturbing import ALWAYS, POINTS, ContainerKiller, at_every_step
from tests.support.laptop import Laptop

pytestmark = [pytest.mark.timeout(3600), pytest.mark.e2e]

# Into how many runs the points inside the steps are dealt: a fifth death in a row would end a run.
SHARES = 2


@pytest.mark.parametrize("role", ["gateway", "box"])
def test_a_run_whose_container_is_killed_at_any_step_goes_on_by_itself(
    make_laptop: Callable[..., Laptop],
    cli: Path,
    standin: StandIn,
    engine: str,
    role: str,
    dice: random.Random,
    timeline_of_engine: Callable[[str], Mapping[str, float]],
) -> None:
    """SIGKILL at each step that has one: all is on the branch, nothing is left."""
    standin.script = crashing.script(looks=role == "box")
    laptop = make_laptop(cli, engine)
    kills = at_every_step(
        lambda delays_s: ContainerKiller(laptop, role, delays_s),
        lambda: timeline_of_engine(engine),
        sure=lambda name: name in ALWAYS,
        shares=SHARES,
        dice=dice,
    )
    print(f"{engine}: {role}: {len(kills)} kills at {sorted(set(kills))}, 0 lost")
    assert all(kills.count(name) > POINTS for name in ALWAYS)
