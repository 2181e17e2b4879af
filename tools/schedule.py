"""Which worker runs which tests, and in what order: a plugin for pytest-xdist.

Tests are dealt out in *units*, the longest first, so that no long one is left for the end.  A unit
is a single test; or the tests of a file, where they are cheap or share what the file makes for all
of them; or all tests that are marked `exclusive("name")`, which never run side by side.

`tests/durations.json` says how long a unit, and each longer test, takes (seconds); CI writes it
(`--durations-file`).  `--quick` leaves the longer tests out.
xdist's own `loadgroup` does none of this with pytest 9.2: a test's id cannot be changed there.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import NodeManager, WorkerController

DURATIONS = Path(__file__).resolve().parents[1] / "tests/durations.json"
WHOLE_FILES = ("tests/unit/", "tests/git/", "tests/tools/")
"""Folders whose tests are so short that a message for each would cost more than it saves."""
LONG_S = 0.5
"""A test of this length, as CI measured it with all cores busy, is no part of the inner loop."""
ENDS_WITHIN_S = 180


class Units(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """xdist's scheduler by scopes, with our units as scopes and the longest first."""

    workqueue: OrderedDict[str, dict[str, bool]]

    def __init__(self, config: pytest.Config, log: Any, units_file: Path) -> None:
        super().__init__(config, log)
        self._units_file = units_file
        self._units: dict[str, str] = {}

    def _split_scope(self, nodeid: str) -> str:
        return self._units.get(nodeid, nodeid)

    def schedule(self) -> None:
        """Deal the units out; called once all workers have collected."""
        first = self.collection is None
        if first:
            self._units = json.loads(self._units_file.read_text())
        super().schedule()

    def _assign_work_unit(self, node: WorkerController) -> None:
        if not any(self.assigned_work.values()):
            # Nothing is dealt out yet: the queue is whole.
            self._sort()
        super()._assign_work_unit(node)

    def _sort(self) -> None:
        seconds = estimates(list(self.workqueue))
        queue = sorted(self.workqueue.items(), key=lambda unit: -seconds[unit[0]])
        self.workqueue = OrderedDict(queue)


def estimates(units: list[str]) -> dict[str, float]:
    """How long each unit may take (seconds): measured, or what its folder's units took."""
    known = read_durations()
    by_folder: defaultdict[str, list[float]] = defaultdict(list)
    for unit, seconds in known.items():
        by_folder[_folder(unit)].append(seconds)
    usual = {folder: statistics.median(found) for folder, found in by_folder.items()}
    return {unit: known.get(unit, usual.get(_folder(unit), 1.0)) for unit in units}


def _folder(unit: str) -> str:
    return unit.partition("::")[0].rpartition("/")[0]


def read_durations() -> dict[str, float]:
    """The seconds that each unit took when it was measured; empty where nothing was."""
    try:
        found: dict[str, float] = json.loads(DURATIONS.read_text())
    except FileNotFoundError:
        return {}
    return found


def unit_of(item: pytest.Item) -> str:
    """The name of the unit that a test belongs to."""
    if exclusive := item.get_closest_marker("exclusive"):
        return f"exclusive {exclusive.args[0]}"
    file = item.nodeid.partition("::")[0]
    split = [str(mark.args[0]) for mark in item.iter_markers("split_by")]
    if item.nodeid.startswith(WHOLE_FILES) or split or _shares(item):
        given = getattr(item, "callspec", None)
        values = [str(given.params[name]) for name in split if given and name in given.params]
        return " ".join([file, *values])
    return item.nodeid


def _shares(item: pytest.Item) -> bool:
    """Whether the test uses what a fixture makes for several tests of its file.

    What a fixture makes for a session is made on each worker; where that is dear, the tests that
    use it are marked `exclusive`.
    """
    made: dict[str, Any] = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {})
    return any(
        definition.scope == "module"
        for definitions in made.values()
        for definition in definitions
        if definition.baseid  # pytest's own and the plugins' have none
    )


class Schedule:
    """The plugin, on the controller and on each worker.  Register it before collection."""

    def __init__(self, config: pytest.Config) -> None:
        self._worker: dict[str, Any] | None = getattr(config, "workerinput", None)
        self._config = config
        self._took: defaultdict[str, float] = defaultdict(float)
        self._units: dict[str, str] = {}
        if self._worker is None:
            # After Ctrl-C: ten seconds are too short for what fixtures have to take away.
            NodeManager.EXIT_TIMEOUT = ENDS_WITHIN_S
            self._folder = tempfile.TemporaryDirectory(prefix="plandock-schedule-")
            self._file = Path(self._folder.name, "units.json")
        else:
            self._file = Path(self._worker["units_file"])

    def pytest_configure_node(self, node: WorkerController) -> None:
        """Tell a worker where to say which units there are."""
        node.workerinput["units_file"] = str(self._file)

    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Units:
        """Ours, whatever `--dist` says."""
        return Units(config, log, self._file)

    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Leave the longer tests out, where that was asked for."""
        if config.getoption("quick"):
            known = read_durations()
            long = [item for item in items if known.get(item.nodeid, 0.0) >= LONG_S]
            config.hook.pytest_deselected(items=long)
            items[:] = [item for item in items if item not in long]

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Write down the unit of each test; before xdist tells the controller of them."""
        if self._worker is None and session.config.getoption("numprocesses", None):
            return  # the controller collects nothing itself
        self._units = {item.nodeid: unit_of(item) for item in session.items}
        draft = self._file.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps(self._units))
        draft.replace(self._file)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add up what each test took, with its set-up and its clean-up."""
        if self._worker is None:
            self._took[report.nodeid] += report.duration

    def pytest_sessionfinish(self) -> None:
        """Write the durations of the units, where that was asked for."""
        if self._worker is not None:
            return
        target = self._config.getoption("durations_file")
        if target and self._took:
            units = self._units or json.loads(self._file.read_text())
            Path(target).write_text(durations_text(dict(self._took), units))
        self._folder.cleanup()


def durations_text(took: dict[str, float], units: dict[str, str]) -> str:
    """The file of durations: each longer unit and longer test, the longest first."""
    sums: defaultdict[str, float] = defaultdict(float)
    for test, seconds in took.items():
        sums[units.get(test, test)] += seconds
    worth = {unit: seconds for unit, seconds in sums.items() if seconds >= LONG_S}
    worth |= {test: seconds for test, seconds in took.items() if seconds >= LONG_S}
    longest = sorted(worth.items(), key=lambda entry: (-round(entry[1], 1), entry[0]))
    return json.dumps({name: round(seconds, 1) for name, seconds in longest}, indent=0) + "\n"


def add_options(parser: pytest.Parser) -> None:
    """`--durations-file FILE`: where to write how long each unit took; `--quick`."""
    parser.addoption("--durations-file", default="", help="write the seconds of each unit here")
    parser.addoption("--quick", action="store_true", help="leave out the longer tests")
