"""A waiting run is looked at again and again, and goes on when what it waits for is there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plandock.claude.login import Login
from plandock.errors import CredentialsError
from plandock.runs.model import Run, RunId, State, utc_time
from plandock.runs.store import Store
from plandock.supervisor import logins, waiting


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store of this test's own."""
    with Store(tmp_path / "runs.db") as opened:
        yield opened


@pytest.fixture(autouse=True)
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What was slept; nothing really is."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    return slept


def waits(store: Store, **fields: Any) -> Run:
    """A recorded run that waits."""
    run = Run(id=RunId("r222"), state=State.WAITING, repo="/r", handoff_key="k", **fields)
    return store.add(run, name_branch=lambda taken: "feature/auto")[0]


def looked(store: Store, run: Run) -> Run:
    """The run after one look."""
    waiting.look(store, run)
    return store.get(run.id)


def test_a_run_goes_back_into_the_queue_when_its_time_has_come(store: Store) -> None:
    """With nothing of the wait left in its record."""
    past = utc_time(time.time() - 1)
    run = waits(store, reason="usage_limit", waiting_until=past, message="m", hint="h")
    after = looked(store, run)
    assert after.state is State.QUEUED
    assert (after.reason, after.waiting_until, after.message, after.hint) == ("", "", "", "")


def test_before_its_time_a_run_only_naps(store: Store, naps: list[float]) -> None:
    """A second at most, so that a changed clock and a stop are noticed."""
    run = waits(store, reason="overloaded", waiting_until=utc_time(time.time() + 60))
    assert looked(store, run).state is State.WAITING
    assert 0 < sum(naps) <= 1.0


@pytest.mark.parametrize("odd", ["", "soon", "99999-01-01T00:00:00Z"])
def test_a_time_that_cannot_be_read_is_over(store: Store, odd: str) -> None:
    """Looking early costs one request; waiting for ever would cost the run."""
    assert looked(store, waits(store, reason="overloaded", waiting_until=odd)).state is State.QUEUED


def test_a_stop_ends_a_wait_by_harvesting_what_is_there(store: Store) -> None:
    """A staged run is harvested; one without volumes goes to the queue, which ends it."""
    run = waits(store, reason="usage_limit", staged=True, stop_requested=True)
    after = looked(store, run)
    assert (after.state, after.ending["target"]) == (State.HARVESTING, "stopped")


def test_a_stop_before_there_is_anything_to_harvest(store: Store) -> None:
    """The queue ends it."""
    run = waits(store, reason="login", stop_requested=True)
    assert looked(store, run).state is State.QUEUED


def found(monkeypatch: pytest.MonkeyPatch, login: Login | CredentialsError | None) -> None:
    """The login that this machine has."""

    def on_this_machine(*_: object, **__: object) -> Login | None:
        if isinstance(login, CredentialsError):
            raise login
        return login

    monkeypatch.setattr(logins, "on_this_machine", on_this_machine)
    monkeypatch.setattr(logins, "mark_of", lambda login: f"mark of {login}")


def test_the_refused_login_is_not_tried_again_and_another_one_is(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the token that counts, not the file's date."""
    run = waits(store, reason="login", spent_login="mark of old")
    found(monkeypatch, "old")  # type: ignore[arg-type]
    assert looked(store, run).state is State.WAITING
    found(monkeypatch, "new")  # type: ignore[arg-type]
    assert looked(store, run).state is State.QUEUED


def test_a_machine_without_a_login_says_what_is_missing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message and the hint are those of the login's own check."""
    found(monkeypatch, CredentialsError("it has ended", hint="sign in"))
    after = looked(store, waits(store, reason="login"))
    assert (after.state, after.message, after.hint) == (State.WAITING, "it has ended", "sign in")


def test_a_login_in_a_volume_is_tried_less_and_less_often(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it was renewed shows only when it is tried: 15 s, doubled with each refusal."""
    found(monkeypatch, None)
    run = waits(store, reason="login", strikes=2)
    start = time.time()
    monkeypatch.setattr(time, "time", lambda: start + 50)
    assert looked(store, run).state is State.WAITING
    monkeypatch.setattr(time, "time", lambda: start + 70)
    assert looked(store, run).state is State.QUEUED
