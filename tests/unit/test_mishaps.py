"""What a supervisor makes of a failure: wait for what passes, try again, or end the run."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from plandock.engines import detect
from plandock.engines.protocol import BrokenOff, EngineDown
from plandock.errors import EngineError, HarvestRefused, RepositoryError
from plandock.runs.model import Run, RunId, State
from plandock.runs.store import Store
from plandock.supervisor import drive, staging
from plandock.supervisor.harvesting import HarvestBroke

FULL = "No space left on device"


class Engine:
    """Answers, or does not."""

    def __init__(self, *, away: bool) -> None:
        self.away = away

    def ping(self) -> str:
        if self.away:
            raise EngineDown("docker does not answer")
        return "28"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store of this test's own; nothing sleeps, and no engine is looked for."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr(staging, "clean_up", lambda store, run: None)
    monkeypatch.setattr(staging, "end_containers", lambda run: None)
    with Store(tmp_path / "runs.db") as opened:
        yield opened


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    """The run's engine, which is there."""
    made = Engine(away=False)
    monkeypatch.setattr(detect, "choose", lambda name: made)
    return made


def after(store: Store, state: State, error: Exception, *, times: int = 1) -> Run:
    """The run that was in this state, after as many such failures."""
    run = Run(id=RunId("r222"), state=state, repo="/r", engine="docker", handoff_key="k")
    store.add(run, name_branch=lambda taken: "feature/auto")
    for _ in range(times):
        if store.get(run.id).state is State.QUEUED:
            store.admit(run.id, 1)
        drive._mishap(store, store.get(run.id), error)
    return store.get(run.id)


GOING = [State.STAGING, State.RUNNING, State.HARVESTING]


@pytest.mark.parametrize("state", GOING)
@pytest.mark.parametrize("error", [EngineDown("x"), EngineError("x"), BrokenOff("x")])
def test_whatever_breaks_while_the_engine_is_away_is_waited_for(
    store: Store, engine: Engine, state: State, error: Exception
) -> None:
    """The first sign is seldom that the engine does not answer, but a call that broke off."""
    engine.away = True
    run = after(store, state, error)
    assert (run.state, run.reason, run.back_to) == (State.WAITING, "engine", str(state))
    assert run.hint == "it goes on by itself; nothing is lost"


@pytest.mark.parametrize("state", GOING)
def test_what_an_engine_broke_off_that_is_back_is_tried_again_three_times(
    store: Store, engine: Engine, state: State
) -> None:
    """Then the run ends as failed: it is not the engine's being away."""
    run = after(store, state, BrokenOff("gone"), times=3)
    assert run.state is (State.QUEUED if state is State.STAGING else state)
    assert run.strikes == 3
    store.delete(run.id)
    assert after(store, state, BrokenOff("gone"), times=4).state is State.FAILED


@pytest.mark.parametrize("state", GOING)
@pytest.mark.parametrize(
    ("error", "whose"),
    [
        (OSError(errno.ENOSPC, FULL), "the disk of this machine is full"),
        (RepositoryError(f"git failed: {FULL}"), "the disk of this machine is full"),
        (EngineError(f"docker: mkdir x: {FULL}"), "the engine's disk is full"),
        (HarvestBroke("x", hint="", full=True), "the engine's disk is full"),
    ],
)
def test_a_full_disk_is_waited_for_and_said_whose_it_is(
    store: Store, engine: Engine, state: State, error: Exception, whose: str
) -> None:
    """In a sentence for `show`, with the words of what failed behind it."""
    run = after(store, state, error)
    assert (run.state, run.reason, run.back_to) == (State.WAITING, "disk", str(state))
    assert run.message.startswith(f"{whose}: ")


@pytest.mark.parametrize(
    ("error", "code"),
    [(HarvestRefused(f"refused: {FULL}"), 23), (HarvestBroke(FULL, hint="", full=False), 20)],
)
def test_words_of_a_box_do_not_make_a_disk_full(
    store: Store, engine: Engine, error: Exception, code: int
) -> None:
    """A run that an agent makes fail in such words ends, and does not wait for ever."""
    run = after(store, State.HARVESTING, error, times=4)
    assert (run.state, run.exit_code) == (State.FAILED, code)
