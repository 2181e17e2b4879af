"""What the tests of the workspace share."""

from __future__ import annotations

import pytest

from tests.git.worlds import World
from tests.support.patience import patient  # noqa: F401  # for every test of this folder


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A repository with three files in one commit."""
    world = World(tmp_path, monkeypatch)
    world.commit("a.txt", "dir/b.txt", "dir/c.txt")
    return world
