"""Fixtures of the tests with real engines."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from plandock.engines import detect
from tests.engine.yard import Yard
from tests.support.journal import note


@pytest.fixture
def yard(engine: str, base_image: str) -> Iterator[Yard]:
    """An engine by its name, with everything that a test made in it removed at the end."""
    made = Yard(detect.choose(engine), base_image, secrets.token_hex(4))
    note("name", made.mark)
    yield made
    for container in made.engine.containers(made.label):
        made.engine.remove(container.name)
    for volume in made.engine.volumes(made.label):
        made.engine.remove_volume(volume.name)
    for image in made.engine.images(made.label):
        made.engine.remove_image(image.id)
