"""Tests are dealt out in units, the longest first, and a failed one shows what happened on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.machine import CLONE
from tools import schedule

CONFTEST = """
import os, pathlib, pytest
from tools import schedule

schedule.DURATIONS = pathlib.Path(__file__).with_name("durations.json")

def pytest_addoption(parser):
    schedule.add_options(parser)

def pytest_configure(config):
    config.addinivalue_line("markers", "exclusive(name): one worker")
    config.addinivalue_line("markers", "split_by(name): several")
    config.pluginmanager.register(schedule.Schedule(config))

@pytest.fixture(autouse=True)
def note(request):
    with open(pathlib.Path(__file__).with_name("ran"), "a") as file:
        file.write(f"{os.environ.get('PYTEST_XDIST_WORKER', 'none')} {request.node.nodeid}\\n")
"""
SINGLE = """
import pytest

@pytest.mark.parametrize("n", range(6))
def test_single(n): pass

@pytest.mark.exclusive("volume")
def test_one(): pass
"""
SHARING = """
import pytest

pytestmark = pytest.mark.split_by("engine")

@pytest.fixture(scope="module")
def lab(): return 1

@pytest.mark.parametrize("engine", ["docker", "podman"])
@pytest.mark.parametrize("n", range(3))
def test_shared(lab, engine, n): pass

@pytest.mark.exclusive("volume")
@pytest.mark.parametrize("n", range(3))
def test_other(n): pass
"""


def run_suite(folder: Path, *words: str, durations: dict[str, float]) -> list[tuple[str, str]]:
    """Run a small suite with our scheduler: worker and test, in the order they began on each."""
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_single.py").write_text(SINGLE)
    (folder / "test_sharing.py").write_text(SHARING)
    (folder / "durations.json").write_text(json.dumps(durations))
    (folder / "pytest.ini").write_text("[pytest]\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(CLONE)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = (folder / "ran").read_text().splitlines()
    return [(worker, test) for worker, _, test in (line.partition(" ") for line in lines)]


def test_units_stay_on_one_worker_and_the_longest_begin_first(tmp_path: Path) -> None:
    """What is exclusive or shared is not spread over workers; the long single test is first."""
    longest = "test_single.py::test_single[5]"
    ran = run_suite(tmp_path, "-n", "2", durations={longest: 60.0, "exclusive volume": 50.0})
    assert len(ran) == 16
    # Which of two workers begins before the other is chance; what each begins with is not.
    first = dict(reversed(ran))
    assert longest in first.values()
    for unit in (
        ["test_one", "test_other"],
        ["[0-docker", "[1-docker"],
        ["[0-podman", "[1-podman"],
    ):
        workers = {worker for worker, test in ran if any(part in test for part in unit)}
        assert len(workers) == 1, unit


def test_quick_leaves_out_what_took_long(tmp_path: Path) -> None:
    """By CI's measure, not by a mark that somebody has to remember; with workers and without."""
    long = "test_sharing.py::test_other[1]"
    for words in ([], ["-n", "2"]):
        (tmp_path / "ran").unlink(missing_ok=True)
        ran = run_suite(tmp_path, "--quick", *words, durations={long: 0.5, "test_sharing.py": 9.0})
        assert len(ran) == 15
        assert long not in {test for _, test in ran}


def test_a_run_writes_the_seconds_of_its_units_when_asked(tmp_path: Path) -> None:
    """With workers and without; units that are too short to matter are left out."""
    for words in ([], ["-n", "2"]):
        (tmp_path / "test_slow.py").write_text("import time\ndef test_slow(): time.sleep(0.7)\n")
        file = tmp_path / "written.json"
        run_suite(tmp_path, *words, f"--durations-file={file}", durations={})
        written = json.loads(file.read_text())
        assert "test_slow.py::test_slow" in written
        assert min(written.values()) >= schedule.LONG_S
        file.unlink()


def test_the_file_of_durations_has_the_longest_first() -> None:
    """Sums by unit, and longer tests within one; one a line, so that a diff shows a change."""
    took = {"a::x": 0.4, "a::y": 2.0, "b::x": 9.04, "c::x": 0.1}
    text = schedule.durations_text(took, {"a::x": "a", "a::y": "a"})
    assert text == '{\n"b::x": 9.0,\n"a": 2.4,\n"a::y": 2.0\n}\n'


def test_a_unit_without_a_measured_time_takes_what_others_of_its_folder_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A new end-to-end test is not left for the end."""
    known = {"tests/e2e/test_a.py::x": 20.0, "tests/unit/test_b.py": 1.0}
    monkeypatch.setattr(schedule, "read_durations", lambda: known)
    found = schedule.estimates(["tests/e2e/test_new.py::y", "tests/unit/test_b.py", "else/c.py"])
    assert found == {
        "tests/e2e/test_new.py::y": 20.0, "tests/unit/test_b.py": 1.0, "else/c.py": 1.0
    }  # fmt: skip


FAILING = """
from tests.support import evidence

class Witness:
    def evidence(self):
        yield "run r7k2 (log)", "the last thing it said"

def test_fails():
    global witness
    witness = Witness()
    evidence.register(witness)
    assert False
"""


def test_a_failing_test_shows_its_runs_and_screens(tmp_path: Path) -> None:
    """By the conftest of the whole suite, without being asked."""
    (tmp_path / "test_failing.py").write_text(FAILING)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.conftest", "test_failing.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(CLONE)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "run r7k2 (log)" in done.stdout
    assert "the last thing it said" in done.stdout
