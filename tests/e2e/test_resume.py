"""Runs that were stopped and go on: in the same conversation, on the same branch."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from plandock.standin import Script, bash, commit, execution_scene, write_file
from tests.support import machine
from tests.support.laptop import Laptop

pytestmark = [pytest.mark.timeout(300), pytest.mark.e2e]


@pytest.fixture
def cli() -> Path:
    """The newest CLI; what is looked at here does not depend on it."""
    path = os.environ.get(machine.CLI_VERSIONS["newest"], "")
    assert os.access(path, os.X_OK), "the CLI is missing. Next step: `make setup`"
    return Path(path)


def until(laptop: Laptop, *states: str) -> None:
    """Wait until the newest run is in one of these states."""
    end = time.monotonic() + 60
    while laptop.json("show", "last")["state"] not in states:
        assert time.monotonic() < end, laptop.json("show", "last")
        time.sleep(0.2)


def test_a_run_at_its_turn_limit_is_resumed_to_its_end_on_the_same_branch(
    make_laptop: Callable[..., Laptop], cli: Path, engine: str
) -> None:
    """`stopped (max_turns)`, then `resume`: the same conversation, the same branch, done."""
    laptop = make_laptop(cli, engine, env={"PLANDOCK_MAX_TURNS": "3"})
    one = (write_file("one.txt", "1\n"), commit("One"))
    steps = (*one, write_file("two.txt", "2\n"), commit("Two"))
    laptop.standin.script = Script(scenes=(execution_scene(steps),))
    done = laptop.plandock("run", "--plan", "-", "--wait", stdin="# Plan\n", check=False)
    assert done.returncode == 10
    first = laptop.json("show", "last")
    assert (first["state"], first["reason"]) == ("stopped", "max_turns")
    assert laptop.repo.git("show", "feature/auto:one.txt") == "1"
    assert laptop.leftovers() == []
    laptop.plandock("resume", "last")
    laptop.plandock("wait", "last", "--timeout", "120")
    second = laptop.json("show", "last")
    assert (second["state"], second["branch"]) == ("done", "feature/auto")
    assert second["box_session_id"] == first["box_session_id"]
    assert second["commits"] >= first["commits"]
    assert laptop.repo.git("show", "feature/auto:two.txt") == "2"
    laptop.repo.git("merge-base", "--is-ancestor", first["head"], "feature/auto")
    branches = laptop.repo.git("for-each-ref", "--format=%(refname:short)", "refs/heads").split()
    assert sorted(branches) == ["feature/auto", "main"]
    assert laptop.plandock("resume", "last", check=False).returncode == 1


def test_a_stop_keeps_commits_and_edits_and_what_is_said_at_the_resume_is_heard(
    make_laptop: Callable[..., Laptop], cli: Path
) -> None:
    """Stopped in the middle of a command; resumed with a word of the user's."""
    laptop = make_laptop(cli)
    steps = (write_file("one.txt", "1\n"), commit("One"), write_file("loose.txt", "loose\n"))
    laptop.standin.script = Script(scenes=(execution_scene((*steps, bash("tail -f /dev/null"))),))
    laptop.plandock("run", "--plan", "-", stdin="# Plan\n")
    laptop.standin.wait_for(4, scene="execute", timeout_s=60)
    time.sleep(1.0)
    laptop.plandock("stop", "last")
    assert laptop.json("show", "last")["state"] == "stopped"
    assert laptop.repo.git("show", "feature/auto:one.txt") == "1"
    assert laptop.repo.git("show", "feature/auto:loose.txt") == "loose"
    laptop.standin.script = Script(scenes=(execution_scene((), match="Leave it at that"),))
    laptop.plandock("resume", "last", "--say", "Leave it at that")
    laptop.plandock("wait", "last", "--timeout", "120")
    assert laptop.json("show", "last")["branch"] == "feature/auto"


def test_a_second_stop_forces_and_the_work_arrives_all_the_same(
    make_laptop: Callable[..., Laptop], cli: Path
) -> None:
    """The box is killed at once, and harvested."""
    laptop = make_laptop(cli)
    steps = (write_file("one.txt", "1\n"), bash("tail -f /dev/null"))
    laptop.standin.script = Script(scenes=(execution_scene(steps),))
    laptop.plandock("run", "--plan", "-", stdin="# Plan\n")
    laptop.standin.wait_for(2, scene="execute", timeout_s=60)
    time.sleep(1.0)
    laptop.plandock("stop", "last", "--now")
    run = laptop.json("show", "last")
    assert (run["state"], run["reason"]) == ("stopped", "stopped")
    assert laptop.repo.git("show", "feature/auto:one.txt") == "1"
    assert laptop.leftovers() == []


def test_a_queued_run_says_its_place_and_can_be_stopped(
    make_laptop: Callable[..., Laptop], cli: Path
) -> None:
    """Behind a run that goes, the second is `queued`, first in line, and stops without a box."""
    laptop = make_laptop(cli, env={"PLANDOCK_MAX_PARALLEL": "1"})
    laptop.standin.script = Script(scenes=(execution_scene((bash("tail -f /dev/null"),)),))
    laptop.plandock("run", "--plan", "-", stdin="# Plan\n")
    until(laptop, "running")
    laptop.plandock("run", "--plan", "-", stdin="# Another\n")
    newest = laptop.runs()[0]
    assert (newest["state"], newest["queue_position"]) == ("queued", 1)
    assert "queued, 1st" in laptop.plandock("ps").stdout
    laptop.plandock("stop", newest["id"])
    assert laptop.json("show", newest["id"])["state"] == "stopped"
    laptop.plandock("stop", laptop.runs()[1]["id"], "--now")
