"""What the CLI is at, read off its output: the messages are those of both real versions."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import plandock

INSIDE = str(Path(plandock.__file__).parent / "box" / "inside")
INIT = {"type": "system", "subtype": "init"}
ANSWER = {"type": "result", "subtype": "success"}
OF_TASK = ANSWER | {"origin": {"kind": "task-notification"}}


def started(task: str) -> dict[str, Any]:
    """A task begins in the background."""
    told = {"type": "system", "subtype": "task_started", "task_id": task}
    return told | {"task_type": "local_bash", "description": f"Run {task}"}


def updated(task: str, status: str) -> dict[str, Any]:
    """A task's state has changed."""
    told = {"type": "system", "subtype": "task_updated", "task_id": task}
    return told | {"patch": {"status": status}}


def ended(task: str) -> dict[str, Any]:
    """A task has ended, and the model will hear of it."""
    return {"type": "system", "subtype": "task_notification", "task_id": task}


def changed(*tasks: str) -> dict[str, Any]:
    """All that is at work, as the newer version tells it."""
    listed = [{"task_id": t, "description": f"Run {t}"} for t in tasks]
    return {"type": "system", "subtype": "background_tasks_changed", "tasks": listed}


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The activity of a process that has just got its prompt."""
    monkeypatch.syspath_prepend(INSIDE)
    import activity  # type: ignore[import-not-found]

    yield activity.Activity()
    del sys.modules["activity"]


CASES = [
    # What came; whether a turn goes on; what is at work; whether a turn is to follow.
    ([], True, [], False),
    ([INIT], True, [], False),
    ([INIT, ANSWER], False, [], False),
    ([INIT, OF_TASK], True, [], False),
    ([ended("old"), INIT, OF_TASK, INIT, ANSWER], False, [], False),
    ([INIT, started("a"), ANSWER], False, ["Run a"], False),
    ([INIT, changed("a", "b"), ANSWER], False, ["Run a", "Run b"], False),
    ([INIT, started("a"), ANSWER, updated("a", "completed"), ended("a")], False, [], True),
    ([INIT, started("a"), ANSWER, ended("a"), INIT], True, [], False),
    ([INIT, started("a"), ANSWER, ended("a"), INIT, OF_TASK], False, [], False),
    ([INIT, started("a"), ended("a"), ANSWER], False, [], False),
    (
        [INIT, started("a"), started("b"), ANSWER, ended("a"), INIT, OF_TASK],
        False,
        ["Run b"],
        False,
    ),
    ([INIT, started("a"), updated("a", "running"), ANSWER], False, ["Run a"], False),
    ([INIT, started("a"), updated("a", "killed"), ANSWER], False, [], False),
    ([INIT, changed("a"), changed(), ANSWER], False, [], True),
    ([INIT, changed("a"), changed(), ended("a"), ANSWER], False, [], False),
    # The notification comes a while after the task's end (read in 2.1.332).
    ([INIT, started("a"), ANSWER, updated("a", "completed")], False, [], True),
    ([INIT, started("a"), updated("a", "failed"), ANSWER], False, [], True),
    ([INIT, started("a"), updated("a", "failed"), ended("a"), ANSWER], False, [], False),
    ([INIT, ANSWER, {"type": "system", "subtype": "task_started"}], False, ["a task"], False),
    ([INIT, ANSWER, {"type": "system", "subtype": "task_updated", "patch": 3}], False, [], False),
    ([INIT, ANSWER, {"type": "system", "subtype": "background_tasks_changed"}], False, [], False),
    ([INIT, ANSWER | {"origin": "task-notification"}], False, [], False),
]


@pytest.mark.parametrize(("came", "in_turn", "tasks", "awaits"), CASES)
def test_messages_tell_what_goes_on(
    at: Any, came: list[dict[str, Any]], in_turn: bool, tasks: list[str], awaits: bool
) -> None:
    """The prompt's own turn, turns of tasks, and what is at work between them."""
    for message in came:
        at.take(message)
    assert (at.in_turn, at.tasks, at.awaits_turn) == (in_turn, tasks, awaits)
    assert at.moved.is_set() == bool(came)


def test_a_box_cannot_fill_the_memory_with_tasks(at: Any) -> None:
    """However many are told."""
    for n in range(3000):
        at.take(started(str(n)))
    assert len(at.tasks) == 1000


WORK = [
    ([], True),
    ([INIT, ANSWER], False),
    ([INIT, started("a"), ANSWER], True),
    # A CLI that is ended says so of its tasks, too.
    ([INIT, started("a"), ANSWER, updated("a", "killed")], True),
    ([INIT, started("a"), changed("a"), ANSWER, changed()], True),
    ([INIT, started("a"), ANSWER, ended("a")], True),
    ([INIT, started("a"), ANSWER, ended("a"), INIT], True),
    ([INIT, started("a"), ANSWER, ended("a"), INIT, OF_TASK], False),
    ([INIT, started("a"), updated("a", "killed"), ANSWER], False),
]


@pytest.mark.parametrize(("messages", "has_work"), WORK)
def test_work_that_a_turn_left_is_done_with_once_a_turn_has_answered_its_end(
    at: Any, messages: list[dict[str, Any]], has_work: bool
) -> None:
    """Otherwise it may have been cut off."""
    for message in messages:
        at.take(message)
    assert at.has_work is has_work
