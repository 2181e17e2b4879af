"""The store: every run and what happened to it, in one SQLite file.

Writers guard each move by the state they believe the run to be in (`UPDATE … WHERE state = ?`),
so two processes can never both make it.  The record itself is one JSON column: the columns beside
it are those that are searched by.  Standard library only: the hook imports this.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from plandock import paths
from plandock.errors import PlandockError, StoreError, UsageError
from plandock.runs import folder
from plandock.runs.database import Database
from plandock.runs.model import MOVES, Run, RunId, State, new_run_id, utc_now

# By name and in order; a database remembers which it has had.
MIGRATIONS: tuple[tuple[str, str], ...] = (
    (
        "0001-runs-and-events",
        """
        CREATE TABLE run (
            id TEXT PRIMARY KEY,
            state TEXT NOT NULL,
            repo TEXT NOT NULL,
            branch TEXT NOT NULL,
            session_id TEXT NOT NULL,
            handoff_key TEXT NOT NULL UNIQUE,
            created_at TEXT NOT NULL,
            record TEXT NOT NULL
        );
        CREATE INDEX run_state ON run (state);
        CREATE INDEX run_session ON run (session_id);
        CREATE TABLE event (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            run TEXT NOT NULL,
            at TEXT NOT NULL,
            kind TEXT NOT NULL,
            data TEXT NOT NULL
        );
        CREATE INDEX event_run ON event (run, seq);
        """,
    ),
)


class Store:
    """An open store.  Use as a context manager; every public call is one transaction."""

    def __init__(self, path: str | os.PathLike[str] | None = None, *, mend: bool = True) -> None:
        """Open (and where needed create) the store; raises :class:`StoreError`.

        A damaged one, or one of a newer plandock, is moved aside and rebuilt from the runs'
        folders, which lie beside it; without ``mend`` it raises
        :class:`plandock.runs.database.Unfit`.  Where nothing can be written it is open for
        reading, and every change raises.
        """
        self.path = os.fspath(path if path is not None else paths.store_file())
        self._runs = os.path.join(os.path.dirname(self.path), "runs")
        self._db = Database(self.path, MIGRATIONS, self._fill, mend=mend)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    @property
    def cannot_write(self) -> str:
        """Why the store can be read but not written; "" where it can."""
        return self._db.cannot_write

    def faults(self) -> list[str]:
        """What is wrong with the database and its records, a line each; empty where it is sound."""
        return self._db.faults() or [
            f"the record of {run_id} cannot be read" for run_id in self.damaged_records()
        ]

    def damaged_records(self) -> dict[str, Run | None]:
        """Records that cannot be read (SQLite keeps no checksums), each with its folder's copy."""
        rows = self._db.rows("SELECT id, record FROM run ORDER BY rowid")
        return {n: folder.read(self._runs, n) for n, record in rows if _read(record) is None}

    def _whole(self, rows: Iterable[tuple[str, str]]) -> list[Run]:
        """The runs of rows of id and record; for one that cannot be read its folder's copy."""
        runs = (_read(record) or folder.read(self._runs, run_id) for run_id, record in rows)
        return [run for run in runs if run is not None]

    def _one(self, rows: Sequence[tuple[str, str]]) -> Run:
        for run in self._whole(rows[:1]):
            return run
        raise StoreError(f"the record of {rows[0][0]} cannot be read, and its folder has no copy")

    def _fill(self, connection: sqlite3.Connection) -> None:
        """Take the runs of all folders into a store that has just been made."""
        # In the order in which they were made: the rows' own order says which is the last.
        for run in sorted(folder.records(self._runs), key=lambda r: (r.created_at, r.id)):
            connection.execute(_INSERT.replace("INSERT", "INSERT OR IGNORE"), _row(run))
            connection.execute(
                "INSERT INTO event (run, at, kind, data) VALUES (?, ?, 'rebuilt', '{}')",
                (run.id, utc_now()),
            )

    def take_in(self, run: Run) -> bool:
        """Add a run that was found in its folder or in an engine; False where it is known."""
        with self._db.write():
            known = self._db.rows(
                "SELECT 1 FROM run WHERE id = ? OR handoff_key = ?", (run.id, run.handoff_key)
            )
            if known:
                return False
            self._db.rows(_INSERT, _row(run))
            self._event(run.id, "adopted", {"state": str(run.state), "branch": run.branch})
            folder.write(self._runs, run, synced=True)
        return True

    def add(self, run: Run, *, name_branch: Callable[[set[str]], str]) -> tuple[Run, bool]:
        """Record a new run, once per ``handoff_key``; returns the run and whether it is new.

        ``name_branch`` gets the branches that unfinished runs of the same repository hold and
        answers the one to use: inside the transaction, so that two hand-offs never pick the same.
        """
        with self._db.write():
            known = self._db.rows(
                "SELECT id, record FROM run WHERE handoff_key = ?", (run.handoff_key,)
            )
            if known:
                return self._one(known), False
            taken = {
                r[0]
                for r in self._db.rows(
                    "SELECT branch FROM run WHERE repo = ?"
                    " AND state NOT IN ('done', 'failed', 'stopped')",
                    (run.repo,),
                )
            }
            while self._db.rows("SELECT 1 FROM run WHERE id = ?", (run.id,)):
                run.id = new_run_id()
            run.branch = name_branch(taken)
            run.created_at = run.created_at or utc_now()
            self._db.rows(_INSERT, _row(run))
            self._event(run.id, "recorded", {"state": str(run.state), "branch": run.branch})
            folder.write(self._runs, run, synced=True)
        return run, True

    def get(self, run_id: str) -> Run:
        """The run with exactly this id; raises :class:`PlandockError` when there is none."""
        rows = self._db.rows("SELECT id, record FROM run WHERE id = ?", (run_id,))
        if not rows:
            raise PlandockError(f"no run {run_id}", hint="plandock ps --all lists them")
        return self._one(rows)

    def find(self, name: str) -> Run:
        """The run that ``name`` means: an id, an unambiguous prefix of one, or ``last``."""
        if name == "last":
            # By the rows' order: a clock may have been set back since.
            rows = self._db.rows("SELECT id, record FROM run ORDER BY rowid DESC LIMIT 1")
            if not rows:
                raise PlandockError("there is no run yet", hint="accept a plan in Claude Code")
            return self._one(rows)
        rows = self._db.rows(
            "SELECT id, record FROM run WHERE substr(id, 1, ?) = ? ORDER BY id", (len(name), name)
        )
        exact = [r for r in rows if r[0] == name]
        if not rows or not name:
            raise PlandockError(f"no run {name!r}", hint="plandock ps --all lists them")
        if len(rows) > 1 and not exact:
            raise UsageError(
                f"{name!r} could be any of {', '.join(r[0] for r in rows[:5])}",
                hint="give more of the id",
            )
        return self._one(exact or rows)

    def events(self, run_id: str) -> list[dict[str, Any]]:
        """What happened to a run, oldest first: ``at``, ``kind`` and the event's own keys."""
        rows = self._db.rows(
            "SELECT at, kind, data FROM event WHERE run = ? ORDER BY seq", (run_id,)
        )
        return [{"at": at, "kind": kind, **json.loads(data)} for at, kind, data in rows]

    def last_move(self, run_id: str) -> str:
        """When the run came into the state it is in (RFC 3339)."""
        rows = self._db.rows(
            "SELECT at FROM event WHERE run = ? AND kind = 'moved' ORDER BY seq DESC LIMIT 1",
            (run_id,),
        )
        return str(rows[0][0]) if rows else self.get(run_id).created_at

    def ended_in_hand(self) -> list[Run]:
        """Ended runs, oldest first, that a supervisor drives or was driving when it was killed."""
        rows = self._db.rows(
            "SELECT id, record FROM run WHERE state IN ('done', 'failed', 'stopped')"
            " AND CASE WHEN json_valid(record) THEN json_extract(record, '$.supervisor_pid') END"
            " <> 0 ORDER BY rowid"
        )
        return self._whole(rows)

    def list(self, *, unfinished: bool = False, repo: str = "") -> list[Run]:
        """Runs, newest first; only unfinished ones, or only those of one repository, if asked."""
        where, values = ["1"], []
        if unfinished:
            where.append("state NOT IN ('done', 'failed', 'stopped')")
        if repo:
            where.append("repo = ?")
            values.append(repo)
        query = f"SELECT id, record FROM run WHERE {' AND '.join(where)}"  # noqa: S608
        return self._whole(self._db.rows(query + " ORDER BY rowid DESC", values))

    def other_branches(self, run: Run) -> set[str]:
        """Names promised to, or taken by, other runs of its repository, ended ones included."""
        query = "SELECT branch FROM run WHERE repo = ? AND id <> ? AND branch <> ''"
        return {name for (name,) in self._db.rows(query, (run.repo, run.id))}

    def latest_of_session(self, session_id: str) -> Run | None:
        """The newest run that was handed off from this session."""
        rows = self._db.rows(
            "SELECT id, record FROM run WHERE session_id = ? ORDER BY rowid DESC LIMIT 1",
            (session_id,),
        )
        return self._one(rows) if rows else None

    def move(self, run_id: str, source: State, target: State, **changes: Any) -> Run | None:
        """Move a run from one state to another and change fields with it, or do nothing.

        Returns the run as it is now, or None when it was no longer in ``source``: somebody else
        moved it, and the caller must look again.
        """
        if target not in MOVES[source]:
            raise StoreError(f"a run cannot go from {source} to {target}")
        with self._db.write():
            run = self.get(run_id)
            if run.state is not source:
                return None
            _apply(run, changes)
            run.state = target
            self._save(run, synced=True)
            data = {k: v for k, v in changes.items() if k in ("reason", "message", "waiting_until")}
            self._event(run.id, "moved", {"from": str(source), "to": str(target), **data})
        return run

    def admit(self, run_id: str, most: int) -> bool:
        """Move a queued run on to staging if it is its turn; whether it went.

        In one transaction, so that many supervisors never hold more than ``most`` places between
        them.  The longest waiting goes first; who waits for something else holds no place, but
        for one whose box may still be there.
        """
        with self._db.write():
            run = self.get(run_id)
            if run.state is not State.QUEUED or self._place_of(run) >= most:
                return False
            run.state = State.STAGING
            run.started_at = run.started_at or utc_now()
            self._save(run, synced=True)
            self._event(run.id, "moved", {"from": "queued", "to": "staging"})
        return True

    def place_in_queue(self, run: Run) -> int:
        """How many runs go, or stand in the queue, before this queued one."""
        return self._place_of(run)

    def _place_of(self, run: Run) -> int:
        # Counted by columns: with hundreds in the queue each one's record would be read for each.
        query = "SELECT count(*) FROM run WHERE state = 'queued' AND (created_at, id) < (?, ?)"
        before = int(self._db.rows(query, (run.created_at, run.id))[0][0])
        goes = "SELECT count(*) FROM run WHERE state IN ('staging', 'running', 'harvesting')"
        before += int(self._db.rows(goes)[0][0])
        waits = self._db.rows("SELECT id, record FROM run WHERE state = 'waiting'")
        return before + sum(bool(other.back_to) for other in self._whole(waits))

    def change(self, run_id: str, **changes: Any) -> Run:
        """Change fields of a run, never its state."""
        if "state" in changes or "id" in changes:
            raise StoreError("a run's state changes by `move` alone")
        with self._db.write():
            run = self.get(run_id)
            _apply(run, changes)
            self._save(run)
        return run

    def add_user_message(self, run_id: str, text: str) -> bool:
        """Record what the user wrote beside the plan, once; False where the agent has begun."""
        with self._db.write():
            run = self.get(run_id)
            if text in run.user_messages:
                return True
            if run.attempt or run.state.final:
                return False
            run.user_messages.append(text)
            self._save(run)
        return True

    def hand_to(self, run_id: str, pid: int, started: str) -> None:
        """Record a supervisor that was just started, where none is recorded but this process,
        which makes the run: until it says so itself, everybody who looks would start one more."""
        with self._db.write():
            run = self.get(run_id)
            if started and run.supervisor_pid in (0, os.getpid()):
                run.supervisor_pid, run.supervisor_started = pid, started
                self._save(run)

    def put_down(self, run_id: str, pid: int, started: str) -> Run:
        """Record that this supervisor drives the run no more, unless another has taken it up."""
        with self._db.write():
            run = self.get(run_id)
            if (run.supervisor_pid, run.supervisor_started) == (pid, started):
                run.supervisor_pid, run.supervisor_started = 0, ""
                self._save(run)
        return run

    def tell_once(self, run_id: str, what: str) -> bool:
        """Record that the user is told of something; False where that was recorded before."""
        with self._db.write():
            run = self.get(run_id)
            if what in run.told:
                return False
            run.told.append(what)
            self._save(run, synced=True)
        return True

    def catch_up(self, run: Run) -> bool:
        """Take a run's record from its folder where that is later; whether it was.

        So it is where the database was put back: by a backup, or by somebody who took its log for
        a left-over.  By one write it is later also where a writer was killed before its commit.
        """
        kept = folder.read(self._runs, run.id)
        if kept is None or kept.revision <= run.revision + 1:
            return False
        with self._db.write():
            behind = kept.revision > self.get(run.id).revision + 1
            if behind:
                self._put_back(kept)
        return behind

    def restore(self, run: Run) -> None:
        """Put a run's record in the place of one that is old or cannot be read."""
        with self._db.write():
            self._put_back(run)

    def _put_back(self, run: Run) -> None:
        self._save(run, synced=True)
        self._event(run.id, "restored", {"state": str(run.state)})

    def _save(self, run: Run, *, synced: bool = False) -> None:
        run.revision += 1
        self._db.rows(
            "UPDATE run SET state = ?, branch = ?, record = ? WHERE id = ?",
            (str(run.state), run.branch, _dump(run), run.id),
        )
        # Inside the transaction: two writers of one run leave the later of the two.
        folder.write(self._runs, run, synced=synced)

    def delete(self, run_id: str) -> None:
        """Forget a run and its events."""
        with self._db.write():
            folder.forget(self._runs, run_id)
            self._db.rows("DELETE FROM run WHERE id = ?", (run_id,))
            self._db.rows("DELETE FROM event WHERE run = ?", (run_id,))

    def note_event(self, run_id: str, kind: str, data: dict[str, Any] | None = None) -> None:
        """Append one event to a run's record."""
        with self._db.write():
            self._event(RunId(run_id), kind, data or {})

    def _event(self, run_id: RunId, kind: str, data: dict[str, Any]) -> None:
        self._db.rows(
            "INSERT INTO event (run, at, kind, data) VALUES (?, ?, ?, ?)",
            (run_id, utc_now(), kind, json.dumps(data)),
        )


_INSERT = "INSERT INTO run VALUES (?, ?, ?, ?, ?, ?, ?, ?)"


def _row(run: Run) -> tuple[str, ...]:
    return (
        run.id,
        str(run.state),
        run.repo,
        run.branch,
        run.session_id,
        run.handoff_key,
        run.created_at,
        _dump(run),
    )


def _read(record: str) -> Run | None:
    try:
        return Run.from_record(json.loads(record))
    except folder.UNREADABLE:
        return None


def _dump(run: Run) -> str:
    # ASCII escapes: a lone surrogate from an undecodable path must survive the round trip.
    return json.dumps(run.to_record())


def _apply(run: Run, changes: dict[str, Any]) -> None:
    for name, value in changes.items():
        if not hasattr(run, name):
            raise StoreError(f"a run has no {name}")
        setattr(run, name, value)
