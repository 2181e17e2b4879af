"""Which version of the CLI is taken with which engine.

Where neither changes what the other does, each engine and each version once is as good as each
with each: `PLANDOCK_TEST_MATRIX=full` takes all of the product all the same.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from pathlib import Path

from tests.support import machine

FULL = os.environ.get("PLANDOCK_TEST_MATRIX") == "full"


@dataclass(frozen=True)
class Pair:
    """An engine, and the version of the CLI that is taken with it."""

    engine: str
    version: str

    def __str__(self) -> str:
        return f"{self.engine}-{self.version}"

    @property
    def cli(self) -> Path:
        """The CLI's program; fails the test where set-up has not brought it."""
        path = os.environ.get(machine.CLI_VERSIONS[self.version], "")
        assert os.access(path, os.X_OK), "the CLI is missing. Next step: `make setup`"
        return Path(path)


def pairs() -> tuple[Pair, ...]:
    """Each engine and each CLI at least once: docker with the newest CLI, podman with the oldest.

    All of the product where `PLANDOCK_TEST_MATRIX` is `full`.
    """
    engines, versions = machine.wanted_engines(), tuple(reversed(machine.CLI_VERSIONS))
    if FULL:
        return tuple(Pair(e, v) for e, v in itertools.product(engines, versions))
    return tuple(
        Pair(engine, version)
        for engine, version in zip(itertools.cycle(engines), versions, strict=False)
    )


PAIRS = pairs()
NEWEST = PAIRS[:1]
"""For what depends on neither engine nor CLI."""
DOCKER = (Pair("docker", "newest"),)
"""For what is said of Docker alone."""
