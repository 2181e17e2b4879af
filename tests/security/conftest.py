"""Fixtures of the security tests: the end-to-end ones, and one arena per engine and file."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import make_laptop as make_laptop
from tests.e2e.conftest import standin as standin
from tests.git.conftest import world as world
from tests.security.arena import Arena
from tests.support.machine import as_root


@pytest.fixture(scope="module")
def arenas() -> Iterator[dict[str, Arena]]:
    """The arenas of a file, by engine, each made when it is first asked for."""
    made: dict[str, Arena] = {}
    yield made
    for arena in made.values():
        arena.close()


@pytest.fixture
def arena(
    engine: str,
    arenas: dict[str, Arena],
    tmp_path_factory: pytest.TempPathFactory,
    base_image: str,
) -> Arena:
    """A real box and gateway in a world without a way out; see :mod:`tests.security.arena`."""
    if sys.platform != "linux":
        pytest.skip("the arena is made of Linux network namespaces")
    as_root()  # else no test has it, not only the first
    if engine not in arenas:
        made = Arena(engine, tmp_path_factory.mktemp("arena"), base_image)
        arenas[engine] = made
        made.build()
    return arenas[engine]
