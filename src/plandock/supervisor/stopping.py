"""The user's wish that a run ends: asked for once it is graceful, asked for twice it is not."""

from __future__ import annotations

import contextlib

from plandock.box import launch
from plandock.engines import detect
from plandock.errors import PlandockError
from plandock.runs.model import Run, State
from plandock.runs.store import Store
from plandock.supervisor import queue


def ask(store: Store, run: Run, *, forced: bool) -> Run:
    """Record the wish and see to it that a supervisor carries it out; returns the run.

    What was done so far is harvested in either case.
    """
    forced = forced or run.stop_requested
    run = store.change(run.id, stop_requested=True, stop_forced=forced)
    if forced and run.state is State.RUNNING and run.engine:
        # Not left to the supervisor alone: it may be waiting for the graceful end just now.
        with contextlib.suppress(PlandockError):
            detect.choose(run.engine).kill(launch.names_of(run).box)
    queue.wake(store)
    return run
