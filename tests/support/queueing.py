"""A queue as it goes and as it went: who held a place, and in which order.

The store's record of moves tells it, and for boxes the engine's own events.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from plandock.runs.model import Run, State
from tests.crash.crashing import store_of
from tests.support.laptop import Laptop

GOING = ("staging", "running", "harvesting")


@dataclass(frozen=True)
class Admission:
    """A run that got a place: how many went already, and which older ones stood before it."""

    run: str
    went: int
    older_queued: tuple[str, ...]


@dataclass(frozen=True)
class Course:
    """All moves of all runs, in the order in which they were committed."""

    admissions: tuple[Admission, ...]
    most_at_once: int

    @property
    def order(self) -> list[str]:
        """The runs in the order in which they got their places."""
        return [admission.run for admission in self.admissions]


def course(store: Path) -> Course:
    """Read the course of a queue from the store's events; waits in the engine aside."""
    with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as database:
        rows = database.execute(
            "SELECT event.run, run.created_at, event.kind, event.data FROM event"
            " JOIN run ON run.id = event.run ORDER BY event.seq"
        ).fetchall()
    database.close()
    state: dict[str, str] = {}
    age: dict[str, tuple[str, str]] = {}
    admissions = []
    most = 0
    for run, created, kind, text in rows:
        data = json.loads(text)
        age[run] = (created, run)
        if kind == "recorded":
            state[run] = data["state"]
        if kind != "moved":
            continue
        if (data["from"], data["to"]) == ("queued", "staging"):
            older = [x for x, s in state.items() if s == "queued" and age[x] < age[run]]
            went = sum(s in GOING for s in state.values())
            admissions.append(Admission(run, went, tuple(sorted(older))))
        state[run] = data["to"]
        most = max(most, sum(s in GOING for s in state.values()))
    return Course(tuple(admissions), most)


def until(laptop: Laptop, run_id: str, *states: State, patience_s: float = 900.0) -> Run:
    """A run as soon as it is in one of these states; the store is read, no command is typed."""
    end = time.monotonic() + patience_s
    with store_of(laptop) as store:
        while (run := store.get(run_id)).state not in states:
            assert not run.state.final, run
            assert time.monotonic() < end, run
            time.sleep(0.1)
    return run


@dataclass
class Boxes:
    """How many boxes were at work at a time, as the engine tells of their starts and ends."""

    most: int = 0
    _working: set[str] = field(default_factory=set)
    _ended: set[str] = field(default_factory=set)
    _moved: threading.Condition = field(default_factory=threading.Condition)

    def note(self, action: str, name: str) -> None:
        """Take in one event of one box."""
        with self._moved:
            if action == "start":
                self._working.add(name)
            else:
                self._working.discard(name)
                self._ended.add(name)
            self.most = max(self.most, len(self._working))
            self._moved.notify_all()

    def wait_for_ends(self, runs: Set[str], timeout_s: float) -> None:
        """Wait until the box of each of these runs has ended; raises AssertionError."""
        wanted = {f"plandock-{run}-box" for run in runs}
        with self._moved:
            assert self._moved.wait_for(lambda: wanted <= self._ended, timeout_s), self._ended


@contextmanager
def boxes_at_work(laptop: Laptop) -> Iterator[Boxes]:
    """The boxes of one laptop's runs from now on, told apart by the runs in its store."""
    boxes = Boxes()
    # Since now, or what starts before the engine has heard the question would be missed.
    argv = [laptop.engine, "events", "--since", f"{time.time():.3f}"]
    argv += ["--filter", "label=plandock.role=box", "--filter", "event=start"]
    argv += ["--filter", "event=die", "--format", "{{.Action}} {{.Actor.Attributes.name}}"]

    def follow() -> None:
        assert child.stdout is not None
        for line in child.stdout:
            action, name = line.split()
            with store_of(laptop) as store:
                ours = {f"plandock-{run.id}-box" for run in store.list()}
            if name in ours:
                boxes.note(action, name)

    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as child:
        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield boxes
        finally:
            child.terminate()
            thread.join()
