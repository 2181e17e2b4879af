"""Whole runs on Docker and on Podman: what the box is, what goes in, what comes out."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from pathlib import Path

import pytest

from plandock.standin import StandIn, ToolCall, bash, commit, execution_scene, write_file
from plandock.standin.script import Script
from tests.support import machine
from tests.support.laptop import ACCESS, REFRESH
from tests.support.pairs import NEWEST, PAIRS
from tests.support.repository import EMAIL, NAME
from tests.support.run_batch import CaseResult, cases, hold, looks_at
from tests.support.run_batch import batch as batch
from tests.support.run_batch import case as case

pytestmark = [pytest.mark.timeout(1800), pytest.mark.e2e, pytest.mark.engine]

# Seen from inside by the real CLI's Bash tool.
LOOK = (
    "{ ls /sys/class/net; echo remotes:$(git remote | wc -l); id -u; "
    "grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status; "
    "grep -c . ~/.claude/.credentials.json; ls /run/plandock; "
    "grep -rhoE 'ort01|refreshToken' ~/.claude /run/plandock; "
    "touch /usr/x; git -C . push origin HEAD; } > seen.txt 2>&1; true"
)
FAREWELL: tuple[ToolCall, ...] = (
    write_file("src/farewell.py", 'def farewell() -> str:\n    return "Goodbye"\n'),
    commit("Add a farewell"),
)
NOTES = write_file("NOTES.md", "what the agent did not commit\n")


def look_at_a_box_from_both_sides(result: CaseResult) -> None:
    """A path with spaces and letters beyond ASCII, a remote; the engine's listing meanwhile."""
    laptop, seen = result.make_laptop(repo_name="my project ünïcode"), result.seen
    laptop.repo.git("remote", "add", "origin", "https://user:secret@example.invalid/x.git")
    seen["fingerprint"] = laptop.fingerprint()
    result.hand_off("")
    result.until_held()
    seen["held"] = str(result.until("running").state)
    engine = laptop.engine
    words = [engine, "ps", "-q", "--filter", f"label=plandock.run={result.run_id}"]
    listed = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    seen["inspected"] = [
        subprocess.run([engine, "inspect", name], capture_output=True, text=True, check=True).stdout
        for name in listed
    ]
    result.let_go()
    seen["code"] = laptop.plandock("wait", result.run_id, check=False).returncode
    result.until_over()


def run_below_the_boxs_own_home(result: CaseResult) -> None:
    """A repository below /home/agent, the home of the image's ordinary user."""
    home = Path("/home/agent")
    root = home / "plandock-test" / secrets.token_hex(4)
    parents = [root.parent, *([] if home.exists() else [home])]
    as_root = machine.as_root()

    def remove() -> None:
        subprocess.run([*as_root, "rm", "-rf", str(root)], check=True)
        for folder in parents:
            empty = [*as_root, "rmdir", "--ignore-fail-on-non-empty", str(folder)]
            subprocess.run(empty, check=False, capture_output=True)

    result.at_the_end.callback(remove)
    make = [*as_root, "install", "-d", "-o", str(os.getuid()), str(root)]
    subprocess.run(make, check=True)
    result.make_laptop(repo_root=root)
    result.run_through()


def run_with_a_taken_branch(result: CaseResult) -> None:
    """`feature/auto` is there already."""
    laptop = result.laptop
    laptop.repo.git("branch", "feature/auto")
    result.seen["before"] = laptop.refs()
    result.run_through("")
    result.seen["after"] = laptop.refs()


def run_resume_here_and_drop(result: CaseResult) -> None:
    """The host's own CLI resumes the box's conversation; the run is dropped at the end."""
    laptop, seen = result.laptop, result.seen
    result.run_through("")
    run = seen["run"] = result.run
    seen["left"] = result.in_engine()
    seen["files"] = laptop.repo.git("ls-tree", "--name-only", run["branch"]).split()
    with StandIn(Script(scenes=(execution_scene(()),)), keep_bodies=True) as standin:
        env = {**laptop.env, "ANTHROPIC_BASE_URL": standin.url, "IS_SANDBOX": "1"}
        seen["resumed"] = subprocess.run(
            [str(laptop.cli), "-p", "--resume", run["box_session_id"], "What did you do?"],
            cwd=laptop.repo.root,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        seen["bodies"] = json.dumps([r.body for r in standin.model_requests])
    laptop.plandock("drop", result.run_id, "--yes")
    seen["known"] = laptop.runs()


CASES = [
    *cases(
        "both-sides",
        look_at_a_box_from_both_sides,
        (bash(LOOK), *FAREWELL, hold(), NOTES),
    ),
    *cases("own-home", run_below_the_boxs_own_home, (*FAREWELL, NOTES), among=NEWEST),
    # On the last pair, so that a plain path is seen on each engine.
    *cases("taken", run_with_a_taken_branch, FAREWELL, among=PAIRS[-1:]),
    *cases(
        "left-out",
        run_resume_here_and_drop,
        (*FAREWELL, bash("ln -s /etc/passwd escape"), NOTES),
        among=NEWEST,
    ),
]


@looks_at(CASES, "both-sides")
def test_a_run_on_each_engine_ends_with_a_branch(case: CaseResult) -> None:
    """Commits under the user's identity, leftovers committed, a receipt, nothing left behind."""
    laptop, run = case.laptop, case.run
    assert case.seen["code"] == 0
    found = (run["state"], run["branch"], run["commits"], run["engine"])
    assert found == ("done", "feature/auto", 2, case.case.pair.engine)
    authors = laptop.repo.git("log", "--format=%an <%ae>", "main..feature/auto").splitlines()
    assert authors == [f"{NAME} <{EMAIL}>"] * 2
    assert case.shown("NOTES.md") == "what the agent did not commit"
    receipt = laptop.json("receipt", case.run_id)
    assert "subscription" in receipt["payer"]
    assert receipt["stand_in"] == laptop.standin.url
    assert laptop.fingerprint() == case.seen["fingerprint"]
    assert laptop.leftovers() == []


@looks_at(CASES, "both-sides")
def test_the_box_has_no_network_no_remote_no_refresh_token_and_no_privilege(
    case: CaseResult,
) -> None:
    """Seen from inside by the real CLI's Bash tool, with the way to the API as positive control."""
    seen = case.shown("seen.txt")
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
    assert len(case.laptop.standin.model_requests) > 0


@looks_at(CASES, "both-sides")
def test_no_host_folder_is_mounted_and_no_secret_is_in_the_engines_listing(
    case: CaseResult,
) -> None:
    """While the run goes on: volumes and tmpfs alone, and neither token in `inspect`."""
    assert case.seen["held"] == "running"
    assert len(case.seen["inspected"]) == 2
    for text in case.seen["inspected"]:
        assert ACCESS not in text
        assert REFRESH not in text
        mounts = json.loads(text)[0]["Mounts"]
        assert {m["Type"] for m in mounts} <= {"volume", "tmpfs"}
    home = case.laptop.home
    kept = [p for p in home.rglob("*") if p.is_file() and ".credentials" not in p.name]
    assert kept
    assert not [p for p in kept if REFRESH.encode() in p.read_bytes()]


@looks_at(CASES, "both-sides", "taken", "left-out")
def test_any_path_works_also_below_tmp(case: CaseResult) -> None:
    """Spaces and non-ASCII letters in the path, or none, and a repository below /tmp."""
    root, run = case.laptop.repo.root, case.seen.get("run") or case.run
    assert str(root).startswith("/tmp")
    assert (" " in root.name, root.name.isascii()) == (
        (True, False) if case.case.name == "both-sides" else (False, True)
    )
    assert run["state"] == "done"
    assert "Goodbye" in case.laptop.repo.git("show", f"{run['head']}:src/farewell.py")


@looks_at(CASES, "own-home")
def test_a_home_that_equals_the_boxs_own(case: CaseResult) -> None:
    """A repository below /home/agent, which is the box user's home, is carried out all the same."""
    assert os.path.commonpath(["/home/agent", case.laptop.repo.root]) == "/home/agent"
    assert (case.run["state"], case.run["commits"]) == ("done", 2)


@looks_at(CASES, "taken")
def test_a_taken_branch_gets_the_next_name(case: CaseResult) -> None:
    """`feature/auto` is there already: the work arrives on `feature/auto-2`, the other stays."""
    old, new = case.seen["before"], case.seen["after"]
    assert case.run["state"] == "done"
    assert set(new) - set(old) == {"refs/heads/feature/auto-2"}
    assert new["refs/heads/feature/auto"] == old["refs/heads/feature/auto"]


@looks_at(CASES, "left-out")
def test_what_cannot_come_along_is_kept_and_named(case: CaseResult) -> None:
    """A file that harvest must leave behind stays in the run's volume, until `drop`."""
    run, volume = case.seen["run"], f"plandock-{case.run_id}-work"
    assert run["state"] == "done"
    assert any(volume in note for note in run["notes"])
    assert volume in case.seen["left"]
    assert "NOTES.md" in case.seen["files"]
    assert "escape" not in case.seen["files"]
    assert case.seen["known"] == []
    assert case.in_engine() == []


@looks_at(CASES, "left-out")
def test_the_conversation_opens_on_the_host(case: CaseResult) -> None:
    """The box's conversation, resumed by the host's own CLI, knows what was done in the box."""
    resumed = case.seen["resumed"]
    assert resumed.returncode == 0, resumed.stderr
    assert "Add a farewell" in case.seen["bodies"]
