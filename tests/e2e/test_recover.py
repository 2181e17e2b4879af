"""What becomes of a run whose supervisor is killed: any next command goes on with it."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from plandock.standin import Script, bash, commit, execution_scene, write_file
from tests.support.laptop import Laptop

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def cli(request: pytest.FixtureRequest) -> Path:
    """The newest CLI: what is looked at here does not depend on it."""
    path = Path(os.environ.get("PLANDOCK_TEST_CLI_NEWEST") or "/absent")
    assert os.access(path, os.X_OK), "Next step: `make setup`"
    return path


def record(laptop: Laptop) -> dict[str, object]:
    """The newest run as it stands in the store, the inner parts too."""
    file = laptop.home / ".local/state/plandock/plandock.db"
    with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as database:
        row = database.execute("SELECT record FROM run ORDER BY created_at DESC").fetchone()
    found: dict[str, object] = json.loads(row[0])
    return found


def kill_supervisor(laptop: Laptop) -> int:
    """SIGKILL to the supervisor that drives the newest run; returns its number."""
    end = time.monotonic() + 30
    while not (pid := int(str(record(laptop)["supervisor_pid"]))) and time.monotonic() < end:
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    while Path(f"/proc/{pid}").exists() and time.monotonic() < end:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        if state == "Z":
            break
        time.sleep(0.02)
    return pid


def until(laptop: Laptop, *states: str) -> None:
    """Wait until the newest run is in one of these states, without a command of the product."""
    end = time.monotonic() + 60
    while record(laptop)["state"] not in states:
        assert time.monotonic() < end, record(laptop)
        time.sleep(0.05)


@pytest.mark.e2e
def test_any_next_command_goes_on_with_a_run_whose_supervisor_was_killed(
    make_laptop: Callable[..., Laptop], cli: Path, engine: str
) -> None:
    """Killed while the agent works, then `ps`: the run ends done, on one branch, whole."""
    laptop = make_laptop(cli, engine)
    work = (
        write_file("one.txt", "1\n"),
        commit("One"),
        bash("sleep 6"),
        write_file("two.txt", "2\n"),
    )
    laptop.standin.script = Script(scenes=(execution_scene(work),))
    laptop.plandock("run", "--plan", "-", stdin="# Plan\n")
    until(laptop, "running")
    time.sleep(2.0)
    first = kill_supervisor(laptop)
    # The engine is shared with others: theirs are runs without a record here.
    would = [f for f in laptop.json("recover", "--dry-run") if f["state"] != "unknown"]
    assert [f["action"] for f in would] == ["start one"]
    assert record(laptop)["supervisor_pid"] == first  # only said, not done
    laptop.plandock("ps")
    laptop.plandock("wait", "last", "--timeout", "90")
    run = laptop.json("show", "last")
    assert run["state"] == "done"
    assert laptop.repo.git("show", "feature/auto:one.txt") == "1"
    assert laptop.repo.git("show", "feature/auto:two.txt") == "2"
    branches = laptop.repo.git("for-each-ref", "--format=%(refname:short)", "refs/heads").split()
    assert sorted(branches) == ["feature/auto", "main"]
    assert not [f for f in laptop.json("recover") if f["run"] == run["id"]]
