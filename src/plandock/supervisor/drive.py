"""Drives one run from state to state; may be killed between any two instructions.

One process per run, held to that by a lock on the run's folder.  What is to be done follows from
the stored state alone, so a second supervisor goes on where a first one ended.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from plandock import paths
from plandock.claude.redact import redact
from plandock.engines import detect
from plandock.engines.protocol import BrokenOff, EngineDown
from plandock.errors import (
    CredentialsError,
    EngineError,
    HarvestRefused,
    IsolationError,
    PlandockError,
    StoreError,
)
from plandock.proc import ProcessFailed
from plandock.runs import alive
from plandock.runs.database import FolderGone
from plandock.runs.model import Run, State, utc_now
from plandock.runs.store import Store
from plandock.supervisor import (
    accounts,
    freezing,
    harvesting,
    held,
    queue,
    running,
    staging,
    telling,
    waiting,
)
from plandock.supervisor.receipt import write_receipt
from plandock.supervisor.steps import say
from plandock.supervisor.verdict import failed, stopped

_QUEUE_POLL_S = 0.3
_STORE_POLL_S = 2.0
# Another supervisor of this run may be on its way out (seconds).
_LOCK_PATIENCE_S = 3.0
# How long a client of the engine that outlived its supervisor may take.
_ORPHANS_S = 1.0
# How often a box or gateway may end before the agent is let go.
_MOST_FALSE_STARTS = 3
_REASONS: dict[type[Exception], str] = {IsolationError: "isolation", harvesting.WorkGone: "lost"}


def drive(run_id: str) -> int:
    """Take a run as far as it goes; returns 0, or 75 when another supervisor has it."""
    lock = held.take(run_id, _LOCK_PATIENCE_S)
    if lock is None:
        return 75
    while True:
        _patiently(lambda: _drive(run_id, lock))
        if not _is_ours(run_id, lock):
            os.close(lock)
            return 0
        # At its end, or not its turn yet: leave, but not if it was resumed, or the turn came,
        # just now.
        with Store() as store:
            try:
                run = store.get(run_id)
                if not run.state.final:
                    run = store.put_down(run_id, *alive.mine())
            except StoreError:
                raise
            except PlandockError:
                break  # dropped meanwhile
            if run.state.final or not queue.is_due(store, run):
                break
    os.close(lock)
    # Without the lock: the user's command may take its time, and a resumed run need not wait.
    telling.tell(run_id)
    # Not before: killed until now, the next one tells of it.
    with contextlib.suppress(PlandockError), Store() as store:
        store.put_down(run_id, *alive.mine())
    return 0


def _drive(run_id: str, lock: int) -> bool:
    """Whether the run has come to its end; False where it need not be watched for now."""
    if not _is_ours(run_id, lock):
        return True
    with Store() as store:
        before = store.get(run_id)
        pid, started = alive.mine()
        if before.supervisor_pid not in (0, pid) and before.snapshot:
            # One was killed: let what it had begun in the engine come to its end.
            time.sleep(_ORPHANS_S)
        store.change(run_id, supervisor_pid=pid, supervisor_started=started)
        said: State | None = None
        while not (run := store.get(run_id)).state.final:
            if not _is_ours(run_id, lock):
                return True
            # Once: a run may stand in the queue for hours, and wait for days.
            if run.state is not said:
                say(f"state {(said := run.state)}")
            if telling.event_of(run) and f"{run.attempt}/{telling.event_of(run)}" not in run.told:
                threading.Thread(target=telling.tell, args=(run_id,), daemon=True).start()
            try:
                if not _step(store, run):
                    return False
            except StoreError:
                raise
            except Exception as error:
                _mishap(store, store.get(run.id), error)
        write_receipt(store, run)
        queue.wake(store)
    return True


def _is_ours(run_id: str, lock: int) -> bool:
    """Whether the run's folder is still the one that is locked: where it was taken away, the run
    may have been adopted, and another supervisor be at work on it."""
    with contextlib.suppress(OSError):
        if os.path.samestat(os.fstat(lock), os.stat(paths.run_dir(run_id) / "lock")):
            return True
    say("the run's folder is another one now; this supervisor leaves it alone")
    return False


def _patiently(work: Callable[[], bool]) -> bool:
    """Do it again for as long as the store cannot be written; what is in the engine stays."""
    while True:
        try:
            return work()
        except FolderGone as error:
            # Not waited for: should nobody put it back, `recover` adopts the run from its labels.
            with contextlib.suppress(OSError):
                say(f"this supervisor leaves: {error}")
            return True
        except (StoreError, OSError) as error:
            if not _is_full(error) and not isinstance(error, StoreError):
                raise
            # No space to say it anywhere but here, and perhaps not even here.
            with contextlib.suppress(OSError):
                say(f"the store cannot be written, trying again: {error}")
            time.sleep(_STORE_POLL_S)


def _step(store: Store, run: Run) -> bool:
    if run.state is State.QUEUED:
        return _queued(store, run)
    if run.state is State.STAGING:
        if run.stop_requested:
            _end(store, run, stopped("stopped"))
        else:
            staging.stage(store, run)
            queue.wake(store)
    elif run.state is State.RUNNING:
        running.follow(store, run)
        queue.wake(store)
    elif run.state is State.HARVESTING:
        harvesting.harvest(store, run)
    else:
        waiting.look(store, run)
    return True


def _queued(store: Store, run: Run) -> bool:
    if run.stop_requested:
        _end(store, run, stopped("stopped"))
        return True
    run = freezing.freeze(store, accounts.note(store, run))
    if store.admit(run.id, int(run.settings.get("max_parallel", 2))):
        queue.wake(store)
        return True
    if not queue.is_due(store, run):
        return False
    time.sleep(_QUEUE_POLL_S)
    return True


def _end(store: Store, run: Run, ending: dict[str, Any]) -> None:
    """End a run that has no agent at work: by a harvest where there is something to harvest."""
    if run.staged:
        store.move(run.id, run.state, State.HARVESTING, ending=ending)
        return
    staging.clean_up(store, run)
    fields = {k: v for k, v in ending.items() if k != "target"}
    fields["hint"] = str(fields.get("hint", "")).replace("{run}", run.id)
    store.move(run.id, run.state, State(ending["target"]), ended_at=utc_now(), **fields)


def _mishap(store: Store, run: Run, error: Exception) -> None:
    """What to do about a failure: wait where it will pass, end the run where it will not."""
    if run.state.final:
        return
    words = error.message if isinstance(error, PlandockError) else f"{error}"
    if run.state is State.WAITING:
        say(f"while waiting: {words}")
        time.sleep(_STORE_POLL_S)
    elif isinstance(error, EngineDown) or (
        # What breaks off first when an engine ends are the containers and the calls under way.
        isinstance(error, EngineError | ProcessFailed) and _is_away(run)
    ):
        waiting.interrupt(store, run, "engine", words)
    elif _is_full(error):
        waiting.interrupt(store, run, "disk", f"{_whose_disk(error)} is full: {words}")
    elif (
        isinstance(error, EngineError)
        and run.state in (State.RUNNING, State.HARVESTING)
        and run.strikes < harvesting.MOST_TRIES
    ):
        say(f"{run.state} is tried again: {words}")
        store.change(run.id, strikes=run.strikes + 1)
        time.sleep(_STORE_POLL_S)
    elif (
        isinstance(error, BrokenOff)
        and run.state is State.STAGING
        and run.strikes < _MOST_FALSE_STARTS
    ):
        # Killed by somebody, by a machine short of memory, or by an engine that was restarted:
        # once more, with what is laid out.
        say(f"begins again: {words}")
        store.move(run.id, run.state, State.QUEUED, strikes=run.strikes + 1, message=words)
    elif isinstance(error, CredentialsError) and run.state is State.STAGING:
        say(f"waits (login): {words}")
        store.move(run.id, run.state, State.WAITING, reason="login", message=words, hint=error.hint)
    else:
        _fail(store, run, error)


def _is_away(run: Run) -> bool:
    """Whether the run's engine does not answer now."""
    try:
        if run.engine:
            detect.choose(run.engine).ping()
    except EngineError:
        return True
    return False


def _is_full(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    if isinstance(error, harvesting.HarvestBroke):
        return error.full
    # What is refused is told in words of the box's own.
    return not isinstance(error, HarvestRefused) and harvesting.is_full(str(error))


def _whose_disk(error: BaseException) -> str:
    return "the engine's disk" if isinstance(error, EngineError) else "the disk of this machine"


def _fail(store: Store, run: Run, error: Exception) -> None:
    say("".join(traceback.format_exception(error)))
    known = isinstance(error, PlandockError)
    message = redact(error.message if isinstance(error, PlandockError) else f"a bug: {error}")
    ending = failed(
        _REASONS.get(type(error), type(error).__name__) if known else "bug",
        message,
        error.exit_code if isinstance(error, PlandockError) else 3,
        redact(error.hint) if isinstance(error, PlandockError) else "see supervisor.log",
    )
    if run.state is not State.HARVESTING:
        _end(store, run, ending)
        return
    # The volumes stay: they hold the work.
    staging.end_containers(run)
    del ending["target"]
    ending["hint"] = ending["hint"].replace("{run}", run.id)
    store.move(run.id, run.state, State.FAILED, ended_at=utc_now(), **ending)
