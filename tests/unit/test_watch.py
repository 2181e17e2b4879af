"""What is heeded while an agent works, also where the store or the engine fails for a moment."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from plandock import paths
from plandock.engines.protocol import EngineDown
from plandock.errors import StoreError
from plandock.runs.model import Run, RunId, State
from plandock.runs.store import Store
from plandock.settings.keys import Settings
from plandock.supervisor import logins, watch


class Engine:
    """An engine whose first stop fails."""

    def __init__(self) -> None:
        self.stops = 0
        self.stopped = threading.Event()

    def stop(self, _: str) -> None:
        """Fail once, then do it."""
        self.stops += 1
        if self.stops == 1:
            raise EngineDown("docker was ended by signal 9")
        self.stopped.set()


def failing_once() -> Callable[[], Store]:
    """What opens the store, and fails the first time for each of the two threads."""
    left = [None, None]

    def opened() -> Store:
        if left:
            left.pop()
            raise StoreError("the store of runs is held by another process")
        return Store()

    return opened


def test_a_stop_is_heeded_though_store_and_engine_failed_at_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A look that was lost would be a run that no longer can be stopped, nor comes to its limit."""
    paths.run_dir("r222").mkdir(parents=True)
    settings = Settings().to_dict()
    run = Run(id=RunId("r222"), state=State.RUNNING, stop_requested=True, settings=settings)
    with Store() as store:
        run, _ = store.add(run, name_branch=lambda _: "feature/auto")
    monkeypatch.setattr(logins, "on_this_machine", lambda *_, **__: None)
    monkeypatch.setattr(watch.Watch, "_keep_gateway", lambda *_: None)
    monkeypatch.setattr(watch, "Store", failing_once())
    engine: Any = Engine()
    with watch.Watch(engine, run):
        assert engine.stopped.wait(60)
    assert engine.stops == 2
