"""What SQLite does not notice, and what lies in the store's place: sentences, and nothing lost."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator

import pytest

from plandock import paths
from plandock.errors import StoreError
from plandock.runs import database, folder
from plandock.runs.model import Run, RunId, State
from plandock.runs.store import Store
from plandock.supervisor import queue, recover
from tests.support.repository import Repository


@pytest.fixture
def store() -> Iterator[Store]:
    """The store of this test's home."""
    with Store() as opened:
        yield opened


def add(store: Store, run_id: str, state: State = State.DONE, at: str = "2026-01-02") -> Run:
    """A recorded run with a folder."""
    paths.run_dir(run_id).mkdir(parents=True)
    (paths.run_dir(run_id) / "plan.md").write_text("# Plan\n")
    run = Run(id=RunId(run_id), state=state, handoff_key=run_id, created_at=f"{at}T03:04:05.000Z")
    return store.add(run, name_branch=lambda _: "feature/auto")[0]


def plandock(repo: Repository, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in the repository."""
    return subprocess.run(
        [sys.executable, "-m", "plandock", *words],
        cwd=repo.root, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip


def spoil(record: str) -> None:
    """Write over the record of r222, as a flipped bit in a page does: SQLite keeps no checksums."""
    with sqlite3.connect(paths.store_file()) as db:
        db.execute("UPDATE run SET record = ? WHERE id = 'r222'", (record,))
    db.close()


@pytest.mark.parametrize("record", ["{nope", "[]", '{"id": "r222", "state": "lost"}', ""])
def test_a_record_that_cannot_be_read_is_read_from_the_run_s_folder(
    store: Store, record: str
) -> None:
    """It is named as a fault, and `recover` mends it."""
    add(store, "r222")
    spoil(record)
    assert [run.id for run in store.list()] == ["r222"]
    assert store.find("last").state is State.DONE
    assert store.faults() == ["the record of r222 cannot be read"]
    assert queue.wake(store) == []
    assert recover.look(store, dry_run=False)[0].action == "take its folder's copy"
    assert store.faults() == []
    assert store.find("last").state is State.DONE


def test_a_record_without_a_copy_hides_no_other_run(store: Store) -> None:
    """That one run costs a sentence."""
    add(store, "r222")
    add(store, "r333")
    spoil("{nope")
    folder.forget(str(paths.state_dir() / "runs"), "r222")
    assert [run.id for run in store.list()] == ["r333"]
    with pytest.raises(StoreError, match="the record of r222 cannot be read"):
        store.get("r222")
    assert [f.action for f in recover.look(store, dry_run=False)] == ["left alone: no copy"]


def test_a_store_that_was_put_back_starts_no_ended_run_again(store: Store) -> None:
    """The log was thrown away, or a backup laid over it: the run's folder knows better."""
    add(store, "r222", State.RUNNING)
    store.close()
    backup = paths.state_dir() / "backup"
    shutil.copyfile(paths.store_file(), backup)
    with Store() as later:
        later.change("r222", turns=1)
        later.move("r222", State.RUNNING, State.HARVESTING)
        later.move("r222", State.HARVESTING, State.DONE)
    shutil.copyfile(backup, paths.store_file())
    with Store() as put_back:
        assert [run.id for run in queue.unwatched(put_back)] == ["r222"]
        assert queue.wake(put_back) == []
        assert put_back.get("r222").state is State.DONE


def test_a_writer_killed_before_its_commit_leaves_the_record_as_it_was(store: Store) -> None:
    """The control: the copy is written first, and may be ahead by one."""
    run = add(store, "r222", State.RUNNING)
    run.revision, run.state = run.revision + 1, State.HARVESTING
    folder.write(str(paths.state_dir() / "runs"), run, synced=False)
    assert not store.catch_up(store.get("r222"))
    assert store.get("r222").state is State.RUNNING


def test_the_last_run_is_the_last_one_also_where_the_clock_was_set_back(store: Store) -> None:
    """In a rebuilt store, which has nothing else, the times give the order."""
    add(store, "r333", at="2026-05-05")
    add(store, "r222", at="2026-01-01")
    assert store.find("last").id == "r222"
    assert [run.id for run in store.list()] == ["r222", "r333"]
    store.close()
    paths.store_file().unlink()
    with Store() as rebuilt:
        assert rebuilt.find("last").id == "r333"


def test_a_folder_in_the_store_s_place_is_moved_aside(store: Store) -> None:
    """And a new store made from the runs' folders."""
    add(store, "r222")
    store.close()
    paths.store_file().unlink()
    paths.store_file().mkdir()
    with Store() as rebuilt:
        assert [run.id for run in rebuilt.list()] == ["r222"]
    assert [p.is_dir() for p in paths.state_dir().glob("plandock.db.damaged-*")] == [True]


def test_a_store_that_another_process_holds_is_busy(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 75 and what to do, not a bug."""
    add(store, "r222")
    monkeypatch.setattr(database, "_PATIENCE_S", 0.1)
    other = sqlite3.connect(paths.store_file(), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with Store() as mine, pytest.raises(database.StoreBusy) as raised:
        mine.change("r222", turns=1)
    other.close()
    assert (raised.value.exit_code, bool(raised.value.hint)) == (75, True)


@pytest.mark.parametrize("words", [("ps",), ("doctor",), ("run", "--plan", "README.md")])
@pytest.mark.parametrize("what", ["file", "dangling link"])
def test_something_else_in_the_place_of_the_state_folder_is_a_sentence(
    repo: Repository, words: tuple[str, ...], what: str
) -> None:
    """Neither a traceback nor a bug, whichever command comes upon it first."""
    paths.state_dir().parent.mkdir(parents=True)
    if what == "file":
        paths.state_dir().write_text("not a folder")
    else:
        os.symlink("/absent/folder", paths.state_dir())
    done = plandock(repo, *words)
    assert "Traceback" not in done.stderr
    assert "bug" not in done.stderr
    assert done.returncode not in (0, 3)
