"""The real Claude Code CLI, both versions, against the stand-in."""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from plandock.standin import (
    Failure,
    FailureKind,
    Request,
    Script,
    StandIn,
    commit,
    edit_file,
    execution_scene,
    write_file,
)
from tests.support import machine

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200), pytest.mark.split_by("cli")]

TOKEN = "sk-ant-oat01-made-up-for-the-stand-in"
PROMPT = "Carry out the accepted plan."
SCRIPT = Script(
    (
        execution_scene(
            [
                write_file("greeting.py", "print('{hello}')\n"),
                edit_file("greeting.py", "hello", "hello there"),
                commit("Greet, as it's planned"),
            ]
        ),
    )
)


PASSING: tuple[FailureKind, ...] = (
    "overloaded",
    "unauthorized",
    "cut_stream",
    "malformed",
    "slow",
)
"""Failures of one answer that the CLI gets over, each at a step of one conversation."""


@pytest.fixture(scope="module", params=tuple(machine.CLI_VERSIONS))
def cli(request: pytest.FixtureRequest) -> Path:
    """The real CLI; its absence is a failure, not a reason to skip."""
    return machine.claude_cli(request.param)


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A throwaway repository whose path holds a space."""
    return make_repo(tmp_path)


def make_repo(folder: Path) -> Path:
    """A repository in that folder, whose path holds a space."""
    path = folder / "a project"
    path.mkdir()
    git(path, "init", "-q")
    git(path, "config", "user.name", "Somebody")
    git(path, "config", "user.email", "somebody@example.invalid")
    return path


def git(repo: Path, *args: str) -> str:
    """Run git in the repository; returns what it prints."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(repo.parent), "LC_ALL": "C"}
    done = subprocess.run(
        ["git", "-C", str(repo), *args], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


def run_cli(cli: Path, repo: Path, url: str) -> tuple[int, list[dict[str, Any]]]:
    """Run one headless prompt in a throwaway home; returns exit code and messages."""
    home = repo.parent / "home"
    home.mkdir(exist_ok=True)
    environment = {
        "HOME": str(home),
        "PATH": os.environ["PATH"],
        "TERM": "xterm-256color",
        "LANG": "C.UTF-8",
        "ANTHROPIC_BASE_URL": url,
        "CLAUDE_CODE_OAUTH_TOKEN": TOKEN,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "IS_SANDBOX": "1",  # the CLI refuses to skip permissions as root otherwise
    }
    command = [str(cli), "-p", "--dangerously-skip-permissions", "--verbose"]
    command += ["--output-format", "stream-json", "--", PROMPT]
    done = subprocess.run(
        command,
        cwd=repo,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def test_execution_scene_writes_and_commits(cli: Path, repo: Path) -> None:
    """The CLI carries the scripted plan out: a file is written, edited and committed."""
    with StandIn(SCRIPT) as standin:
        code, messages = run_cli(cli, repo, standin.url)
    assert code == 0
    assert messages[-1]["result"] == "The plan is carried out."
    assert (repo / "greeting.py").read_text() == "print('{hello there}')\n"
    assert git(repo, "log", "--format=%s") == "Greet, as it's planned\n"
    assert git(repo, "status", "--porcelain") == ""
    steps = standin.model_requests
    assert [request.step for request in steps] == [0, 1, 2, 3]
    assert [request.tools for request in steps] == [("Write",), ("Edit",), ("Bash",), ()]
    assert {(request.auth, request.token) for request in steps} == {("bearer", TOKEN)}
    assert {request.session_id for request in steps} == {messages[0]["session_id"]}
    assert standin.errors == []


def test_usage_limit_names_its_end(cli: Path, repo: Path) -> None:
    """A 429 becomes a `rate_limit_event` with `resetsAt`, and the run fails without a retry."""
    failure = Failure("usage_limit", times=None, reset_in_s=1800)
    began = time.time()
    with StandIn(SCRIPT, failures=[failure]) as standin:
        code, messages = run_cli(cli, repo, standin.url)
    assert code == 1
    limits = [m["rate_limit_info"] for m in messages if m["type"] == "rate_limit_event"]
    assert [limit["status"] for limit in limits] == ["rejected"]
    assert limits[0]["rateLimitType"] == "five_hour"
    # The half hour counts from the stand-in's answer, which was some time in between.
    assert began - 1 <= limits[0]["resetsAt"] - 1800 <= time.time() + 1
    assert (messages[-1]["is_error"], messages[-1]["api_error_status"]) == (True, 429)
    assert len(standin.model_requests) == 1


@dataclass(frozen=True)
class Survived:
    """A conversation in which one answer of every passing kind failed, and what it left."""

    code: int
    requests: list[Request]
    errors: list[str]
    committed: str


@pytest.fixture(scope="module")
def survived(cli: Path, tmp_path_factory: pytest.TempPathFactory) -> Survived:
    """A file is written at each step, and the answer with it fails once in the step's own way."""
    steps = [write_file(f"{kind}.txt", f"{kind}\n") for kind in PASSING]
    script = Script((execution_scene([*steps, commit("All of it")]),))
    failures = [Failure(kind, scene="execute", step=n) for n, kind in enumerate(PASSING)]
    repo = make_repo(tmp_path_factory.mktemp("survived"))
    with StandIn(script, failures=failures) as standin:
        code, _ = run_cli(cli, repo, standin.url)
        committed = git(repo, "show", "--format=%s", "--name-only")
        return Survived(code, standin.model_requests, standin.errors, committed)


@pytest.mark.parametrize("kind", PASSING)
def test_passing_failure_is_survived(survived: Survived, kind: FailureKind) -> None:
    """After one failed answer the CLI asks again and the plan is carried out all the same."""
    assert survived.code == 0
    assert survived.errors == []
    assert survived.committed.splitlines()[0] == "All of it"
    assert f"{kind}.txt" in survived.committed.splitlines()
    met = [r.failure for r in survived.requests if r.step == PASSING.index(kind)]
    assert [x for x in met if x] == [kind]
    assert len(met) == (1 if kind == "slow" else 2)  # slow is an answer all the same
