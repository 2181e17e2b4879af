"""Fixtures of the end-to-end tests: a laptop per test, an image per engine and CLI."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from plandock.standin import (
    Scene,
    Script,
    StandIn,
    commit,
    execution_scene,
    planning_scene,
    write_file,
)
from tests.support.laptop import Laptop

PLAN = "# Add a farewell\n\n1. Write src/farewell.py\n2. Commit it\n"
STEPS = (
    write_file("src/farewell.py", 'def farewell() -> str:\n    return "Goodbye"\n'),
    commit("Add a farewell"),
    write_file("NOTES.md", "what the agent did not commit\n"),
)


def scenes(*planning: Scene) -> Script:
    """The box carries the plan out; before that, the host plans."""
    return Script(scenes=(execution_scene(STEPS), *(planning or (planning_scene(PLAN),))))


@pytest.fixture
def standin() -> Iterator[StandIn]:
    """The scripted model: planning on the host, execution in the box."""
    with StandIn(scenes()) as server:
        yield server
        assert server.errors == []


@pytest.fixture
def make_laptop(tmp_path: Path, standin: StandIn) -> Iterator[Callable[..., Laptop]]:
    """A factory of laptops; what their runs leave in the engine is removed at the end."""
    made: list[Laptop] = []

    def make(cli: Path, engine: str = "docker", **rest: Any) -> Laptop:
        laptop = Laptop(
            tmp_path / f"laptop{len(made)}", cli=cli, engine=engine, standin=standin, **rest
        )
        made.append(laptop)
        return laptop

    yield make
    for laptop in made:
        laptop.clean_up()
