"""A supervisor drives the run whose folder it has locked, and no other."""

from __future__ import annotations

import shutil

from plandock import paths
from plandock.runs import alive
from plandock.runs.model import Run, RunId, State
from plandock.runs.store import Store
from plandock.supervisor import drive, held, queue


def add() -> Run:
    """A queued run that is to end: driving it needs no engine."""
    paths.run_dir("r222").mkdir(parents=True)
    run = Run(id=RunId("r222"), stop_requested=True)
    with Store() as store:
        return store.add(run, name_branch=lambda _: "feature/auto")[0]


def state() -> State:
    """Where the run stands."""
    with Store() as store:
        return store.get("r222").state


def test_a_supervisor_drives_its_run_to_the_end():
    """The positive control."""
    add()
    assert drive.drive("r222") == 0
    assert state() is State.STOPPED


def test_a_supervisor_whose_folder_was_replaced_leaves_the_run_alone(monkeypatch, capsys):
    """The run may have been adopted meanwhile, and be driven by another."""
    add()
    lock = held.take("r222")

    def replaced(*_: object) -> int | None:
        (paths.run_dir("r222") / "lock").rename(paths.run_dir("r222") / "old")
        (paths.run_dir("r222") / "lock").touch()
        return lock

    monkeypatch.setattr(held, "take", replaced)
    assert drive.drive("r222") == 0
    assert state() is State.QUEUED
    assert "leaves it alone" in capsys.readouterr().out


def ended_in_the_hand_of(pid: int, started: str) -> Store:
    """The store with a run that has come to its end, and whose supervisor is this process."""
    add()
    (paths.run_dir("r222") / "plan.md").write_text("# Plan\n")
    store = Store()
    store.change("r222", supervisor_pid=pid, supervisor_started=started)
    store.move("r222", State.QUEUED, State.STOPPED)
    return store


def test_an_end_whose_supervisor_was_killed_before_it_told_of_it_is_told_by_the_next():
    """Receipt and notification come after the last move; they are not lost with the process."""
    with ended_in_the_hand_of(1 << 22, "of another boot") as store:
        assert [run.id for run in queue.unwatched(store)] == ["r222"]
        assert not (paths.run_dir("r222") / "receipt.json").exists()
        assert drive.drive("r222") == 0
        run = store.get("r222")
        assert (paths.run_dir("r222") / "receipt.json").is_file()
        assert (run.told, run.supervisor_pid) == (["0/stopped"], 0)
        assert queue.unwatched(store) == []


def test_an_end_that_is_being_told_by_a_living_supervisor_is_left_to_it():
    """The control: nobody else is started for it."""
    with ended_in_the_hand_of(*alive.mine()) as store:
        assert queue.unwatched(store) == []


def test_a_supervisor_puts_down_only_what_is_its_own():
    """A resumed run may be driven by another when the one before it is through with telling."""
    pid, started = alive.mine()
    with ended_in_the_hand_of(pid, started) as store:
        assert store.put_down("r222", pid + 1, started).supervisor_pid == pid
        assert store.put_down("r222", pid, started).supervisor_pid == 0


def test_a_supervisor_whose_state_folder_was_taken_away_leaves(monkeypatch, capsys):
    """It neither tries for ever nor makes an empty state folder in the place of the old one."""
    add()

    def work(store: Store, run: Run) -> bool:
        shutil.rmtree(paths.state_dir())
        store.get(run.id)
        return False

    monkeypatch.setattr(drive, "_step", work)
    assert drive.drive("r222") == 0
    assert "has been taken away" in capsys.readouterr().out
    assert not paths.state_dir().exists()


def test_a_run_that_stays_where_it_is_fills_no_log(monkeypatch, capsys):
    """It may stand in the queue for hours, looked at several times a second."""
    add()
    looks = []

    def work(store: Store, run: Run) -> bool:
        looks.append(run.state)
        if len(looks) == 50:
            store.move(run.id, State.QUEUED, State.STOPPED)
        return True

    monkeypatch.setattr(drive, "_step", work)
    assert drive.drive("r222") == 0
    assert len(looks) == 50
    assert capsys.readouterr().out.count("state queued") == 1
