"""The guard of a move: it is made by whoever sees the run where it still is."""

from __future__ import annotations

import threading

import pytest

from plandock.errors import StoreError
from plandock.runs.model import Run, RunId, State
from plandock.runs.store import Store


@pytest.fixture
def added() -> None:
    """A run that is being staged."""
    with Store() as store:
        run = Run(id=RunId("r222"), state=State.STAGING, handoff_key="k", repo="/r")
        store.add(run, name_branch=lambda _: "feature/auto")


@pytest.mark.usefixtures("added")
def test_move_does_nothing_when_the_run_is_no_longer_where_it_was() -> None:
    """Neither its state nor a field of it, and nothing is recorded."""
    with Store() as mine, Store() as theirs:
        assert theirs.move("r222", State.STAGING, State.STOPPED, reason="stopped") is not None
        assert mine.move("r222", State.STAGING, State.RUNNING, reason="late") is None
        run = mine.get("r222")
        assert (run.state, run.reason) == (State.STOPPED, "stopped")
        assert [e["to"] for e in mine.events("r222") if e["kind"] == "moved"] == ["stopped"]


@pytest.mark.usefixtures("added")
def test_move_is_made_by_one_when_many_try_at_once() -> None:
    """Each has a store of its own, as processes have."""
    made: list[Run | None] = []
    ready = threading.Barrier(8)

    def move() -> None:
        with Store() as store:
            ready.wait(60)
            made.append(store.move("r222", State.STAGING, State.RUNNING))

    threads = [threading.Thread(target=move) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    assert sum(run is not None for run in made) == 1


@pytest.mark.usefixtures("added")
def test_move_is_refused_when_no_run_can_go_that_way() -> None:
    """A state is left only by the ways that there are."""
    with Store() as store:
        with pytest.raises(StoreError):
            store.move("r222", State.STAGING, State.DONE)
        assert store.get("r222").state is State.STAGING
