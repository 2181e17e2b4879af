"""Fixtures of the crash tests: those of the end-to-end tests, with a longer plan."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from plandock.engines.command_line import CommandLineEngine
from plandock.engines.dialect import EngineName
from plandock.standin import StandIn
from tests.crash.crashing import script, timeline_of
from tests.security.arena import plandock_image
from tests.support import machine
from tests.support.daemon import Daemon
from tests.support.laptop import Laptop


@pytest.fixture
def standin() -> Iterator[StandIn]:
    """The scripted model of the box: three commits, then edits that it does not commit."""
    with StandIn(script()) as server:
        yield server
        assert server.errors == []


@pytest.fixture
def cli() -> Path:
    """The newest CLI."""
    path = os.environ.get(machine.CLI_VERSIONS["newest"], "")
    assert os.access(path, os.X_OK), "the CLI is missing. Next step: `make setup`"
    return Path(path)


@pytest.fixture
def make_laptop(tmp_path: Path, standin: StandIn) -> Iterator[Callable[..., Laptop]]:
    """A factory of laptops; what their runs leave in the engine is removed at the end."""
    made: list[Laptop] = []

    def make(cli: Path, engine: str = "docker", *, root: Path | None = None, **rest: Any) -> Laptop:
        place = root or tmp_path / f"laptop{len(made)}"
        laptop = Laptop(place, cli=cli, engine=engine, standin=standin, **rest)
        made.append(laptop)
        return laptop

    yield make
    for laptop in made:
        laptop.clean_up()


@pytest.fixture
def dice() -> random.Random:
    """Randomness that can be had again: CRASH_SEED, printed."""
    seed = int(os.environ.get("CRASH_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"CRASH_SEED={seed}")
    return random.Random(seed)


@pytest.fixture(scope="session")
def timeline_of_engine(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[EngineName], Mapping[str, float]]:
    """The timeline of a run that nobody disturbs, by engine: one run of each for all tests."""

    @cache
    def timeline(engine: EngineName) -> Mapping[str, float]:
        base = os.environ.get("PLANDOCK_TEST_BASE_IMAGE", "debian:bookworm-slim")
        plandock_image(CommandLineEngine(engine), base)  # its making is no part of a run
        cli = Path(os.environ[machine.CLI_VERSIONS["newest"]])
        with StandIn(script()) as standin:
            root = tmp_path_factory.mktemp("timeline")
            laptop = Laptop(root, cli=cli, engine=engine, standin=standin)
            try:
                return timeline_of(laptop)
            finally:
                laptop.clean_up()

    return timeline


@pytest.fixture(scope="session")
def private_daemon() -> Iterator[Daemon]:
    """A Docker daemon of these tests' own, with the box's image."""
    base = os.environ.get("PLANDOCK_TEST_BASE_IMAGE", "debian:bookworm-slim")
    image = plandock_image(CommandLineEngine("docker"), base)
    made = Daemon()
    try:
        made.make()
        made.start()
        made.take_images(base, image)
        yield made
    finally:
        made.close()


@pytest.fixture
def daemon(private_daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """The private daemon, up and with room, in the place of the machine's own."""
    monkeypatch.setenv("DOCKER_HOST", private_daemon.host)
    yield private_daemon
    private_daemon.make_room()
    if not private_daemon.answers():
        private_daemon.start()
