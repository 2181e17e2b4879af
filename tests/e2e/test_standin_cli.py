"""The real Claude Code CLI, both versions, against the stand-in."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from plandock.standin import (
    Failure,
    Script,
    StandIn,
    commit,
    edit_file,
    execution_scene,
    write_file,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

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


@pytest.fixture(params=["2_1_197", "NEWEST"])
def cli(request: pytest.FixtureRequest) -> Path:
    """The real CLI; its absence is a failure, not a reason to skip."""
    name = f"PLANDOCK_TEST_CLI_{request.param}"
    path = os.environ.get(name, "")
    if not path or not os.access(path, os.X_OK):
        pytest.fail(f"{name} must name a Claude Code CLI that can be run")
    return Path(path)


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A throwaway repository whose path holds a space."""
    path = tmp_path / "a project"
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


@pytest.mark.parametrize("kind", ["overloaded", "unauthorized", "cut_stream", "malformed", "slow"])
def test_passing_failure_is_survived(cli: Path, repo: Path, kind: Any) -> None:
    """After one failed answer the CLI asks again and the plan is carried out all the same."""
    failure = Failure(kind, scene="execute", step=1)
    with StandIn(SCRIPT, failures=[failure]) as standin:
        code, _ = run_cli(cli, repo, standin.url)
    assert code == 0
    assert git(repo, "log", "--format=%s") == "Greet, as it's planned\n"
    assert [r.failure for r in standin.model_requests if r.failure] == [kind]
    assert standin.errors == []
