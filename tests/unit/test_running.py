"""How the box's log is read to its end."""

from __future__ import annotations

import contextlib
import io
import json
from types import SimpleNamespace
from typing import Any

import pytest

from plandock import paths
from plandock.claude.stream import Progress
from plandock.runs.model import Run, RunId, State
from plandock.runs.store import Store
from plandock.settings.keys import Settings
from plandock.supervisor import running

CHECKS = [{"name": "user", "ok": True}]
FIRST = json.dumps({"type": "plandock", "event": "isolation", "checks": CHECKS}).encode() + b"\n"
LAST = json.dumps({"type": "plandock", "event": "agent-ended", "code": 0}).encode() + b"\n"


class Engine:
    """An engine whose box has ended, and whose followers get these readings in turn."""

    def __init__(self, *readings: bytes) -> None:
        self.readings = list(readings)
        self.followed: list[bool] = []

    def inspect(self, _: str) -> object:
        return SimpleNamespace(running=False)

    def logs(self, _: str, *, follow: bool) -> object:
        self.followed.append(follow)
        return SimpleNamespace(stdout=io.BytesIO(self.readings.pop(0)))


@pytest.mark.parametrize("readings", [(FIRST, FIRST + LAST), (FIRST + LAST,)])
def test_a_log_whose_follower_ended_early_is_read_once_more(
    monkeypatch: pytest.MonkeyPatch, readings: tuple[bytes, ...]
) -> None:
    """Docker's may miss the last lines of a box that ends; they decide what becomes of the run."""
    paths.make_private(paths.run_dir("r222"))
    with Store() as store:
        run = Run(id=RunId("r222"), state=State.RUNNING, settings=Settings().to_dict())
        run, _ = store.add(run, name_branch=lambda _: "feature/auto")
        engine: Any = Engine(*readings)
        seen: list[Progress] = []
        monkeypatch.setattr("plandock.engines.detect.choose", lambda _: engine)
        monkeypatch.setattr(running, "Watch", lambda *_: contextlib.nullcontext())
        monkeypatch.setattr("plandock.proc.end", lambda _: 0)
        monkeypatch.setattr(running, "conclude", lambda *given: seen.append(given[3]))
        running.follow(store, run)
    assert [progress.ended is not None for progress in seen] == [True]
    assert engine.readings == []
    assert engine.followed == [True, False][: len(readings)]
    assert (paths.run_dir("r222") / "events.jsonl").read_bytes() == FIRST + LAST
