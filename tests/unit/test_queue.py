"""Who goes next: admission among many processes, places, and who is woken."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from plandock import paths
from plandock.errors import StoreError
from plandock.runs import alive
from plandock.runs.model import Run, RunId, State, utc_now
from plandock.runs.store import Store
from plandock.supervisor import queue
from tests.support import queueing

RUNS, PROCESSES, MOST = 20, 10, 3

# Each process tries every run again and again, takes a place where it is given one, and gives it
# back: what ten supervisors do, without their boxes.
_CONTEND = f"""\
import time
from plandock.runs import database
from plandock.runs.model import State
from plandock.runs.store import Store
database._PATIENCE_S = 600.0
with Store() as store:
    while queued := [r for r in store.list(unfinished=True) if r.state is State.QUEUED]:
        for run in queued:
            if store.admit(run.id, {MOST}):
                time.sleep(0.002)
                for source, target in (("staging", "running"), ("running", "harvesting"),
                                       ("harvesting", "done")):
                    assert store.move(run.id, State(source), State(target))
"""


@pytest.fixture
def store() -> Iterator[Store]:
    """The store of this test's home."""
    with Store() as opened:
        yield opened


def add(store: Store, name: str, state: State = State.QUEUED, **fields: Any) -> Run:
    """A recorded run with a folder; the names give their order."""
    fields.setdefault("created_at", f"2026-01-02T03:04:05.000Z {name}")
    run = Run(id=RunId(name), state=state, handoff_key=name, repo="/r", **fields)
    folder = paths.run_dir(name)
    folder.mkdir(parents=True)
    (folder / "plan.md").write_text("# Plan\n")
    return store.add(run, name_branch=lambda taken: f"b{len(taken)}")[0]


def test_ten_processes_never_hold_more_places_than_there_are(store: Store) -> None:
    """Each run is admitted once, when fewer than the most go or stand before it."""
    names = [f"r{n:03}" for n in range(RUNS)]
    for name in names:
        add(store, name)
    assert store.admit(names[0], MOST)
    children = [
        subprocess.Popen([sys.executable, "-c", _CONTEND], stderr=subprocess.PIPE)
        for _ in range(PROCESSES)
    ]
    # The first run goes until another goes beside it: one process alone might be done with all.
    while all(store.get(name).state is State.QUEUED for name in names[1:]):
        assert any(child.poll() is None for child in children)
        time.sleep(0.01)
    for source, target in pairwise((State.STAGING, State.RUNNING, State.HARVESTING, State.DONE)):
        assert store.move(names[0], source, target)
    said = [child.communicate(timeout=800)[1].decode() for child in children]
    assert [child.returncode for child in children] == [0] * PROCESSES, said
    course = queueing.course(Path(store.path))
    assert sorted(course.order) == names
    assert 1 < course.most_at_once <= MOST
    for admission in course.admissions:
        assert admission.went + len(admission.older_queued) < MOST, admission


def test_the_record_of_a_queue_that_let_too_many_in_would_show_it(store: Store) -> None:
    """The positive control of the reading: with four places, four go at once."""
    for name in ("r1", "r2", "r3", "r4"):
        add(store, name)
    assert all(store.admit(name, MOST + 1) for name in ("r1", "r2", "r3", "r4"))
    assert queueing.course(Path(store.path)).most_at_once == MOST + 1


def test_a_run_whose_wait_is_over_stands_before_all_that_came_later(store: Store) -> None:
    """It keeps its age; who goes holds a place, who waits holds none but for one in its engine."""
    add(store, "r1", State.WAITING, reason="usage_limit")
    add(store, "r2", State.RUNNING)
    third, fourth = add(store, "r3"), add(store, "r4")
    assert [store.place_in_queue(x) for x in (third, fourth)] == [1, 2]
    first = store.move("r1", State.WAITING, State.QUEUED)
    assert first is not None
    assert [store.place_in_queue(x) for x in (first, third, fourth)] == [1, 2, 3]
    assert not store.admit("r3", 2)
    assert store.admit("r1", 2)
    store.move("r1", State.STAGING, State.WAITING, reason="engine", back_to="staging")
    assert [store.place_in_queue(x) for x in (third, fourth)] == [2, 3]


def test_a_run_is_left_to_the_process_that_makes_it_and_not_to_a_dead_one(store: Store) -> None:
    """Killed between the record and the start, however short ago: the next command starts it."""
    pid, started = alive.mine()
    add(store, "r1", created_at=utc_now(), supervisor_pid=pid, supervisor_started=started)
    assert queue.unwatched(store) == []
    store.change("r1", supervisor_started="of another boot")
    assert [run.id for run in queue.unwatched(store)] == ["r1"]


def test_who_makes_a_run_hands_it_to_its_supervisor(store: Store) -> None:
    """And takes it from no other process: a supervisor may have said so itself already."""
    pid, started = alive.mine()
    add(store, "r1", supervisor_pid=pid, supervisor_started=started)
    store.hand_to("r1", pid + 1, "then")
    assert store.get("r1").supervisor_pid == pid + 1
    store.hand_to("r1", pid + 2, "then")
    assert store.get("r1").supervisor_pid == pid + 1


def test_a_supervisor_that_cannot_be_recorded_has_been_started_all_the_same(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk may fill up just then; "nothing was started" would be untrue."""
    monkeypatch.setattr(queue, "start_supervisor", lambda *_, **__: 4711)

    def full(*_: object) -> None:
        raise StoreError("the store of runs cannot be written: database or disk is full")

    monkeypatch.setattr(Store, "hand_to", full)
    add(store, "r1")
    assert [run.id for run in queue.wake(store)] == ["r1"]


def test_a_clock_that_was_set_back_hides_no_run(store: Store) -> None:
    """A run from the future is looked for like any other."""
    add(store, "r1", created_at="2099-01-02T03:04:05.000Z")
    assert [run.id for run in queue.unwatched(store)] == ["r1"]


def test_a_long_queue_is_read_once_and_not_once_for_each_run_in_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every command looks for runs without a supervisor, however many stand in the queue."""
    pid, started = alive.mine()
    add(store, "r000", State.RUNNING, supervisor_pid=pid, supervisor_started=started)
    for n in range(1, 60):
        add(store, f"r{n:03}", snapshot="0" * 40)
    read: list[str] = []
    real = Run.from_record.__func__  # type: ignore[attr-defined]

    def counted(cls: type[Run], data: dict[str, Any]) -> Any:
        read.append(data["id"])
        return real(cls, data)

    monkeypatch.setattr(Run, "from_record", classmethod(counted))
    assert [run.id for run in queue.unwatched(store)] == ["r001", "r002"]
    assert len(read) == 60


def test_a_supervisor_that_is_on_its_way_is_not_started_twice(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who starts it records it; one that was killed stays recorded, so that its heir knows."""
    children = [subprocess.Popen(["sleep", "600"]) for _ in range(2)]
    given = iter(children)
    monkeypatch.setattr(queue, "start_supervisor", lambda *_, **__: next(given).pid)
    add(store, "r1", snapshot="0" * 40)
    try:
        assert [run.id for run in queue.wake(store)] == ["r1"]
        assert queue.wake(store) == []
        assert store.get("r1").supervisor_pid == children[0].pid
        children[0].kill()
        children[0].wait()
        assert [run.id for run in queue.wake(store)] == ["r1"]
        assert store.get("r1").supervisor_pid == children[0].pid
    finally:
        for child in children:
            child.kill()
            child.wait()
