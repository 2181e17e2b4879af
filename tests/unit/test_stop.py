"""`plandock stop`: it waits for the end of a run, however slowly a supervisor comes to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from plandock.cli import ending, standing
from plandock.errors import Busy
from plandock.runs.model import Run, RunId, State
from plandock.runs.store import Store
from plandock.supervisor import queue


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Stop a run that waits for `reason`, and ends when it has been looked at twice."""
    monkeypatch.setattr(queue, "wake", lambda *_: [])
    with Store() as store:
        store.add(
            Run(id=RunId("r222"), state=State.WAITING, handoff_key="k", reason="usage_limit"),
            name_branch=lambda _: "feature/auto",
        )

    def command(reason: str) -> Any:
        looks = iter([State.WAITING, State.WAITING, State.STOPPED])

        def follow(store: Store, run_id: str, **_: Any) -> Run:
            return replace(store.get(run_id), state=next(looks), reason=reason)

        monkeypatch.setattr(standing, "follow", follow)
        assert ending.stop.callback is not None
        return ending.stop.callback("r222", False, False)

    return command


def test_a_run_that_waits_for_its_limit_is_waited_for_to_its_end(stop: Callable[..., Any]) -> None:
    """A supervisor on a busy machine may take longer than one look to wake up."""
    assert stop("usage_limit") == 0


@pytest.mark.parametrize("reason", ["engine", "disk"])
def test_a_run_that_cannot_end_is_not_waited_for(stop: Callable[..., Any], reason: str) -> None:
    """Without its engine or room on its disk nothing can be brought home."""
    with pytest.raises(Busy, match="ends as soon as it can"):
        stop(reason)
