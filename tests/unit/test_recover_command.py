"""`plandock recover` on a machine with a store and folders: what it says, does and leaves."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess

import pytest

from plandock import paths
from plandock.runs.model import Run, RunId, State
from plandock.runs.store import Store
from tests.support.commands import CommandServer


@pytest.fixture
def plandock(repo, tmp_path, commands: CommandServer):
    """Run the command line where no engine can be found."""
    empty = tmp_path / "bin"
    empty.mkdir()
    (empty / "git").symlink_to(shutil.which("git") or "/absent")

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return commands.run_text(*words, cwd=repo.root, env={**os.environ, "PATH": str(empty)})

    return run


def add(run_id: str, state: State = State.DONE) -> None:
    """Record a run with its folder."""
    paths.run_dir(run_id).mkdir(parents=True)
    (paths.run_dir(run_id) / "plan.md").write_text("# Plan\n")
    run = Run(id=RunId(run_id), state=state, handoff_key=run_id, created_at="2026-01-02T03:04:05Z")
    with Store() as store:
        store.add(run, name_branch=lambda _: "feature/auto")


def dump() -> list[str]:
    """The database as SQL, to the last byte."""
    with sqlite3.connect(f"file:{paths.store_file()}?mode=ro", uri=True) as db:
        found = list(db.iterdump())
    db.close()
    return found


def test_nothing_to_recover_says_so(plandock):
    """Exit 0, a sentence for people, an empty list for scripts."""
    add("r222")
    done = plandock("recover")
    assert (done.returncode, "nothing to recover" in done.stdout) == (0, True)
    assert json.loads(plandock("recover", "--json").stdout) == []


def test_a_dry_run_says_what_it_would_do_and_changes_nothing(plandock):
    """The same four keys, and the database is the same to the last byte."""
    add("r222", State.RUNNING)
    before = dump()
    (found,) = json.loads(plandock("recover", "--dry-run", "--json").stdout)
    assert set(found) == {"run", "state", "found", "action"}
    assert (found["run"], found["state"], found["action"]) == ("r222", "running", "start one")
    assert "would start one" in plandock("recover", "--dry-run").stdout
    assert dump() == before


def test_a_dry_run_leaves_a_damaged_store_as_it_is(plandock):
    """It says what it would make of it."""
    add("r222")
    for path in paths.state_dir().glob("plandock.db-*"):
        path.unlink()
    paths.store_file().write_bytes(b"garbage " * 1000)
    (found,) = json.loads(plandock("recover", "--dry-run", "--json").stdout)
    assert "damaged" in found["found"]
    assert paths.store_file().read_bytes() == b"garbage " * 1000


def test_a_folder_that_the_store_does_not_know_is_taken_in(plandock):
    """Its record says what it was."""
    add("r222")
    with Store() as store:
        run = store.get("r222")
        store.delete("r222")
        add("r333")
    (paths.run_dir("r222") / "run.json").write_text(json.dumps(run.to_record()))
    found = json.loads(plandock("recover", "--json").stdout)
    assert [(f["run"], f["action"]) for f in found] == [("r222", "take it in")]
    with Store() as store:
        assert store.get("r222") == run


def test_a_queued_run_whose_folder_was_removed_is_ended_with_a_reason(plandock):
    """Without its plan it can never go; it does not hold up the queue."""
    add("r222", State.QUEUED)
    (paths.run_dir("r222") / "plan.md").unlink()
    plandock("recover")
    with Store() as store:
        run = store.get("r222")
    assert (run.state, run.reason) == (State.FAILED, "lost")
