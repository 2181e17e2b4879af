"""The supervisor is killed at every step that it records; in `make crash` also inside each."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.crash.disturbing import POINTS, SupervisorKiller, at_every_step
from tests.support.laptop import Laptop

pytestmark = [pytest.mark.timeout(3600), pytest.mark.e2e]

# After the very last move there is nearly nothing left to kill.
LAST = "harvesting to done"


def test_a_supervisor_killed_at_any_step_loses_nothing(
    make_laptop: Callable[..., Laptop],
    cli: Path,
    engine: str,
    dice: random.Random,
    timeline_of_engine: Callable[[str], Mapping[str, float]],
) -> None:
    """After SIGKILL at each step and move: one branch with all, one end, nothing left."""
    laptop = make_laptop(cli, engine)
    before = laptop.fingerprint()
    kills = at_every_step(
        lambda delays_s: SupervisorKiller(laptop, delays_s),
        lambda: timeline_of_engine(engine),
        sure=lambda name: name != LAST,
        dice=dice,
    )
    print(f"{engine}: {len(kills)} kills at {sorted(set(kills))}, 0 lost")
    assert len(kills) > 8 * (POINTS + 1)
    assert laptop.fingerprint() == before
