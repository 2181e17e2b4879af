"""Whole runs on Docker and on Podman: what the box is, what goes in, what comes out."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from plandock.standin import (
    Script,
    StandIn,
    ToolCall,
    bash,
    commit,
    execution_scene,
    write_file,
)
from tests.support import machine
from tests.support.laptop import ACCESS, REFRESH, Laptop

pytestmark = [pytest.mark.timeout(300), pytest.mark.e2e]


@pytest.fixture
def cli() -> Path:
    """The newest CLI; the acceptance table runs with both."""
    path = os.environ.get(machine.CLI_VERSIONS["newest"], "")
    assert os.access(path, os.X_OK), "the CLI is missing. Next step: `make setup`"
    return Path(path)


def steps(*calls: ToolCall) -> Script:
    """A box that makes these calls and ends."""
    return Script(scenes=(execution_scene(calls),))


def hand_off(laptop: Laptop, plan: str = "# The plan\n\nDo it.\n") -> int:
    """Hand a plan off by hand and wait; the exit code."""
    return laptop.plandock("run", "--plan", "-", "--wait", stdin=plan, check=False).returncode


def test_a_run_on_each_engine_ends_with_a_branch(
    make_laptop: Callable[..., Laptop], cli: Path, engine: str
) -> None:
    """Commits under the user's identity, leftovers committed, a receipt, nothing left behind."""
    laptop = make_laptop(cli, engine)
    before = laptop.fingerprint()
    assert hand_off(laptop) == 0
    run = laptop.json("show", "last")
    assert (run["state"], run["commits"], run["engine"]) == ("done", 2, engine)
    authors = laptop.repo.git("log", "--format=%an <%ae>", "main..feature/auto").splitlines()
    assert len(set(authors)) == 1
    assert set(authors) == {laptop.repo.git("log", "-1", "--format=%an <%ae>", "main").strip()}
    receipt = laptop.json("receipt", "last")
    assert "subscription" in receipt["payer"]
    assert receipt["stand_in"] == laptop.standin.url
    assert laptop.fingerprint() == before
    assert laptop.leftovers() == []


def test_the_box_has_no_network_no_remote_no_refresh_token_and_no_privilege(
    make_laptop: Callable[..., Laptop], cli: Path, engine: str
) -> None:
    """Seen from inside by the real CLI's Bash tool, with the way to the API as positive control."""
    laptop = make_laptop(cli, engine)
    laptop.repo.git("remote", "add", "origin", "https://user:secret@example.invalid/x.git")
    look = (
        "{ ls /sys/class/net; echo remotes:$(git remote | wc -l); id -u; "
        "grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status; "
        "grep -c . ~/.claude/.credentials.json; ls /run/plandock; "
        "grep -rhoE 'ort01|refreshToken' ~/.claude /run/plandock; "
        "touch /usr/x; git -C . push origin HEAD; } > seen.txt 2>&1; true"
    )
    laptop.standin.script = steps(bash(look), commit("Look around"))
    assert hand_off(laptop) == 0, laptop.plandock("logs", "last").stdout
    seen = laptop.repo.git("show", "feature/auto:seen.txt")
    assert seen.splitlines()[0] == "lo"
    assert "eth" not in seen
    assert "remotes:0" in seen
    assert "CapEff:\t0000000000000000" in seen
    assert "CapBnd:\t0000000000000000" in seen
    assert "NoNewPrivs:\t1" in seen
    assert "ort01" not in seen
    assert "refreshToken" not in seen
    assert "message-" not in seen  # what carried the login in is gone
    assert "Read-only file system" in seen
    assert "fatal" in seen  # the push had nowhere to go
    assert len(laptop.standin.model_requests) > 0


def test_no_host_folder_is_mounted_and_no_secret_is_in_the_engines_listing(
    make_laptop: Callable[..., Laptop], cli: Path, engine: str
) -> None:
    """While the run goes on: volumes and tmpfs alone, and neither token in `inspect`."""
    laptop = make_laptop(cli, engine)
    laptop.standin.script = steps(bash("sleep 6"), write_file("x.txt", "x\n"))
    laptop.plandock("run", "--plan", "-", stdin="# Plan\n")
    _until(laptop, "running")
    run = laptop.json("show", "last")
    listed = subprocess.run(
        [engine, "ps", "-q", "--filter", f"label=plandock.run={run['id']}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert len(listed) == 2
    for container in listed:
        text = subprocess.run(
            [engine, "inspect", container], capture_output=True, text=True, check=True
        ).stdout
        assert ACCESS not in text
        assert REFRESH not in text
        mounts = json.loads(text)[0]["Mounts"]
        assert {m["Type"] for m in mounts} <= {"volume", "tmpfs"}
    laptop.plandock("wait", "last", "--timeout", "60")
    kept = [p for p in laptop.home.rglob("*") if p.is_file() and ".credentials" not in p.name]
    assert not [p for p in kept if REFRESH.encode() in p.read_bytes()]


@pytest.mark.parametrize("name", ["my project ünïcode", "plain"])
def test_any_path_works_also_below_tmp(
    make_laptop: Callable[..., Laptop], cli: Path, engine: str, name: str, tmp_path: Path
) -> None:
    """Spaces and non-ASCII letters in the path, and a repository below /tmp."""
    assert str(tmp_path).startswith("/tmp")
    laptop = make_laptop(cli, engine, repo_name=name)
    assert hand_off(laptop) == 0
    assert "Goodbye" in laptop.repo.git("show", "feature/auto:src/farewell.py")


@pytest.fixture
def agent_home(tmp_path: Path) -> Iterator[Path]:
    """A folder below /home/agent, the home of the image's ordinary user."""
    home = Path("/home/agent")
    existed = home.exists()
    yield home / "plandock-test" / tmp_path.name
    shutil.rmtree(home / "plandock-test", ignore_errors=True)
    if not existed:
        home.rmdir()


def test_a_home_that_equals_the_boxs_own(
    agent_home: Path, make_laptop: Callable[..., Laptop], cli: Path
) -> None:
    """A repository below /home/agent, which is the box user's home, is carried out all the same."""
    laptop = make_laptop(cli, repo_root=agent_home)
    assert hand_off(laptop) == 0
    assert laptop.json("show", "last")["commits"] == 2


def test_a_taken_branch_gets_the_next_name(make_laptop: Callable[..., Laptop], cli: Path) -> None:
    """`feature/auto` is there already: the work arrives on `feature/auto-2`, the other stays."""
    laptop = make_laptop(cli)
    laptop.repo.git("branch", "feature/auto")
    old = laptop.refs()
    assert hand_off(laptop) == 0
    new = laptop.refs()
    assert set(new) - set(old) == {"refs/heads/feature/auto-2"}
    assert new["refs/heads/feature/auto"] == old["refs/heads/feature/auto"]


def test_what_cannot_come_along_is_kept_and_named(
    make_laptop: Callable[..., Laptop], cli: Path
) -> None:
    """A file that harvest must leave behind stays in the run's volume, until `drop`."""
    laptop = make_laptop(cli)
    laptop.standin.script = steps(bash("ln -s /etc/passwd escape"), write_file("x.txt", "x\n"))
    assert hand_off(laptop) == 0
    run = laptop.json("show", "last")
    assert any(f"plandock-{run['id']}-work" in note for note in run["notes"])
    assert f"plandock-{run['id']}-work" in laptop.leftovers()
    assert "escape" not in laptop.repo.git("ls-tree", "--name-only", "feature/auto")
    laptop.plandock("drop", "last", "--yes")
    assert laptop.runs() == []


def test_stop_harvests_what_was_done(make_laptop: Callable[..., Laptop], cli: Path) -> None:
    """A stopped run ends as stopped, and its files are on the branch."""
    laptop = make_laptop(cli)
    laptop.standin.script = steps(
        write_file("early.txt", "done early\n"), bash("tail -f /dev/null")
    )
    laptop.plandock("run", "--plan", "-", stdin="# Plan\n")
    laptop.standin.wait_for(2, scene="execute", timeout_s=60)
    time.sleep(1.0)
    laptop.plandock("stop", "last")
    assert laptop.json("show", "last")["state"] == "stopped"
    assert "done early" in laptop.repo.git("show", "feature/auto:early.txt")
    assert laptop.plandock("wait", "last", check=False).returncode == 10
    assert laptop.leftovers() == []


def test_the_turn_limit_ends_a_run_as_stopped(
    make_laptop: Callable[..., Laptop], cli: Path
) -> None:
    """`max_turns` is handed to the CLI, and what was done till then is on the branch."""
    laptop = make_laptop(cli, env={"PLANDOCK_MAX_TURNS": "2"})
    laptop.standin.script = steps(*(write_file(f"f{n}.txt", "x\n") for n in range(6)))
    assert hand_off(laptop) == 10
    run = laptop.json("show", "last")
    assert (run["state"], run["reason"]) == ("stopped", "max_turns")
    assert run["commits"] >= 1


def test_the_conversation_opens_on_the_host(make_laptop: Callable[..., Laptop], cli: Path) -> None:
    """The box's conversation, resumed by the host's own CLI, knows what was done in the box."""
    laptop = make_laptop(cli)
    assert hand_off(laptop) == 0
    run = laptop.json("show", "last")
    with StandIn(steps(), keep_bodies=True) as standin:
        env = {**laptop.env, "ANTHROPIC_BASE_URL": standin.url, "IS_SANDBOX": "1"}
        done = subprocess.run(
            [str(cli), "-p", "--resume", run["box_session_id"], "What did you do?"],
            cwd=laptop.repo.root,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        bodies = json.dumps([r.body for r in standin.model_requests])
    assert "Add a farewell" in bodies


def _until(laptop: Laptop, state: str) -> None:
    end = time.monotonic() + 60
    while (now := laptop.json("show", "last")["state"]) != state:
        assert now not in ("failed", "stopped", "done"), laptop.json("show", "last")
        assert time.monotonic() < end
        time.sleep(0.1)
