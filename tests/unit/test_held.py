"""The lock on a run's folder: one process drives a run."""

from __future__ import annotations

import os

from plandock import paths
from plandock.runs.model import Run, RunId, State
from plandock.runs.store import Store
from plandock.supervisor import drive, held


def test_lock_is_had_by_one_until_it_is_closed() -> None:
    """A second taker gets none, and one when the first has gone."""
    paths.run_dir("r222").mkdir(parents=True)
    first = held.take("r222")
    assert first is not None
    assert held.take("r222") is None
    with held.alone("r222") as free:
        assert not free
    os.close(first)
    second = held.take("r222")
    assert second is not None
    os.close(second)


def test_supervisor_ends_with_75_when_another_has_the_run(monkeypatch) -> None:
    """It leaves the run as it is; the control drives it to its end."""
    monkeypatch.setattr(drive, "_LOCK_PATIENCE_S", 0.0)
    paths.run_dir("r222").mkdir(parents=True)
    with Store() as store:
        run = Run(id=RunId("r222"), handoff_key="k", repo="/r", stop_requested=True)
        store.add(run, name_branch=lambda _: "feature/auto")
        lock = held.take("r222")
        assert lock is not None
        assert drive.drive("r222") == 75
        assert store.get("r222").state is State.QUEUED
        os.close(lock)
        assert drive.drive("r222") == 0
        assert store.get("r222").state is State.STOPPED
