"""What becomes of a run when its agent has ended: every row of the table."""

from __future__ import annotations

import json
from typing import Any

import pytest

from plandock.claude.stream import Progress
from plandock.runs.model import Run, RunId
from plandock.supervisor.verdict import BoxEnd, Verdict, judge

NOW = 1_800_000_000.0
SEALED = {"type": "plandock", "event": "isolation", "checks": [{"name": "user", "ok": True}]}
SPOKE = {"type": "assistant", "message": {"model": "m", "content": []}}
RETRY = {"type": "system", "subtype": "api_retry"}
FINE = {"type": "result", "subtype": "success", "is_error": False, "result": "done"}


def failed_result(status: int | None, words: str = "API Error") -> dict[str, Any]:
    """The CLI's result after an error of the API (facts, section 4)."""
    return {
        "type": "result",
        "subtype": "success",
        "is_error": True,
        "api_error_status": status,
        "result": words,
    }


def rejected(resets_at: float) -> dict[str, Any]:
    """The CLI's message on a usage limit."""
    return {
        "type": "rate_limit_event",
        "rate_limit_info": {"status": "rejected", "resetsAt": resets_at},
    }


def synthetic(words: str) -> dict[str, Any]:
    """An error that the CLI puts into the model's mouth."""
    content = [{"type": "text", "text": words}]
    return {"type": "assistant", "message": {"model": "<synthetic>", "content": content}}


def told_with_the_error(resets_at: float | None) -> tuple[dict[str, Any], ...]:
    """A usage limit as 2.1.332 tells it: with the error, without an event of its own."""
    info = {"status": "rejected", "rateLimitType": "five_hour", "resetsAt": resets_at}
    said = {**synthetic("You've hit your 5-hour limit"), "api_error": "usage_limit_reached"}
    return (
        {**said, "api_error_params": {"rate_limit_info": info}},
        {**failed_result(429), "api_error": "usage_limit_reached"},
    )


def ended(why: str = "", code: int = 0) -> dict[str, Any]:
    """The steward's last words."""
    return {"type": "plandock", "event": "agent-ended", "code": code, "why": why}


def verdict(
    *messages: dict[str, Any],
    box: BoxEnd | None = None,
    now: float = NOW,
    high: bool = False,
    **fields: Any,
) -> Verdict:
    """The verdict on a run whose box said these things; the jitter at its lowest or highest."""
    progress = Progress()
    for message in (SEALED, *messages):
        progress.take(json.dumps(message).encode())
    run = Run(id=RunId("r222"), **fields)
    pick = max if high else min
    return judge(run, progress, box or BoxEnd(), now=now, jitter=lambda a, b: pick(a, b))


@pytest.mark.parametrize(
    ("messages", "target", "reason"),
    [
        ((SPOKE, FINE, ended()), "done", ""),
        ((SPOKE, FINE, ended("the CLI did not end after its result", -9)), "done", ""),
        ((RETRY, RETRY, SPOKE, FINE, ended()), "done", ""),
        (({"type": "result", "subtype": "error_max_turns"}, ended()), "stopped", "max_turns"),
        (({"type": "result", "subtype": "error_max_budget_usd"}, ended()), "stopped", "budget"),
        ((SPOKE, ended("timeout", 143)), "stopped", "timeout"),
        ((ended("the setup command failed", 1),), "failed", "setup"),
        ((failed_result(400, "prompt is too long"), ended()), "failed", "agent"),
    ],
)
def test_ends(messages: tuple[dict[str, Any], ...], target: str, reason: str) -> None:
    """What ends a run, and how."""
    found = verdict(*messages)
    assert found.kind == "end"
    assert (found.ending["target"], found.ending["reason"]) == (target, reason)
    assert found.ending["exit_code"] == (0 if target == "done" else 10)


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ((rejected(NOW + 20), failed_result(429), ended()), "usage_limit"),
        ((*told_with_the_error(NOW + 20), ended()), "usage_limit"),
        ((*told_with_the_error(None), ended()), "usage_limit"),
        ((failed_result(429), ended()), "overloaded"),
        ((rejected(0), failed_result(429), ended()), "overloaded"),
        ((rejected(0), ended()), "overloaded"),
        ((RETRY, failed_result(529), ended()), "overloaded"),
        ((RETRY, failed_result(500), ended()), "overloaded"),
        ((RETRY, failed_result(None, "connection refused"), ended()), "overloaded"),
        ((synthetic("API Error: Failed to parse JSON"), failed_result(None)), "overloaded"),
        ((SPOKE, ended("silence", 143)), "overloaded"),
        ((RETRY, failed_result(401), ended()), "login"),
        ((failed_result(403), ended()), "login"),
    ],
)
def test_waits(messages: tuple[dict[str, Any], ...], reason: str) -> None:
    """What a run waits for; each wait says why."""
    found = verdict(*messages)
    assert (found.kind, found.reason) == ("wait", reason)
    assert found.message


@pytest.mark.parametrize(
    "messages",
    [(), (SPOKE,), (ended("", 0),), (SPOKE, ended("", -11)), (RETRY, ended("", 1))],
)
def test_goes_on(messages: tuple[dict[str, Any], ...]) -> None:
    """Without a result, whatever the exit code, the run is let go once more: never `done`."""
    assert verdict(*messages).kind == "again"


def test_an_old_trouble_does_not_count_after_the_model_has_spoken() -> None:
    """A limit or a retry that was got over is no reason for what ends a run later."""
    found = verdict(rejected(NOW + 20), RETRY, SPOKE, failed_result(None, "it broke"), ended())
    assert (found.kind, found.ending["reason"]) == ("end", "agent")


def test_a_usage_limit_waits_until_its_reset_and_a_little_more() -> None:
    """`resetsAt`, and one to five seconds, so that many runs do not come at once."""
    at = NOW + 3600
    low = verdict(rejected(at), failed_result(429)).until
    high = verdict(rejected(at), failed_result(429), high=True).until
    assert (low - at, high - at) == (1.0, 5.0)
    assert verdict(*told_with_the_error(at)).until == low


@pytest.mark.parametrize(
    ("resets_at", "least", "most"),
    [
        (NOW - 7200, 10, 20),  # this clock was set forward, or the API's is slow
        (NOW + 400 * 86_400, 900, 910),  # no limit lasts that long: this clock went back
        (10**15, 900, 910),
    ],
)
def test_a_reset_that_cannot_be_is_not_waited_for(
    resets_at: float, least: float, most: float
) -> None:
    """A jump of the clock costs one early look, never a wait of years, never a busy loop."""
    assert least < verdict(rejected(resets_at), failed_result(429)).until - NOW <= most


def test_backoff_doubles_is_capped_and_begins_anew_once_the_model_has_spoken() -> None:
    """10 s, doubled by each attempt that got nowhere, at most 15 minutes; a fifth of jitter."""
    pauses = [
        verdict(RETRY, failed_result(529), strikes=n, high=True).until - NOW for n in range(12)
    ]
    assert pauses[:3] == [12.0, 24.0, 48.0]
    assert pauses[-1] == 900 * 1.2
    assert verdict(RETRY, failed_result(529)).until - NOW == 8.0
    assert verdict(RETRY, failed_result(529), strikes=4).strikes == 5
    moved = verdict(SPOKE, RETRY, failed_result(529), strikes=4)
    assert (moved.until - NOW, moved.strikes) == (8.0, 1)


def test_crashes_are_counted_however_far_the_agent_came() -> None:
    """The fifth crash in a row ends the run: each one costs requests."""
    kinds = [verdict(SPOKE, ended("", -11), strikes=n).kind for n in range(5)]
    assert kinds == ["again"] * 4 + ["end"]
    assert verdict(SPOKE, ended("", -11), strikes=4).ending["reason"] == "agent"


def test_out_of_memory_twice_is_an_end_and_killed_from_outside_is_not() -> None:
    """`docker kill` has the exit code of a box out of memory, but the engine tells them apart."""
    memory = BoxEnd(oom_killed=True, exit_code=137)
    assert verdict(SPOKE, box=memory).kind == "again"
    found = verdict(SPOKE, box=memory, strikes=1)
    assert (found.kind, found.ending["reason"]) == ("end", "memory")
    assert verdict(SPOKE, box=BoxEnd(exit_code=137), strikes=1).kind == "again"
    assert verdict(SPOKE, box=BoxEnd(there=False)).kind == "again"


def test_a_stop_and_a_deadline_win_over_every_wait() -> None:
    """A user who stops a run at its limit gets it stopped, not waiting."""
    limit = (rejected(NOW + 20), failed_result(429))
    assert verdict(*limit, stop_requested=True).ending["reason"] == "stopped"
    assert verdict(*limit, reason="timeout").ending["reason"] == "timeout"


def test_a_login_that_is_refused_says_what_to_do() -> None:
    """Waiting for a login is waiting for the user, who has to know."""
    assert "/login" in verdict(failed_result(401)).hint


def test_who_pays_wins_over_everything() -> None:
    """A run that would be billed per token ends with 21, whatever else happened."""
    refused = {"type": "plandock", "event": "billing-refused", "api_key_source": "X"}
    found = verdict(refused, rejected(NOW + 20), failed_result(429))
    assert (found.kind, found.ending["exit_code"]) == ("end", 21)


INIT = {"type": "system", "subtype": "init", "permissionMode": "bypassPermissions"}
TASK = {"type": "system", "subtype": "task_started", "task_id": "a", "description": "Serve"}
KILLED = {**TASK, "subtype": "task_updated", "patch": {"status": "killed"}}
TOLD = {**TASK, "subtype": "task_notification"}
OF_TASK = {**FINE, "origin": {"kind": "task-notification"}}
HUNG_UP = {"type": "plandock", "event": "hung-up"}
BEGAN = {"type": "plandock", "event": "agent-started"}
PAID = {
    "type": "rate_limit_event",
    "rate_limit_info": {"status": "rejected", "isUsingOverage": True, "resetsAt": NOW + 60},
}
LEFT = (BEGAN, INIT, TASK, FINE)  # the main turn has its result, and a task is at work


@pytest.mark.parametrize(
    ("messages", "fields", "expected"),
    [
        (LEFT, {}, ("again", "")),  # the engine killed the box
        ((*LEFT, KILLED), {}, ("again", "")),
        ((*LEFT, TOLD), {}, ("again", "")),  # its end was not answered
        ((*LEFT, ended("", -9)), {}, ("again", "")),
        ((*LEFT, PAID, KILLED, ended("credits", 143)), {}, ("wait", "usage_limit")),
        ((*LEFT, KILLED, ended("", 143)), {"reason": "login"}, ("wait", "login")),
        ((*LEFT, ended("", 143)), {"reason": "disk"}, ("wait", "disk")),
        ((*LEFT, BEGAN, ended("", 137)), {}, ("again", "")),  # the process with the limit
        (
            (*LEFT, ended("", 137)),
            {"reason": "login", "stop_requested": True},
            ("end", "stopped"),
        ),
    ],
)
def test_work_in_the_background_that_is_cut_off_is_not_done(
    messages: tuple[dict[str, Any], ...], fields: dict[str, Any], expected: tuple[str, str]
) -> None:
    """The main turn's result is not the run's end while anything of it is still at work."""
    found = verdict(*messages, box=BoxEnd(exit_code=137), **fields)
    assert (found.kind, found.reason or found.ending.get("reason", "")) == expected


@pytest.mark.parametrize(
    "messages",
    [
        (BEGAN, INIT, FINE),  # the box was killed with nothing at work
        (BEGAN, INIT, FINE, PAID, ended("credits", 143)),
        (*LEFT, TOLD, INIT, OF_TASK, HUNG_UP, ended()),
        (*LEFT, TOLD, INIT, OF_TASK),
        (*LEFT, TOLD, INIT, PAID, OF_TASK, ended("credits", 0)),
        (*LEFT, {"type": "plandock", "event": "background-left", "tasks": ["Serve"]}, ended()),
        (*LEFT, KILLED, HUNG_UP, ended("the CLI did not end after its result", -9)),
    ],
)
def test_a_run_with_nothing_left_to_do_is_done(messages: tuple[dict[str, Any], ...]) -> None:
    """However its box ended: what was waited for, or given up and named, is no work any more."""
    for reason in ("", "login", "disk"):
        assert verdict(*messages, reason=reason).ending.get("target") == "done"


def test_work_that_is_cut_off_again_and_again_ends_the_run_in_plain_words() -> None:
    """The agent's own words of success are not the reason of a failure."""
    found = verdict(*LEFT, strikes=4)
    assert (found.ending["reason"], "result" in found.ending["message"]) == ("agent", True)
