"""What the store's record of moves tells about a queue: who held a place, and in which order."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path

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
