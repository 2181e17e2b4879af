"""A store that is damaged, too new or gone is rebuilt from the runs' folders, and loses nothing."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from plandock import paths
from plandock.errors import PlandockError, StoreError
from plandock.runs.database import Unfit
from plandock.runs.model import Run, RunId, State
from plandock.runs.store import Store

Record = Callable[..., Run]


@pytest.fixture
def record() -> Record:
    """Record a run, with its folder, as a hand-off does."""

    def make(run_id: str, **values: object) -> Run:
        paths.run_dir(run_id).mkdir(parents=True)
        run = Run(id=RunId(run_id), repo="/repo", handoff_key=run_id)
        with Store() as store:
            made, _ = store.add(run, name_branch=lambda _: f"work/{run_id}")
            return store.change(run_id, **values) if values else made

    return make


def asides() -> list[str]:
    """What was moved aside, by its kind."""
    found = paths.state_dir().glob("plandock.db.*-*Z*")
    return sorted(p.name for p in found if not p.name.endswith(("-wal", "-shm")))


def write_garbage() -> bytes:
    """Lay something else over the whole database, as a broken disk might."""
    garbage = b"not a database, whatever you may think " * 400
    paths.store_file().write_bytes(garbage)
    for suffix in ("-wal", "-shm"):
        Path(f"{paths.store_file()}{suffix}").unlink(missing_ok=True)
    return garbage


def make_newer() -> None:
    """Let a plandock of the future write a migration of its own into the database."""
    with sqlite3.connect(paths.store_file()) as db:
        db.execute("INSERT INTO migration VALUES ('9999-from-the-future')")
        db.execute("PRAGMA user_version = 99")
    db.close()


def spoil_the_runs() -> None:
    """Lay garbage over the pages of the table of runs and leave the first page as it is."""
    with sqlite3.connect(paths.store_file()) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (root,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'run'").fetchone()
        (size,) = db.execute("PRAGMA page_size").fetchone()
    db.close()
    with open(paths.store_file(), "r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\xff" * size)


def test_a_database_full_of_garbage_is_moved_aside_and_every_run_is_there(record, capsys):
    """The garbage is kept whole, one line says so, and the runs stand as they stood."""
    before = [
        record("r222", notes=["told"], stop_requested=True),
        record("r333", snapshot="a" * 40),
    ]
    garbage = write_garbage()
    with Store() as store:
        assert sorted(store.list(), key=lambda r: r.id) == before
        assert store.faults() == []
    assert len(asides()) == 1
    assert asides()[0].startswith("plandock.db.damaged-")
    assert (paths.state_dir() / asides()[0]).read_bytes() == garbage
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert asides()[0] in said


def test_a_newer_database_is_moved_aside_and_every_run_is_there(record, capsys):
    """What a newer plandock has written stays readable for it, under another name."""
    before = record("r222")
    make_newer()
    with Store() as store:
        assert store.list() == [before]
    assert [name.partition("-2")[0] for name in asides()] == ["plandock.db.newer"]
    assert "newer" in capsys.readouterr().err
    with sqlite3.connect(paths.state_dir() / asides()[0]) as db:
        assert db.execute("SELECT count(*) FROM run").fetchone() == (1,)
    db.close()


def test_a_database_that_was_deleted_is_rebuilt_from_the_folders(record):
    """Also after the last move: the folder has the state that the store had."""
    record("r222")
    with Store() as store:
        assert store.admit("r222", 2)
        store.move("r222", State.STAGING, State.RUNNING, attempt=1)
        before = store.get("r222")
    for path in paths.state_dir().glob("plandock.db*"):
        path.unlink()
    with Store() as store:
        assert store.list() == [before]


def test_damage_below_a_sound_first_page_is_mended_when_it_is_met(record):
    """A read answers from the rebuilt store; the file that was met is aside."""
    before = record("r222")
    spoil_the_runs()
    with Store() as store:
        assert store.list() == [before]
    assert len(asides()) == 1


def test_a_write_that_meets_damage_says_so_and_succeeds_when_done_again(record):
    """Half a transaction is never done twice: the caller hears of it."""
    record("r222")
    spoil_the_runs()
    with Store() as store:
        with pytest.raises(StoreError, match="rebuilt"):
            store.change("r222", step="box")
        assert store.change("r222", step="box").step == "box"


def test_an_open_store_goes_on_with_the_file_that_took_the_place_of_its_own(record):
    """A supervisor that had the damaged file open writes into the new one, not into the old."""
    record("r222")
    with Store() as mine:
        assert mine.admit("r222", 2)
        write_garbage()
        with Store() as other:
            assert other.get("r222").state is State.STAGING
            assert mine.move("r222", State.STAGING, State.RUNNING, attempt=1) is not None
            assert other.get("r222").state is State.RUNNING
            other.change("r222", stop_requested=True)
        assert mine.get("r222").stop_requested
        assert mine.get("r222").attempt == 1


def test_an_open_store_whose_folder_was_taken_away_makes_no_new_one(record):
    """Nobody's state folder is made anew by a process that was left behind."""
    record("r222")
    with Store() as mine:
        os.rename(paths.state_dir(), paths.state_dir().with_name("elsewhere"))
        with pytest.raises(StoreError, match="taken away"):
            mine.get("r222")
        assert not paths.state_dir().exists()


def test_without_mending_an_unfit_store_is_left_as_it_is(record):
    """`recover --dry-run` looks and changes nothing."""
    record("r222")
    garbage = write_garbage()
    with pytest.raises(Unfit) as caught:
        Store(mend=False)
    assert caught.value.kind == "damaged"
    assert paths.store_file().read_bytes() == garbage
    assert asides() == []


def test_a_run_that_was_forgotten_does_not_come_back(record):
    """Even where its folder was not removed any more."""
    record("r222")
    kept = record("r333")
    with Store() as store:
        store.delete("r222")
    write_garbage()
    with Store() as store:
        assert store.list() == [kept]


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"id": "r333"}', '{"id":"x","state":7}'])
def test_half_a_record_is_passed_over(record, text):
    """One unreadable folder does not keep the others from coming back."""
    kept = record("r222")
    folder = paths.run_dir("r333")
    folder.mkdir()
    (folder / "run.json").write_text(text)
    write_garbage()
    with Store() as store:
        assert store.list() == [kept]


def test_a_record_in_a_folder_of_another_name_is_passed_over(record):
    """A copy of a folder is not a second run, and no record names a place outside."""
    kept = record("r222")
    copy = paths.run_dir("r222-copy")
    copy.mkdir()
    (copy / "run.json").write_bytes((paths.run_dir("r222") / "run.json").read_bytes())
    write_garbage()
    with Store() as store:
        assert store.list() == [kept]


def test_a_run_taken_in_is_taken_in_once(record):
    """Neither the same id nor the same hand-off makes a second run."""
    known = record("r222")
    with Store() as store:
        assert not store.take_in(known)
        assert not store.take_in(Run(id=RunId("r444"), handoff_key="r222"))
        assert store.take_in(Run(id=RunId("r555"), handoff_key="another"))
        with pytest.raises(PlandockError):
            store.get("r444")


_ADD = """\
import sys
from plandock import paths
from plandock.runs import database
from plandock.runs.model import Run, RunId
from plandock.runs.store import Store
database._PATIENCE_S = 600.0
with Store() as store:
    for n in range(5):
        name = f"r{sys.argv[1]}x{n}"
        paths.run_dir(name).mkdir(parents=True)
        store.add(Run(id=RunId(name), handoff_key=name), name_branch=lambda _: "b")
        store.change(name, step="box")
"""


@pytest.mark.parametrize("spoil", [write_garbage, make_newer])
def test_ten_processes_that_find_an_unfit_store_at_once_lose_nothing(record, spoil):
    """One of them moves it aside, once; what each of them writes is there at the end."""
    record("r222")
    spoil()
    children = [
        subprocess.Popen([sys.executable, "-c", _ADD, str(n)], stderr=subprocess.PIPE)
        for n in range(10)
    ]
    said = [child.communicate(timeout=800)[1].decode() for child in children]
    assert [child.returncode for child in children] == [0] * 10, said
    with Store() as store:
        names = {run.id for run in store.list() if run.step == "box"}
        assert names == {f"r{p}x{n}" for p in range(10) for n in range(5)}
        assert store.get("r222").branch == "work/r222"
    assert len(asides()) == 1
    assert sum("made from the runs' folders" in words for words in said) == 1
