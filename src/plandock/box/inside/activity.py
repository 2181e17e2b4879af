"""What the CLI is at: a turn, work in the background, or nothing; read off its output.

Measured with 2.1.197 and 2.1.332: every turn begins with a `system/init` message and ends with a
`result`, whose `origin` names a task's end where that began the turn.  A conversation with a
background task of the planning phase begins with such a turn, before the prompt is looked at.
Tasks are told by `task_started`, `task_updated` and `task_notification`; the newer one tells all
of them in `background_tasks_changed`.  When a task ends while no turn goes on, a turn follows.
"""

from __future__ import annotations

import threading
import time
from typing import Any

# Task states of which the model hears: a notification follows, at once or after a while.
_ENDED = ("completed", "failed")
# Task states in which a task is still at work.
_AT_WORK = ("pending", "running", "paused")
_MOST_TASKS = 1000
# Results by which the CLI ends a turn that has used up what the order allows.
_SPENT = ("error_max_turns", "error_max_budget_usd")


class Activity:
    """Follows one process of the CLI; may be asked from another thread."""

    def __init__(self) -> None:
        self.moved = threading.Event()  # set with each message; cleared by who waits for it
        self._lock = threading.Lock()
        self._in_turn = False
        self._owes_answer = True  # the prompt that it was started with
        self._awaits_turn = False  # a task has ended, and its turn has not begun
        self._tasks: dict[str, str] = {}
        self._unheard: set[str] = set()  # tasks that have ended, and no notification came
        self._spent = False
        self._left_over = False  # the last turn ended with work in the background
        self._moved_at = time.monotonic()

    def take(self, message: dict[str, Any]) -> None:
        """Take one message of the CLI."""
        kind, sub = message.get("type"), message.get("subtype")
        with self._lock:
            self._moved_at = time.monotonic()
            if kind == "system" and sub == "init":
                self._in_turn, self._awaits_turn = True, False
                self._left_over = False
            elif kind == "result":
                self._in_turn = False
                if not answers_a_task(message):
                    self._owes_answer = False
                self._spent |= spent(message) and not self._owes_answer
            elif kind == "system":
                self._take_task(sub, message)
            if not self._in_turn and (self._tasks or self._awaits_turn or self._unheard):
                self._left_over = True
        self.moved.set()

    def _take_task(self, sub: object, message: dict[str, Any]) -> None:
        task = _key(message)
        if sub == "background_tasks_changed" and isinstance(message.get("tasks"), list):
            found = [t for t in message["tasks"] if isinstance(t, dict)]
            before = self._tasks
            self._tasks = {_key(t): _name(t) for t in found[:_MOST_TASKS]}
            self._unheard |= before.keys() - self._tasks.keys()
        elif sub == "task_started" and len(self._tasks) < _MOST_TASKS:
            self._tasks[task] = _name(message)
        elif sub == "task_updated":
            patch = message.get("patch")
            status = patch.get("status") if isinstance(patch, dict) else None
            if status is not None and status not in _AT_WORK:
                known = self._tasks.pop(task, None) is not None
                if known and status in _ENDED:
                    self._unheard.add(task)
        elif sub == "task_notification":
            self._tasks.pop(task, None)
            self._unheard.discard(task)
            self._awaits_turn = not self._in_turn

    @property
    def in_turn(self) -> bool:
        """Whether a turn goes on, or the prompt has not been answered."""
        with self._lock:
            return self._in_turn or self._owes_answer

    @property
    def awaits_turn(self) -> bool:
        """Whether a task has ended and the turn that follows has not begun."""
        with self._lock:
            return self._awaits_turn or bool(self._unheard)

    @property
    def has_work(self) -> bool:
        """Whether a turn goes on, or the last one left work whose end none has answered.

        A CLI that is ended tells its tasks as ended, too: so a task's end alone lifts nothing.
        """
        with self._lock:
            return self._in_turn or self._owes_answer or self._left_over

    @property
    def spent(self) -> bool:
        """Whether turns or budget are used up: the end of a task would begin them anew."""
        with self._lock:
            return self._spent

    @property
    def tasks(self) -> list[str]:
        """What is at work in the background, by its description."""
        with self._lock:
            return list(self._tasks.values())

    @property
    def quiet_s(self) -> float:
        """Seconds since the last message."""
        with self._lock:
            return time.monotonic() - self._moved_at


def answers_a_task(result: dict[str, Any]) -> bool:
    """Whether a result ends a turn that a task's end began, and not the user's prompt."""
    origin = result.get("origin")
    return isinstance(origin, dict) and origin.get("kind") == "task-notification"


def spent(result: dict[str, Any]) -> bool:
    """Whether a result says that the turns or the budget of the order are used up."""
    return result.get("subtype") in _SPENT


def _key(message: dict[str, Any]) -> str:
    return _text(message.get("task_id"))


def _name(task: dict[str, Any]) -> str:
    return _text(task.get("description")) or _text(task.get("task_type")) or "a task"


def _text(value: object) -> str:
    return value[:100] if isinstance(value, str) else ""
