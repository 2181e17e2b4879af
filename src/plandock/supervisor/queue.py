"""Which runs ought to have a supervisor now, and starting those that have none.

A run beyond its turn needs no process that watches over it: the first in the queue waits for a
place, and whoever gets or gives up a place wakes those whose turn has come.
"""

from __future__ import annotations

import contextlib
import os

from plandock import paths
from plandock.errors import PlandockError
from plandock.runs import alive
from plandock.runs.model import Run, State
from plandock.runs.starting import start_supervisor
from plandock.runs.store import Store
from plandock.supervisor.steps import say


def is_due(store: Store, run: Run) -> bool:
    """Whether this run is to be watched: it goes, it waits, or it is next in the queue."""
    if run.state is not State.QUEUED:
        return not run.state.final
    if run.stop_requested or not run.snapshot:
        return True
    most = int(run.settings.get("max_parallel", 2))
    return store.place_in_queue(run) <= most


def unwatched(store: Store) -> list[Run]:
    """The runs that are due and have no living supervisor, oldest first.

    Among them those whose supervisor was killed after the very end: nobody was told of it.
    """
    found = []
    for run in (*store.ended_in_hand(), *reversed(store.list(unfinished=True))):
        # While a hand-off is being made, this is the process that makes it.
        if alive.is_same(run.supervisor_pid, run.supervisor_started):
            continue
        # Without its folder it cannot be driven: the plan is there, and the lock.
        due = run.state.final or is_due(store, run)
        if due and (paths.run_dir(run.id) / "plan.md").is_file():
            found.append(run)
    return found


def wake(store: Store) -> list[Run]:
    """Start a supervisor for each run that needs one; returns them.  Two are never at work on
    one run: the second ends by itself."""
    started = []
    due = unwatched(store)
    if [run for run in due if store.catch_up(run)]:
        due = unwatched(store)  # some had come further than the store knew
    for run in due:
        try:
            start(store, run)
            started.append(run)
        except (OSError, PlandockError) as error:
            say(f"no supervisor could be started for {run.id}: {error}")
    return started


def start(store: Store, run: Run) -> None:
    """Start a supervisor for a run.  Raises :class:`OSError` or :class:`PlandockError`."""
    billing = str(run.settings.get("billing", "subscription"))
    pid = start_supervisor(run.id, os.environ, billing=billing)
    with contextlib.suppress(PlandockError):  # it goes; nothing depends on this
        store.hand_to(run.id, pid, alive.started(pid))
