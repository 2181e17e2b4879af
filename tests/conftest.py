"""Fixtures for all tests: a throwaway home, both engines, both versions of the real CLI."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Generator, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from plandock.box.image import ensure_image
from plandock.engines import detect
from plandock.settings.keys import Settings
from tests.support import evidence, leftovers, machine, product
from tests.support.boxes import Box
from tests.support.journal import note
from tests.support.pairs import PAIRS
from tests.support.repository import Repository, make_repository
from tests.support.tmux import Tmux
from tools import schedule

machine.load_setup()
# Before there are workers, so that all of them test the same.
product.choose()
machine.start_children_interruptible()

# A slow machine is no failure of a property; `make fuzz` looks further.
_SLOW = [hypothesis.HealthCheck.too_slow]
hypothesis.settings.register_profile("default", deadline=None, suppress_health_check=_SLOW)
hypothesis.settings.register_profile(
    "fuzz", deadline=None, max_examples=5000, suppress_health_check=_SLOW
)
hypothesis.settings.register_profile(
    "quick", deadline=None, max_examples=25, suppress_health_check=_SLOW
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

REAL_PARTS = ("engine", "e2e", "tmux", "netns")
"""Markers of tests that need something real; in CI none of them may be skipped."""

why_engine_is_absent = cache(machine.why_engine_is_absent)


@cache
def box_image(engine: str, version: str, base: str) -> str:
    """The image of the boxes of tests: asked for once by each worker."""
    return ensure_image(detect.choose(engine), cli_version=version, base=base)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of the scheduler."""
    schedule.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Deal tests out to workers, the longest first; say at the end what they have left behind."""
    config.pluginmanager.register(schedule.Schedule(config), "plandock-schedule")
    leftovers.watch(config)


def pytest_report_header() -> str:
    """What is tested: the wheel, or the source."""
    return product.described()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests that ask for `engine` or `claude_cli` with each of them, unless they choose.

    A test that asks for both gets pairs, so that each engine and each version comes once; in
    `make matrix` it gets the full product.
    """
    chosen = {
        name.strip()
        for mark in metafunc.definition.iter_markers("parametrize")
        for name in (mark.args[0].split(",") if isinstance(mark.args[0], str) else mark.args[0])
    }
    free = {"engine", "claude_cli"} & set(metafunc.fixturenames) - chosen
    if free == {"engine", "claude_cli"}:
        found = [(pair.engine, pair.version) for pair in PAIRS]
        metafunc.parametrize(("engine", "claude_cli"), found, indirect=True)
        return
    if "engine" in free:
        metafunc.parametrize("engine", machine.wanted_engines(), indirect=True)
    if "claude_cli" in free:
        metafunc.parametrize("claude_cli", tuple(machine.CLI_VERSIONS), indirect=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by what they use."""
    for item in items:
        uses = set(getattr(item, "fixturenames", ()))
        for fixture, marker in (("engine", "engine"), ("claude_cli", "e2e"), ("tmux", "tmux")):
            if fixture in uses:
                item.add_marker(marker)


def pytest_collection_finish() -> None:
    """Take what was collected out of the garbage collector's sight: it stays to the end."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Whatever is made from now on, this test made."""
    evidence.begin_test()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows its runs and screens; in CI, a skipped test of something real fails."""
    report = yield
    if report.failed and report.when != "teardown":
        report.sections += evidence.sections()
    needs_real = any(item.get_closest_marker(name) for name in REAL_PARTS)
    if machine.in_ci() and needs_real and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI, where nothing real may be absent: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """In CI, a file that skips itself while it is read is an error."""
    report = yield
    if machine.in_ci() and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped in CI as a whole: {report.longrepr}"
    return report


@pytest.fixture(scope="session", autouse=True)
def home_of_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A throwaway HOME, too, for what a file makes for all its tests, before any has its own."""
    note("base", tmp_path_factory.getbasetemp())
    with pytest.MonkeyPatch.context() as patch:
        machine.move_in(tmp_path_factory.mktemp("home"), patch)
        yield


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A throwaway HOME; nothing in the environment names a model, a key, a login or a repo."""
    made = tmp_path_factory.mktemp("home")
    machine.move_in(made, monkeypatch)
    return made


@pytest.fixture
def make_repo(tmp_path: Path) -> Callable[..., Repository]:
    """A factory: `make_repo("name", {"file": "text"})` makes a repository below tmp_path."""

    def make(name: str = "repo", *files: dict[str, str | bytes]) -> Repository:
        return make_repository(tmp_path / name, *files)

    return make


@pytest.fixture
def repo(make_repo: Callable[..., Repository]) -> Repository:
    """A small repository with one commit and an identity."""
    return make_repo()


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> str:
    """`docker`, then `podman`: the name of an engine that answers; its absence is a failure."""
    name: str = request.param
    if name not in machine.wanted_engines():
        pytest.skip(f"PLANDOCK_TEST_ENGINES leaves {name} out")
    if reason := why_engine_is_absent(name):
        pytest.fail(reason, pytrace=False)
    return name


@pytest.fixture
def base_image() -> str:
    """The image that set-up put into each engine; boxes in tests are built upon it."""
    return os.environ.get("PLANDOCK_TEST_BASE_IMAGE", "debian:bookworm-slim")


@pytest.fixture
def make_box(
    engine: str, base_image: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Box]]:
    """A factory of real boxes, with `tail` in the steward's place; removed at the end."""
    cache = os.environ.get("PLANDOCK_TEST_CACHE", str(machine.CLONE / ".setup/cache"))
    monkeypatch.setenv("XDG_CACHE_HOME", cache)
    here = detect.choose(engine)
    version = os.environ["PLANDOCK_TEST_CLI_NEWEST_VERSION"]
    image = box_image(engine, version, base_image)
    made: list[Box] = []

    def make(settings: Settings | None = None, **changes: Any) -> Box:
        made.append(Box(here, image, settings or Settings()))
        return made[-1].start(**changes)

    yield make
    for box in made:
        box.remove()


@pytest.fixture
def claude_cli(request: pytest.FixtureRequest) -> Path:
    """The real Claude Code CLI, `2.1.197` and `newest`; its absence is a failure."""
    return machine.claude_cli(request.param)


@pytest.fixture
def tmux() -> Iterator[Tmux]:
    """A terminal of this test's own."""
    terminal = Tmux()
    yield terminal
    terminal.close()
