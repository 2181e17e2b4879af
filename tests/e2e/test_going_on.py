"""A run that meets a limit, loses its login or its box: it goes on by itself and loses nothing."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from plandock.standin import Failure, Script, bash, commit, execution_scene, write_file
from tests.support.laptop import ACCESS, Laptop

pytestmark = [pytest.mark.timeout(280), pytest.mark.e2e]

WORK = (
    write_file("one.txt", "1\n"),
    commit("One"),
    bash("sleep 3"),
    write_file("two.txt", "2\n"),
    commit("Two"),
    write_file("three.txt", "3\n"),
)


@pytest.fixture
def cli(claude_cli: Path) -> Path:
    """Both versions, for what they do after an interruption is theirs to decide."""
    return claude_cli


def begin(laptop: Laptop, *failures: Failure) -> None:
    """Hand the work off to an agent whose API will fail so."""
    laptop.standin.script = Script(scenes=(execution_scene(WORK),))
    laptop.standin.inject(*failures)
    laptop.plandock("run", "--plan", "-", stdin="# Plan\n\nDo it.\n")


def until(laptop: Laptop, what: Callable[[dict[str, Any]], bool], seconds: float = 90.0) -> Any:
    """The newest run, as soon as it is so."""
    end = time.monotonic() + seconds
    while not what(run := laptop.json("show", "last")):
        assert time.monotonic() < end, json.dumps(run, indent=1)
        time.sleep(0.3)
    return run


def containers(engine: str, run: dict[str, Any]) -> list[str]:
    """The containers that a run has in the engine, running ones."""
    argv = [engine, "ps", "-q", "--filter", f"label=plandock.run={run['id']}"]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()


def ends_whole(laptop: Laptop, engine: str) -> dict[str, Any]:
    """The run ends done: one branch, each commit once, every file, nothing left in the engine."""
    laptop.plandock("wait", "last", "--timeout", "150")
    run: dict[str, Any] = laptop.json("show", "last")
    assert run["state"] == "done", run
    branches = laptop.repo.git("for-each-ref", "--format=%(refname:short)", "refs/heads").split()
    assert sorted(branches) == ["feature/auto", "main"]
    for name, content in (("one", "1"), ("two", "2"), ("three", "3")):
        assert laptop.repo.git("show", f"feature/auto:{name}.txt") == content
    subjects = laptop.repo.git("log", "--format=%s", "main..feature/auto").splitlines()
    assert subjects.count("One") == subjects.count("Two") == 1
    assert containers(engine, run) == []
    volumes = subprocess.run(
        [engine, "volume", "ls", "-q", "--filter", f"label=plandock.run={run['id']}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert volumes == []
    return run


def test_a_usage_limit_is_waited_for_and_the_same_conversation_goes_on(
    make_laptop: Callable[..., Laptop], cli: Path, engine: str
) -> None:
    """State waiting until the reset, without a box; then the work goes on where it was."""
    laptop = make_laptop(cli, engine)
    begin(laptop, Failure("usage_limit", step=3, reset_in_s=12.0, until_reset=True))
    run = until(laptop, lambda r: r["state"] == "waiting")
    assert run["reason"] == "usage_limit"
    left = datetime.fromisoformat(run["waiting_until"]).timestamp() - time.time()
    assert -1 < left < 18
    assert containers(engine, run) == []
    asked = len(laptop.standin.model_requests)
    ended = ends_whole(laptop, engine)
    assert ended["box_session_id"] == run["box_session_id"]
    assert ended["attempt"] == 2
    # Not the work again: what is left of it, each step once, and the limit's own look.
    assert len(laptop.standin.model_requests) - asked <= len(WORK) + 2


def test_a_refused_login_is_waited_for_until_the_host_has_a_new_one(
    make_laptop: Callable[..., Laptop], cli: Path, engine: str
) -> None:
    """401: waiting (login) with the next step; a renewed login on the host, and it goes on."""
    laptop = make_laptop(cli, engine)
    begin(laptop, Failure("unauthorized", times=None, if_token=ACCESS, step=3))
    run = until(laptop, lambda r: r["state"] == "waiting")
    assert run["reason"] == "login"
    assert run["message"]
    file = laptop.config / ".credentials.json"
    held = json.loads(file.read_text())
    held["claudeAiOauth"]["accessToken"] = ACCESS.replace("made-up", "renewed")
    file.with_suffix(".new").write_text(json.dumps(held))
    os.replace(file.with_suffix(".new"), file)
    ends_whole(laptop, engine)


def test_a_login_renewed_on_the_host_is_handed_into_the_running_box(
    make_laptop: Callable[..., Laptop], cli: Path, engine: str
) -> None:
    """The host's own Claude Code renews its token while the agent works: one box, no wait."""
    laptop = make_laptop(cli, engine)
    begin(laptop)
    until(laptop, lambda r: r["state"] == "running" and r["step"] == "working")
    fresh = ACCESS.replace("made-up", "renewed")
    file = laptop.config / ".credentials.json"
    held = json.loads(file.read_text())
    held["claudeAiOauth"]["accessToken"] = fresh
    file.with_suffix(".new").write_text(json.dumps(held))
    os.replace(file.with_suffix(".new"), file)
    laptop.standin.inject(Failure("unauthorized", times=None, if_token=ACCESS, step=4))
    run = ends_whole(laptop, engine)
    assert run["attempt"] == 1
    assert laptop.standin.model_requests[-1].token == fresh


def test_a_killed_box_is_replaced_and_its_work_goes_on(
    make_laptop: Callable[..., Laptop], cli: Path, engine: str
) -> None:
    """`kill` of the box's container in mid-work: a second box on the same volumes ends it."""
    laptop = make_laptop(cli, engine)
    begin(laptop)
    run = until(laptop, lambda r: r["state"] == "running" and r["step"] == "working")
    time.sleep(1.5)
    argv = [engine, "kill", f"plandock-{run['id']}-box"]
    subprocess.run(argv, capture_output=True, check=True)
    assert ends_whole(laptop, engine)["attempt"] == 2


def test_a_killed_gateway_is_started_again_under_the_running_box(
    make_laptop: Callable[..., Laptop], cli: Path, engine: str
) -> None:
    """The way out is gone for a moment; the CLI tries again, and the run ends in the same box."""
    laptop = make_laptop(cli, engine)
    begin(laptop)
    run = until(laptop, lambda r: r["state"] == "running" and r["step"] == "working")
    argv = [engine, "kill", f"plandock-{run['id']}-gateway"]
    subprocess.run(argv, capture_output=True, check=True)
    ends_whole(laptop, engine)


def test_a_stream_that_is_cut_in_a_tool_call_costs_no_work_twice(
    make_laptop: Callable[..., Laptop], cli: Path, engine: str
) -> None:
    """The connection drops in the middle of an answer: asked again, and each commit stands once."""
    laptop = make_laptop(cli, engine)
    begin(laptop, Failure("cut_stream", step=3))
    ends_whole(laptop, engine)
