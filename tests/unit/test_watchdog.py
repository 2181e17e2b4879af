"""The watchdog of the box ends an agent whose time is over or whose model is silent."""

from __future__ import annotations

import threading

import pytest

from plandock.box.inside import watchdog
from plandock.box.inside.watchdog import Watchdog

CALL = {"type": "assistant", "message": {"content": [{"type": "tool_use", "id": "t1"}]}}
ANSWER = {"type": "user", "message": {"content": [{"type": "tool_result", "tool_use_id": "t1"}]}}


class Clock:
    """A clock that stands still until it is told."""

    now = 1000.0

    def monotonic(self) -> float:
        """Seconds."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The watchdog's own clock, in the test's hand."""
    made = Clock()
    monkeypatch.setattr(watchdog, "time", made)
    return made


def watch(limit_s: float | None = None, silence_s: float | None = None) -> Watchdog:
    """A watchdog over an API from which nothing has come yet."""
    return Watchdog(limit_s=limit_s, silence_s=silence_s, moved=lambda: 0.0)


def test_the_time_limit_ends_an_agent_however_busy(clock: Clock) -> None:
    """Counted from the start, output or not."""
    dog = watch(limit_s=60.0)
    clock.now += 59
    dog.take(CALL)
    assert dog.reason() == ""
    clock.now += 2
    assert dog.reason() == "timeout"


def test_silence_is_no_line_and_no_byte(clock: Clock) -> None:
    """Either a message of the CLI or a byte of the API starts the count again."""
    came = [0.0]
    dog = Watchdog(limit_s=None, silence_s=10.0, moved=lambda: came[0])
    clock.now += 9
    dog.take({"type": "system"})
    clock.now += 9
    assert dog.reason() == ""
    came[0] = clock.now
    clock.now += 9
    assert dog.reason() == ""
    clock.now += 2
    assert dog.reason() == "silence"


def test_a_tool_that_works_for_an_hour_is_no_silence(clock: Clock) -> None:
    """From its call to its result nothing is due from the model."""
    dog = watch(silence_s=10.0)
    dog.take(CALL)
    clock.now += 3600
    assert dog.reason() == ""
    dog.take(ANSWER)
    clock.now += 11
    assert dog.reason() == "silence"


@pytest.mark.parametrize("odd", [{}, {"message": 3}, {"message": {"content": "x"}}])
def test_messages_of_another_shape_are_no_mistake(clock: Clock, odd: dict[str, object]) -> None:
    """The CLI's output is not ours: what is not understood only counts as a sign of life."""
    dog = watch(silence_s=10.0)
    dog.take(odd)
    assert dog.reason() == ""


def test_without_limits_nothing_is_ended(clock: Clock) -> None:
    """None means no such limit."""
    dog = watch()
    clock.now += 10**6
    assert dog.reason() == ""


def test_the_end_is_called_once_and_its_reason_kept() -> None:
    """With the real clock: `end` comes by itself, and `end()` tells why afterwards."""
    over = threading.Event()
    dog = watch(limit_s=0.0)
    dog.begin(over.set)
    assert over.wait(120)
    assert dog.end() == "timeout"


def test_an_agent_that_ended_by_itself_has_no_reason() -> None:
    """Nothing was cut short."""
    dog = watch(limit_s=1000.0, silence_s=1000.0)
    dog.begin(lambda: pytest.fail("it was ended"))
    assert dog.end() == ""


def test_between_turns_nothing_is_silence(clock: Clock) -> None:
    """While only the background is at work nobody is to answer."""
    answering = [False]
    dog = Watchdog(limit_s=None, silence_s=10.0, moved=lambda: 0.0, answering=lambda: answering[0])
    clock.now += 3600
    assert dog.reason() == ""
    answering[0] = True
    assert dog.reason() == "silence"
