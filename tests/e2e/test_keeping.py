"""`gc` and `drop` beside real work that has not come home: none of it is lost."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plandock.standin import Failure, Script, bash, execution_scene, write_file
from tests.support import machine
from tests.support.heldrun import HeldRun
from tests.support.laptop import Laptop
from tests.support.machine import container_words

pytestmark = [pytest.mark.timeout(900), pytest.mark.e2e]

PLAN = "# Plan\n\nDo it.\n"
EARLY = write_file("early.txt", "done early\n")
# A link out of the work tree: what the quarantine lets nobody have.
REFUSED = bash("echo kept > kept.txt; ln -s /etc/passwd escape; git add -A; git commit -qm Escape")


@pytest.fixture
def cli() -> Path:
    """The newest CLI."""
    return Path(os.environ.get(machine.CLI_VERSIONS["newest"], "/absent"))


def in_engine(laptop: Laptop, run_id: str) -> set[str]:
    """The containers and volumes of a run."""
    found: set[str] = set()
    for words in (["ps", "-a", "--format", "{{.Names}}"], ["volume", "ls", "-q"]):
        label = f"label=plandock.run={run_id}"
        argv = [laptop.engine, *words, "--filter", label]
        found |= set(
            subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
        )
    return found


def until(laptop: Laptop, state: str) -> dict[str, Any]:
    """The newest run, once it is in this state."""
    end = time.monotonic() + 240
    while (run := laptop.json("show", "last"))["state"] != state:
        assert time.monotonic() < end, run
        time.sleep(0.3)
    found: dict[str, Any] = run
    return found


def refused(laptop: Laptop) -> dict[str, Any]:
    """A run whose harvest was refused."""
    laptop.standin.script = Script(scenes=(execution_scene((REFUSED,)),))
    done = laptop.plandock("run", "--plan", "-", "--wait", stdin=PLAN, check=False)
    assert done.returncode == 23, done.stderr
    return until(laptop, "failed")


def waiting(laptop: Laptop) -> dict[str, Any]:
    """A run that waits for its usage limit, with an uncommitted file in its volume."""
    laptop.standin.script = Script(scenes=(execution_scene((EARLY, bash("true"))),))
    laptop.standin.inject(Failure("usage_limit", step=1, reset_in_s=3600.0))
    laptop.plandock("run", "--plan", "-", stdin=PLAN)
    return until(laptop, "waiting")


def stopped(laptop: Laptop) -> str:
    """A run that was stopped at its work; its id."""
    held = HeldRun(laptop)
    assert held.execute("sh", "-c", f"echo early > {laptop.repo.root}/early.txt")[0] == 0
    laptop.plandock("stop", held.id)
    return held.id


def test_gc_and_drop_lose_nothing_that_has_not_come_home(
    make_laptop: Callable[..., Laptop], cli: Path
) -> None:
    """A refused harvest, a stopped run, a waiting one, and one of another state folder."""
    laptop, other = make_laptop(cli), make_laptop(cli)
    no, wait, stop = refused(laptop), waiting(laptop), stopped(laptop)
    theirs = waiting(other)
    label = f"plandock.run={stop}"
    argv = container_words(laptop.engine, "create", "--label", label, "--entrypoint", "true")
    argv += [no["image"]]
    subprocess.run(argv, capture_output=True, check=True)  # the control: gc does remove
    kept = {run["id"]: in_engine(laptop, run["id"]) for run in (no, wait, theirs)}
    for run_id, things in kept.items():
        assert f"plandock-{run_id}-work" in things

    for one in (other, laptop):
        assert in_engine(laptop, stop) != set()
        one.plandock("gc", "--keep-images")
        one.plandock("recover")
    assert {run_id: in_engine(laptop, run_id) for run_id in kept} == kept
    assert in_engine(laptop, stop) == set()

    _a_refused_run_is_dropped_with_a_copy(laptop, no)
    assert laptop.plandock("drop", wait["id"], "--yes", check=False).returncode != 0
    laptop.plandock("stop", wait["id"])
    other.plandock("stop", theirs["id"])
    for one in (laptop, other):
        branch = one.json("show", "last" if one is other else wait["id"])["branch"]
        assert one.repo.git("show", f"{branch}:early.txt") == "done early"
    # All of it is home: nothing to ask, and what was on the branch stays there.
    branch = laptop.json("show", stop)["branch"]
    laptop.plandock("drop", stop, "--now")
    assert laptop.repo.git("show", f"{branch}:early.txt") == "early"
    assert not (dropped(laptop) / stop).exists()


def dropped(laptop: Laptop) -> Path:
    """Where the copies of dropped runs lie."""
    return laptop.home / ".local/state/plandock/dropped"


def _a_refused_run_is_dropped_with_a_copy(laptop: Laptop, run: dict[str, Any]) -> None:
    """It is said what would be lost; the copy has the very work; then it is gone."""
    asked = laptop.plandock("drop", run["id"], check=False)
    assert asked.returncode == 1
    assert "has not arrived" in asked.stderr
    assert f"plandock-{run['id']}-work" in in_engine(laptop, run["id"])
    said = laptop.plandock("drop", run["id"], "--yes").stdout
    copy = dropped(laptop) / run["id"]
    assert str(copy) in said
    assert in_engine(laptop, run["id"]) == set()
    assert json.loads((copy / "run.json").read_text())["id"] == run["id"]
    heads = laptop.repo.git("bundle", "list-heads", str(copy / "work.bundle")).split()
    laptop.repo.git("fetch", "-q", str(copy / "work.bundle"), heads[1])
    assert laptop.repo.git("show", "FETCH_HEAD:kept.txt") == "kept"
