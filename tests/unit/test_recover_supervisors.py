"""A supervisor drives the run whose folder it has locked, and no other."""

from __future__ import annotations

from plandock import paths
from plandock.runs.model import Run, RunId, State
from plandock.runs.store import Store
from plandock.supervisor import drive


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
    lock = drive._lock("r222")

    def replaced(_: str) -> int | None:
        (paths.run_dir("r222") / "lock").rename(paths.run_dir("r222") / "old")
        (paths.run_dir("r222") / "lock").touch()
        return lock

    monkeypatch.setattr(drive, "_lock", replaced)
    assert drive.drive("r222") == 0
    assert state() is State.QUEUED
    assert "leaves it alone" in capsys.readouterr().out
