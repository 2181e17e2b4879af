"""Drives one run from state to state; may be killed between any two instructions.

One process per run, held to that by a lock on the run's folder.  What is to be done follows from
the stored state alone, so a second supervisor goes on where a first one ended.
"""

from __future__ import annotations

import fcntl
import os
import time
import traceback

from plandock import paths
from plandock.claude.redact import redact
from plandock.errors import PlandockError
from plandock.runs.model import Run, State, utc_now
from plandock.runs.store import Store
from plandock.supervisor import harvesting, running, staging
from plandock.supervisor.receipt import write_receipt

_QUEUE_POLL_S = 0.3


def drive(run_id: str) -> int:
    """Take a run as far as it goes; returns 0, or 75 when another supervisor has it."""
    folder = paths.run_dir(run_id)
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return 75
    with Store() as store:
        store.change(run_id, supervisor_pid=os.getpid(), supervisor_started=utc_now())
        while not (run := store.get(run_id)).state.final:
            say(f"state {run.state}")
            try:
                _step(store, run)
            except Exception as error:
                _fail(store, run.id, error)
        write_receipt(store, store.get(run_id))
    return 0


def say(words: str) -> None:
    """One line into supervisor.log, without secrets."""
    print(f"{utc_now()} {redact(words)}", flush=True)


def _step(store: Store, run: Run) -> None:
    if run.stop_requested and run.state in (State.QUEUED, State.STAGING, State.WAITING):
        store.move(run.id, run.state, State.STOPPED, reason="stopped", ended_at=utc_now())
        staging.clean_up(store, run)
    elif run.state is State.QUEUED:
        _wait_for_a_place(store, run)
    elif run.state is State.STAGING:
        staging.stage(store, run)
    elif run.state is State.RUNNING:
        running.follow(store, run)
    elif run.state is State.HARVESTING:
        harvesting.harvest(store, run)
    else:
        time.sleep(_QUEUE_POLL_S)


def _wait_for_a_place(store: Store, run: Run) -> None:
    most = int(run.settings.get("max_parallel", 2))
    going = [r for r in store.list(unfinished=True) if r.state is not State.QUEUED]
    ahead = [
        r
        for r in store.list(unfinished=True)
        if r.state is State.QUEUED and (r.created_at, r.id) < (run.created_at, run.id)
    ]
    if len(going) + len(ahead) < most:
        store.move(run.id, State.QUEUED, State.STAGING, started_at=utc_now())
    else:
        time.sleep(_QUEUE_POLL_S)


def _fail(store: Store, run_id: str, error: Exception) -> None:
    say("".join(traceback.format_exception(error)))
    run = store.get(run_id)
    if run.state.final:
        return
    known = isinstance(error, PlandockError)
    message = redact(error.message if isinstance(error, PlandockError) else f"a bug: {error}")
    changes = {
        "reason": type(error).__name__ if known else "bug",
        "message": message,
        "hint": redact(error.hint) if isinstance(error, PlandockError) else "see supervisor.log",
        "exit_code": error.exit_code if isinstance(error, PlandockError) else 3,
        "ended_at": utc_now(),
    }
    store.move(run.id, run.state, State.FAILED, **changes)
    if run.state in (State.QUEUED, State.STAGING):
        staging.clean_up(store, run)
    else:
        staging.end_containers(run)  # the volumes stay: they hold the work
