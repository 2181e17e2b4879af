"""`gc` and `drop` beside real work that has not come home: none of it is lost."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plandock.runs.model import State
from plandock.standin import Failure, Script, bash, execution_scene, write_file
from tests.support import machine, queueing
from tests.support.laptop import Laptop
from tests.support.machine import container_words

pytestmark = [pytest.mark.timeout(900), pytest.mark.e2e]

# A link out of the work tree: what the quarantine lets nobody have.
REFUSED = bash("echo kept > kept.txt; ln -s /etc/passwd escape; git add -A; git commit -qm Escape")
# What each run does, by its plan's title; the last call of one never comes to its end.
WORK = {
    "Refused": (REFUSED,),
    "Waiting": (write_file("early.txt", "done early\n"), bash("true")),
    "Stopped": (write_file("early.txt", "early\n"), bash("tail -f /dev/null")),
}
SCRIPT = Script(
    tuple(execution_scene(calls, name=x, match=rf"# {x}\n") for x, calls in WORK.items())
)
PATIENCE_S = 900.0


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


def hand_off(laptop: Laptop, title: str) -> str:
    """Let the run with a plan of this title begin; its id."""
    given = laptop.plandock("run", "--plan", "-", "--json", stdin=f"# {title}\n\nDo it.\n")
    return str(json.loads(given.stdout)["id"])


def test_gc_and_drop_lose_nothing_that_has_not_come_home(
    make_laptop: Callable[..., Laptop], cli: Path
) -> None:
    """A refused harvest, a stopped run, a waiting one, and one of another state folder."""
    laptop, other = make_laptop(cli, env={"PLANDOCK_MAX_PARALLEL": "3"}), make_laptop(cli)
    laptop.standin.script = SCRIPT
    laptop.standin.inject(
        Failure("usage_limit", scene="Waiting", step=1, times=None, reset_in_s=3600.0)
    )
    refused, wait, stop = (hand_off(laptop, title) for title in WORK)
    theirs = hand_off(other, "Waiting")
    laptop.standin.wait_for(2, scene="Stopped", timeout_s=PATIENCE_S)  # so its file is written
    laptop.plandock("stop", stop)
    queueing.until(laptop, wait, State.WAITING)
    queueing.until(other, theirs, State.WAITING)
    queueing.until(laptop, refused, State.FAILED)
    assert laptop.plandock("wait", refused, check=False).returncode == 23
    no = laptop.json("show", refused)
    label = f"plandock.run={stop}"
    argv = container_words(laptop.engine, "create", "--label", label, "--entrypoint", "true")
    argv += [no["image"]]
    subprocess.run(argv, capture_output=True, check=True)  # the control: gc does remove
    kept = {run: in_engine(laptop, run) for run in (refused, wait, theirs)}
    for run_id, things in kept.items():
        assert f"plandock-{run_id}-work" in things

    for one in (other, laptop):
        assert in_engine(laptop, stop) != set()
        one.plandock("gc", "--keep-images")
        one.plandock("recover")
    assert {run_id: in_engine(laptop, run_id) for run_id in kept} == kept
    assert in_engine(laptop, stop) == set()

    _a_refused_run_is_dropped_with_a_copy(laptop, no)
    assert laptop.plandock("drop", wait, "--yes", check=False).returncode != 0
    laptop.plandock("stop", wait)
    other.plandock("stop", theirs)
    for one in (laptop, other):
        branch = one.json("show", theirs if one is other else wait)["branch"]
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
