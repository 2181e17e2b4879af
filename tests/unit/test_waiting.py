"""A waiting run is looked at again and again, and goes on when what it waits for is there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plandock.claude.login import Login
from plandock.engines import detect
from plandock.engines.protocol import ContainerSpec, EngineDown
from plandock.errors import CredentialsError
from plandock.proc import Finished
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
    start = time.time()
    monkeypatch.setattr(time, "time", lambda: start)
    run = waits(store, reason="login", strikes=2)
    monkeypatch.setattr(time, "time", lambda: start + 50)
    assert looked(store, run).state is State.WAITING
    monkeypatch.setattr(time, "time", lambda: start + 70)
    assert looked(store, run).state is State.QUEUED


HOUR_S = 3600.0


class Clock:
    """The wall clock and the monotonic one; sleeping moves both, setting it the first alone."""

    def __init__(self) -> None:
        self.wall, self.steady, self.slept = time.time(), 0.0, 0

    def sleep(self, pause_s: float) -> None:
        """Time passes."""
        self.wall += pause_s
        self.steady += pause_s
        self.slept += 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, naps: list[float]) -> Clock:
    """Time as this test has it."""
    made = Clock()
    monkeypatch.setattr(time, "time", lambda: made.wall)
    monkeypatch.setattr(time, "monotonic", lambda: made.steady)
    monkeypatch.setattr(time, "sleep", made.sleep)
    return made


class Away:
    """An engine that answers from some time on; counts how often it was asked."""

    def __init__(self, clock: Clock, until: float) -> None:
        self.clock, self.until, self.asked = clock, until, 0

    def ping(self) -> None:
        """Raise while it is away."""
        self.asked += 1
        if self.clock.wall < self.until:
            raise EngineDown("nothing answers")


def working(store: Store) -> Run:
    """A run whose agent is at work."""
    run = Run(
        id=RunId("r222"), state=State.RUNNING, repo="/r", handoff_key="k", engine="docker",
        staged=True,
    )  # fmt: skip
    return store.add(run, name_branch=lambda taken: "feature/auto")[0]


def test_a_run_outlives_an_engine_that_is_unreachable_for_an_hour(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits, asks less and less often, and goes on where it was, soon after the engine is
    back."""
    run = working(store)
    waiting.interrupt(store, run, "engine", "nothing answers")
    engine = Away(clock, clock.wall + HOUR_S)
    monkeypatch.setattr(detect, "choose", lambda _: engine)
    while (run := store.get(run.id)).state is State.WAITING:
        assert run.reason == "engine"
        waiting.look(store, run)
    assert (run.state, run.reason, run.back_to) == (State.RUNNING, "", "")
    assert engine.until <= clock.wall <= engine.until + 31
    assert 120 < engine.asked < 250  # every 30 s for most of the hour, more often in the beginning


def test_a_run_that_has_no_engine_yet_waits_for_the_one_that_it_would_get(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One wait, however early the engine went away: not a try and a wait many times a second."""
    run = Run(
        id=RunId("r222"), state=State.STAGING, repo="/r", handoff_key="k",
        settings={"engine": "podman"},
    )  # fmt: skip
    store.add(run, name_branch=lambda taken: "feature/auto")
    waiting.interrupt(store, run, "engine", "nothing answers")
    back = clock.wall + 100.0
    asked: list[str] = []

    def choose(name: str) -> Away:
        asked.append(name)
        if clock.wall < back:
            raise EngineDown("nothing answers")
        return Away(clock, back)

    monkeypatch.setattr(detect, "choose", choose)
    while store.get(run.id).state is State.WAITING:
        waiting.look(store, store.get(run.id))
    assert back <= clock.wall <= back + 31
    assert store.get(run.id).state is State.STAGING
    assert set(asked) == {"podman"}
    assert len([e for e in store.events(run.id) if e["kind"] == "moved"]) == 2


def test_an_engine_that_answers_and_does_nothing_is_tried_once_a_second(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten tries, each of which ends in another wait at once."""
    run, began = working(store), clock.wall
    monkeypatch.setattr(detect, "choose", lambda _: Away(clock, 0.0))
    for _ in range(10):
        waiting.interrupt(store, store.get(run.id), "engine", "nothing answers")
        while store.get(run.id).state is State.WAITING:
            waiting.look(store, store.get(run.id))
    assert clock.wall - began >= 9.0


def test_a_stop_is_heard_while_the_engine_is_away(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a second, however long the pause; with work in the engine it is carried out later."""
    run = working(store)
    waiting.interrupt(store, run, "engine", "nothing answers")
    clock.wall += HOUR_S
    monkeypatch.setattr(detect, "choose", lambda _: Away(clock, clock.wall + HOUR_S))
    began = clock.steady

    def stopped_meanwhile(pause_s: float) -> None:
        clock.sleep(pause_s)
        store.change(run.id, stop_requested=True)

    monkeypatch.setattr(time, "sleep", stopped_meanwhile)
    waiting.look(store, store.get(run.id))
    assert clock.steady - began <= 1.0
    assert store.get(run.id).state is State.WAITING


@pytest.mark.parametrize("reason", ["usage_limit", "overloaded"])
def test_a_clock_that_jumps_makes_a_run_look_early(store: Store, clock: Clock, reason: str) -> None:
    """Set forward past the time, or back to before the wait began: no wait of days for either."""
    for number, jump in enumerate((24 * HOUR_S, -24 * HOUR_S)):
        run = Run(id=RunId(f"r22{number}"), state=State.RUNNING, repo="/r", handoff_key=f"{number}")
        store.add(run, name_branch=lambda taken: "feature/auto")
        until = utc_time(clock.wall + 2 * HOUR_S)
        store.move(run.id, State.RUNNING, State.WAITING, reason=reason, waiting_until=until)
        assert looked(store, store.get(run.id)).state is State.WAITING
        clock.wall += jump
        assert looked(store, store.get(run.id)).state is State.QUEUED


def test_a_clock_that_is_corrected_a_little_changes_nothing(store: Store, clock: Clock) -> None:
    """A few seconds back are what clocks do all the time."""
    until = utc_time(clock.wall + HOUR_S)
    run = waits(store, reason="usage_limit", waiting_until=until)
    clock.wall -= 5
    assert looked(store, run).state is State.WAITING


@pytest.mark.parametrize(
    ("on_disk", "handed_in_ago_s", "superseded"),
    [
        ("refused", None, False),  # it is the one that was refused
        ("another", None, True),  # renewed since the last look at it
        ("refused", 2.0, True),  # handed in, too late for the agent's tries
        ("refused", 3600.0, True),  # on a slow machine the end comes long after it
        (CredentialsError("it has ended"), None, False),
    ],
)
def test_a_login_that_came_too_late_is_no_reason_to_wait_for_one(
    store: Store,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    on_disk: Any,
    handed_in_ago_s: float | None,
    superseded: bool,
) -> None:
    """Otherwise the user would be told to do what is done already."""
    found(monkeypatch, on_disk)
    run = store.change(working(store).id, login_mark="mark of refused")
    if handed_in_ago_s is not None:
        clock.wall += 1
        store.note_event(run.id, "login-renewed")
        clock.wall += handed_in_ago_s
    assert logins.is_superseded(store, run) is superseded


def test_a_login_handed_in_before_this_attempt_was_tried_by_it(store: Store, clock: Clock) -> None:
    """However quickly the box was begun anew: a refused token is not tried for ever."""
    run = working(store)
    store.note_event(run.id, "login-renewed")
    clock.wall += 1
    store.move(run.id, State.RUNNING, State.QUEUED)
    store.admit(run.id, 1)
    store.move(run.id, State.STAGING, State.RUNNING)
    assert not logins.is_superseded(store, store.get(run.id))


class Engine:
    """As far as a run asks that waits for room."""

    def __init__(self, free: int) -> None:
        self.free = free

    def ping(self) -> str:
        return "28"

    def remove(self, container: str) -> None:
        assert container.endswith("-room")

    def run(self, spec: ContainerSpec) -> Finished:
        assert spec.network == "none"
        return Finished((), 0, f"Avail\n{self.free}\n".encode(), b"")


@pytest.mark.parametrize(
    ("back_to", "free", "goes"),
    [("", 100 << 20, False), ("", 200 << 20, True), ("harvesting", 100 << 20, True),
     ("harvesting", 1 << 20, False)],
)  # fmt: skip
def test_room_in_the_engine_is_asked_for_and_not_tried(
    store: Store,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    back_to: str,
    free: int,
    goes: bool,
) -> None:
    """Going on just to see would cost requests; a harvest needs less room than the work."""
    monkeypatch.setattr(detect, "choose", lambda name: Engine(free))
    monkeypatch.setattr(waiting, "_check_room", lambda run: None)
    run = waits(store, reason="disk", engine="docker", staged=True, image="i", back_to=back_to)
    after = looked(store, run)
    assert after.state == ((back_to or "queued") if goes else "waiting")
