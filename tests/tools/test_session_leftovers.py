"""The look for leftovers at the end of a test session; the part with engines is in tests/engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import journal, leftovers
from tests.support.leftovers import Made
from tests.support.machine import CLONE


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose environment names a folder of its own."""
    child = subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"HOME": str(tmp_path / "of-the-sleeper")},
    )
    assert child.stdout is not None
    child.stdout.readline()
    yield child
    child.communicate()


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="there is no /proc here")
def test_leftovers_name_a_process_only_when_it_names_a_folder_of_the_session(
    sleeper: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    """Another session's processes are not blamed, nor those that run the tests."""
    own, other = tmp_path / "of-the-sleeper", tmp_path / "of-the-sleep"
    found = list(leftovers._processes(Made(bases={str(own)})))
    assert [line.partition(":")[0] for line in found] == [f"process {sleeper.pid}"]
    assert list(leftovers._processes(Made(bases={str(other)}))) == []


def test_leftovers_know_runs_and_mirrors_of_every_home_and_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids of runs, dropped ones too, and the mirrors of their repositories, each with its test."""
    place, home = tmp_path / "journal", tmp_path / "home"
    monkeypatch.setenv(journal.VARIABLE, str(place))
    monkeypatch.setenv("PYTEST_CURRENT_TEST", "tests/x.py::test_y[a (b)] (call)")
    for folder in ("runs/r7k2", "dropped/r222-2"):
        (home / ".local/state/plandock" / folder).mkdir(parents=True)
    record = home / ".local/state/plandock/runs/r7k2/run.json"
    record.write_text(json.dumps({"id": "r7k2", "repo": "/of the run"}))
    journal.note("base", tmp_path / "base")
    journal.note("home", home)
    journal.note("repository", "/noted")
    made = Made.read(place)
    ids = {"r7k2", "r222", leftovers._mirror("/of the run"), leftovers._mirror("/noted")}
    assert made.words == dict.fromkeys(ids, "tests/x.py::test_y[a (b)]")
    assert made.has_path(f"{tmp_path}/base/x")
    assert made.has_path(str(home))
    assert not made.has_path(f"{tmp_path}/based")


INNER = """
from tests.support.journal import note

def test_leaves_a_folder(tmp_path):
    note("folder", tmp_path / "left")
    (tmp_path / "{made}").mkdir()
"""


@pytest.mark.parametrize("workers", ["0", "1"])
@pytest.mark.parametrize(("made", "code"), [("left", 1), ("of-no-concern", 0)])
def test_session_fails_when_something_is_left_behind(
    tmp_path: Path, workers: str, made: str, code: int
) -> None:
    """The thing is named with the test that made it; a session that leaves nothing says so."""
    inner = tmp_path / "test_inner.py"
    inner.write_text(INNER.format(made=made))
    argv = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider"]
    argv += [f"--rootdir={CLONE}", "-c", str(CLONE / "pyproject.toml"), "-n", workers, str(inner)]
    # Without engines to ask.
    changed = {"PATH": os.path.dirname(sys.executable), "PLANDOCK_TEST_ENDS_WITHIN_S": "0"}
    done = subprocess.run(
        argv, cwd=CLONE, env={**os.environ, **changed}, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert ("nothing was left behind" in done.stdout) == (code == 0)
    said = [x for x in done.stdout.splitlines() if x.startswith("LEFT BEHIND folder")]
    assert len(said) == code
    assert all(x.endswith("/left of ::test_leaves_a_folder") for x in said)
    assert ("1 left behind" in done.stdout.splitlines()[-1]) == (code == 1)
