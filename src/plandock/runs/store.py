"""The store: every run and what happened to it, in one SQLite file.

Writers guard each move by the state they believe the run to be in (`UPDATE … WHERE state = ?`),
so two processes can never both make it.  The record itself is one JSON column: the columns beside
it are those that are searched by.  Standard library only: the hook imports this.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

from plandock import paths
from plandock.errors import PlandockError, StoreError, UsageError
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

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        """Open (and where needed create) the store; raises :class:`StoreError`."""
        self.path = os.fspath(path if path is not None else paths.store_file())
        try:
            os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
            # Created by hand first: SQLite would use the umask, and prompts are private.  Only
            # where it is not there: closing any descriptor of the file drops the POSIX locks of
            # every connection in this process, and another process may then delete the log that
            # they write to (sqlite.org/howtocorrupt.html, 2.2; measured).
            with contextlib.suppress(FileExistsError):
                os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            self._db = sqlite3.connect(self.path, timeout=20.0, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._migrate()
        except (OSError, sqlite3.Error) as error:
            raise StoreError(
                f"the store of runs cannot be opened: {error}",
                hint=f"look at {self.path}; moved aside, a new one is made",
            ) from error

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def _migrate(self) -> None:
        if self._db.execute("PRAGMA user_version").fetchone()[0] == len(MIGRATIONS):
            return
        with self._write():
            self._db.execute("CREATE TABLE IF NOT EXISTS migration (name TEXT PRIMARY KEY)")
            had = {row[0] for row in self._db.execute("SELECT name FROM migration")}
            unknown = had - {name for name, _ in MIGRATIONS}
            if unknown:
                raise StoreError(
                    "the store of runs was written by a newer plandock",
                    hint="upgrade plandock, or move " + self.path + " aside",
                )
            for name, script in MIGRATIONS:
                if name not in had:
                    for statement in filter(str.strip, script.split(";")):
                        self._db.execute(statement)
                    self._db.execute("INSERT INTO migration VALUES (?)", (name,))
            self._db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    @contextlib.contextmanager
    def _write(self) -> Iterator[None]:
        """One write transaction, begun as such so that it waits instead of failing half-way."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise StoreError(f"the store of runs cannot be written: {error}") from error

    def add(self, run: Run, *, name_branch: Callable[[set[str]], str]) -> tuple[Run, bool]:
        """Record a new run, once per ``handoff_key``; returns the run and whether it is new.

        ``name_branch`` gets the branches that unfinished runs of the same repository hold and
        answers the one to use: inside the transaction, so that two hand-offs never pick the same.
        """
        with self._write():
            row = self._db.execute(
                "SELECT record FROM run WHERE handoff_key = ?", (run.handoff_key,)
            ).fetchone()
            if row:
                return Run.from_record(json.loads(row[0])), False
            taken = {
                r[0]
                for r in self._db.execute(
                    "SELECT branch FROM run WHERE repo = ?"
                    " AND state NOT IN ('done', 'failed', 'stopped')",
                    (run.repo,),
                )
            }
            while self._db.execute("SELECT 1 FROM run WHERE id = ?", (run.id,)).fetchone():
                run.id = new_run_id()
            run.branch = name_branch(taken)
            run.created_at = run.created_at or utc_now()
            self._db.execute(
                "INSERT INTO run VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    run.id,
                    str(run.state),
                    run.repo,
                    run.branch,
                    run.session_id,
                    run.handoff_key,
                    run.created_at,
                    _dump(run),
                ),
            )
            self._event(run.id, "recorded", {"state": str(run.state), "branch": run.branch})
        return run, True

    def get(self, run_id: str) -> Run:
        """The run with exactly this id; raises :class:`PlandockError` when there is none."""
        row = self._db.execute("SELECT record FROM run WHERE id = ?", (run_id,)).fetchone()
        if row is None:
            raise PlandockError(f"no run {run_id}", hint="plandock ps --all lists them")
        return Run.from_record(json.loads(row[0]))

    def find(self, name: str) -> Run:
        """The run that ``name`` means: an id, an unambiguous prefix of one, or ``last``."""
        if name == "last":
            row = self._db.execute(
                "SELECT record FROM run ORDER BY created_at DESC, rowid DESC LIMIT 1"
            ).fetchone()
            if row is None:
                raise PlandockError("there is no run yet", hint="accept a plan in Claude Code")
            return Run.from_record(json.loads(row[0]))
        rows = self._db.execute(
            "SELECT id, record FROM run WHERE substr(id, 1, ?) = ? ORDER BY id", (len(name), name)
        ).fetchall()
        exact = [r for r in rows if r[0] == name]
        if not rows or not name:
            raise PlandockError(f"no run {name!r}", hint="plandock ps --all lists them")
        if len(rows) > 1 and not exact:
            raise UsageError(
                f"{name!r} could be any of {', '.join(r[0] for r in rows[:5])}",
                hint="give more of the id",
            )
        return Run.from_record(json.loads((exact or rows)[0][1]))

    def events(self, run_id: str) -> list[dict[str, Any]]:
        """What happened to a run, oldest first: ``at``, ``kind`` and the event's own keys."""
        rows = self._db.execute(
            "SELECT at, kind, data FROM event WHERE run = ? ORDER BY seq", (run_id,)
        )
        return [{"at": at, "kind": kind, **json.loads(data)} for at, kind, data in rows]

    def last_move(self, run_id: str) -> str:
        """When the run came into the state it is in (RFC 3339)."""
        row = self._db.execute(
            "SELECT at FROM event WHERE run = ? AND kind = 'moved' ORDER BY seq DESC LIMIT 1",
            (run_id,),
        ).fetchone()
        return str(row[0]) if row else self.get(run_id).created_at

    def list(self, *, unfinished: bool = False, repo: str = "") -> list[Run]:
        """Runs, newest first; only unfinished ones, or only those of one repository, if asked."""
        where, values = ["1"], []
        if unfinished:
            where.append("state NOT IN ('done', 'failed', 'stopped')")
        if repo:
            where.append("repo = ?")
            values.append(repo)
        query = f"SELECT record FROM run WHERE {' AND '.join(where)}"  # noqa: S608 - fixed words
        rows = self._db.execute(query + " ORDER BY created_at DESC, rowid DESC", values)
        return [Run.from_record(json.loads(r[0])) for r in rows]

    def latest_of_session(self, session_id: str) -> Run | None:
        """The newest run that was handed off from this session."""
        row = self._db.execute(
            "SELECT record FROM run WHERE session_id = ? ORDER BY created_at DESC LIMIT 1",
            (session_id,),
        ).fetchone()
        return Run.from_record(json.loads(row[0])) if row else None

    def move(self, run_id: str, source: State, target: State, **changes: Any) -> Run | None:
        """Move a run from one state to another and change fields with it, or do nothing.

        Returns the run as it is now, or None when it was no longer in ``source``: somebody else
        moved it, and the caller must look again.
        """
        if target not in MOVES[source]:
            raise StoreError(f"a run cannot go from {source} to {target}")
        with self._write():
            run = self.get(run_id)
            if run.state is not source:
                return None
            _apply(run, changes)
            run.state = target
            self._save(run)
            data = {k: v for k, v in changes.items() if k in ("reason", "message", "waiting_until")}
            self._event(run.id, "moved", {"from": str(source), "to": str(target), **data})
        return run

    def admit(self, run_id: str, most: int) -> bool:
        """Move a queued run on to staging if it is its turn; whether it went.

        In one transaction, so that many supervisors never hold more than ``most`` places between
        them.  The longest waiting goes first; who waits for something else holds no place, but
        for one whose box may still be there.
        """
        with self._write():
            run = self.get(run_id)
            if run.state is not State.QUEUED or self._place_of(run) >= most:
                return False
            run.state = State.STAGING
            run.started_at = run.started_at or utc_now()
            self._save(run)
            self._event(run.id, "moved", {"from": "queued", "to": "staging"})
        return True

    def place_in_queue(self, run: Run) -> int:
        """How many runs go, or stand in the queue, before this queued one."""
        return self._place_of(run)

    def _place_of(self, run: Run) -> int:
        before = 0
        for other in self.list(unfinished=True):
            if other.state is State.QUEUED:
                before += (other.created_at, other.id) < (run.created_at, run.id)
            elif other.state is not State.WAITING or other.back_to:
                before += 1
        return before

    def change(self, run_id: str, **changes: Any) -> Run:
        """Change fields of a run, never its state."""
        if "state" in changes or "id" in changes:
            raise StoreError("a run's state changes by `move` alone")
        with self._write():
            run = self.get(run_id)
            _apply(run, changes)
            self._save(run)
        return run

    def _save(self, run: Run) -> None:
        self._db.execute(
            "UPDATE run SET state = ?, branch = ?, record = ? WHERE id = ?",
            (str(run.state), run.branch, _dump(run), run.id),
        )

    def delete(self, run_id: str) -> None:
        """Forget a run and its events."""
        with self._write():
            self._db.execute("DELETE FROM run WHERE id = ?", (run_id,))
            self._db.execute("DELETE FROM event WHERE run = ?", (run_id,))

    def note_event(self, run_id: str, kind: str, data: dict[str, Any] | None = None) -> None:
        """Append one event to a run's record."""
        with self._write():
            self._event(RunId(run_id), kind, data or {})

    def _event(self, run_id: RunId, kind: str, data: dict[str, Any]) -> None:
        self._db.execute(
            "INSERT INTO event (run, at, kind, data) VALUES (?, ?, ?, ?)",
            (run_id, utc_now(), kind, json.dumps(data)),
        )


def _dump(run: Run) -> str:
    # ASCII escapes: a lone surrogate from an undecodable path must survive the round trip.
    return json.dumps(run.to_record())


def _apply(run: Run, changes: dict[str, Any]) -> None:
    for name, value in changes.items():
        if not hasattr(run, name):
            raise StoreError(f"a run has no {name}")
        setattr(run, name, value)
