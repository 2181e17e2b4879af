"""The steps of a supervisor, as they are recorded: in the store, in its events and in the log."""

from __future__ import annotations

import contextlib

from plandock.claude.redact import redact
from plandock.runs.model import Run, utc_now
from plandock.runs.store import Store


def begin(store: Store, run: Run, name: str) -> None:
    """Record that a step begins."""
    store.change(run.id, step=name)
    store.note_event(run.id, "step", {"name": name})
    say(f"step {name}")


def say(words: str) -> None:
    """One line into supervisor.log, without secrets; lost where that disk is full."""
    with contextlib.suppress(OSError):
        print(f"{utc_now()} {redact(words)}", flush=True)
