"""Usage credits of a subscription: what is paid with them, counted by the stand-in.

The rows of `docs/credits.md` that a real run shows; the rest are unit tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime

import pytest

from plandock.runs.model import Run
from plandock.standin import Failure, write_file
from tests.support.pairs import NEWEST, PAIRS
from tests.support.run_batch import CaseResult, cases, hold, looks_at
from tests.support.run_batch import batch as batch
from tests.support.run_batch import case as case

pytestmark = [pytest.mark.timeout(1800), pytest.mark.e2e, pytest.mark.engine]

SOON_S = 20.0
WORK = tuple(write_file(f"{name}.txt", f"{name}\n") for name in ("one", "two", "three"))
MIDDLE = (WORK[0], hold(), *WORK[1:])
CREDITS = {"PLANDOCK_BILLING": "subscription+credits"}
# The allowance is there, and this model is paid with credits all the same.
ALWAYS_PAID = {"overage-status": "allowed", "overage-disabled-reason": "", "overage-in-use": "true"}
AVAILABLE = {"overage-status": "allowed", "overage-disabled-reason": ""}


def goes_on(*failures: Failure) -> Callable[[CaseResult], None]:
    """Hand off to a stand-in that answers so; the run waits, goes on by itself, and ends."""

    def act(result: CaseResult) -> None:
        result.laptop.standin.inject(*failures)
        result.hand_off()
        result.seen["waits"] = result.until("waiting")
        result.until_over()

    return act


def waits(*failures: Failure) -> Callable[[CaseResult], None]:
    """Hand off, see the run wait for long, and stop it."""

    def act(result: CaseResult) -> None:
        result.laptop.standin.inject(*failures)
        result.hand_off()
        result.seen["waits"] = result.until("waiting")
        result.laptop.plandock("stop", result.run_id)
        result.until_over()

    return act


def ends(*failures: Failure) -> Callable[[CaseResult], None]:
    """Hand off, and see the run end."""

    def act(result: CaseResult) -> None:
        result.laptop.standin.inject(*failures)
        result.run_through()
        result.seen["receipt"] = result.laptop.plandock("receipt", result.run_id).stdout

    return act


def paid(step: int | None = 1) -> Failure:
    """Answers that credits pay for."""
    return Failure("credits", step=step, times=None, reset_in_s=SOON_S)


def soon() -> Failure:
    """The same, until the allowance is back."""
    return replace(paid(None), until_reset=True)


def goes_on_in_the_middle(result: CaseResult) -> None:
    """The allowance is used up while the agent is at work."""
    result.hand_off()
    result.until_held()
    result.laptop.standin.inject(soon())
    result.let_go()
    result.seen["waits"] = result.until("waiting")
    result.until_over()


def told(limits: Mapping[str, str], *steps: int | None) -> list[Failure]:
    """Answers with these headers, from the second on where nothing else is said."""
    return [Failure("limits", step=step, times=None, limits=limits) for step in steps or (1, 2, 3)]


SEALED = {"PLANDOCK_CREDENTIALS": "sealed"}
CASES = [
    *cases("first", goes_on(soon()), WORK, among=PAIRS),
    *cases("middle", goes_on_in_the_middle, MIDDLE, among=PAIRS),
    *cases("middle-sealed", goes_on_in_the_middle, MIDDLE, among=NEWEST, env=SEALED),
    *cases("claim", waits(*told({"representative-claim": "overage"})), WORK, among=NEWEST),
    *cases("unknown", waits(*told({"overage-status": "granted"})), WORK, among=PAIRS),
    *cases("model", waits(*told(ALWAYS_PAID, None)), WORK, among=NEWEST),
    # The CLI takes every other value for `false`: only the gateway sees it.
    *cases(
        "unseen-sealed", waits(*told({"overage-in-use": "yes"})), WORK, among=NEWEST, env=SEALED
    ),
    *cases("available", ends(*told(AVAILABLE, None)), WORK, among=PAIRS),
    *cases("allowed", ends(paid(None)), WORK, among=NEWEST, env=CREDITS),
    *cases(
        "capped", ends(paid(1), paid(2), paid(3)), WORK, among=PAIRS,
        env={**CREDITS, "PLANDOCK_MAX_CREDITS_USD": "0.01"},
    ),
]  # fmt: skip


def paid_requests(case: CaseResult) -> int:
    """How many requests met an answer that somebody else than the allowance paid for."""
    return sum(r.failure in ("credits", "limits") for r in case.model_requests)


def stopped_after(case: CaseResult) -> tuple[int, ...]:
    """How many may have been paid: the gateway reads each answer; in a tunnel the CLI tells, and
    on a very busy machine of two at once (seen at a load of 76)."""
    return (1,) if "sealed" in case.case.name else (1, 2)


def until(run: Run) -> float:
    """When the run wants to go on, as Unix seconds."""
    return datetime.fromisoformat(run.waiting_until).timestamp()


@looks_at(CASES, "first", "middle", "middle-sealed")
def test_a_run_waits_for_the_allowance_and_goes_on_by_itself(case: CaseResult) -> None:
    """What was paid until the run stopped is counted; then the whole of the work is done."""
    seen, run = case.seen["waits"], case.run
    assert (seen.state, seen.reason) == ("waiting", "usage_limit")
    assert "credits" in seen.message
    assert "credits" in seen.hint
    assert paid_requests(case) in stopped_after(case)
    assert (run["state"], run["attempt"]) == ("done", 2)
    assert [case.shown(f"{name}.txt") for name in ("one", "two", "three")] == [
        "one",
        "two",
        "three",
    ]
    assert run["billing"]["credits_used"] is True


@looks_at(CASES, "claim", "unknown", "model", "unseen-sealed")
def test_a_run_that_nobody_else_would_pay_for_waits_without_asking_more(case: CaseResult) -> None:
    """The claim, a value that is not known, a model that has no allowance: one paid request."""
    seen = case.seen["waits"]
    assert (seen.state, seen.reason) == ("waiting", "usage_limit")
    ended = datetime.fromisoformat(case.run["ended_at"]).timestamp()
    assert until(seen) > ended + 300.0  # no reset is named, and no tight loop follows
    assert paid_requests(case) in stopped_after(case)
    assert "usage credits" in f"{seen.message} {seen.hint}"
    if case.case.name == "model":
        assert "this model" in seen.message
    else:
        assert case.shown("one.txt") == "one"  # what was done by then is kept
    assert case.run["billing"]["credits_used"] is True


@looks_at(CASES, "available")
def test_credits_that_are_there_and_do_not_pay_stop_nothing(case: CaseResult) -> None:
    """The control: the allowance pays for every request, and the run says so."""
    assert case.run["state"] == "done"
    assert case.run["attempt"] == 1
    assert case.run["billing"]["credits_used"] is False
    assert "none were used; the allowance paid (five_hour)" in case.seen["receipt"]


@looks_at(CASES, "allowed")
def test_credits_pay_where_the_user_has_allowed_it(case: CaseResult) -> None:
    """The run goes through, and the receipt says what is known of how much."""
    assert case.run["state"] == "done"
    assert case.run["attempt"] == 1
    assert paid_requests(case) > 1
    billing = case.run["billing"]
    assert billing["credits_used"] is True
    assert 0 < billing["credits_usd"] <= case.run["usage"]["cost_usd_equivalent"]
    assert f"{billing['credits_usd']:.2f} USD at most" in case.seen["receipt"]


@looks_at(CASES, "capped")
def test_credits_end_at_their_limit(case: CaseResult) -> None:
    """Two paid requests: the one that told of credits, and the one that was beyond the limit."""
    assert (case.run["state"], case.run["reason"]) == ("stopped", "credits")
    assert paid_requests(case) in [1 + n for n in stopped_after(case)]
    billing = case.run["billing"]
    assert billing["credits_usd"] >= 0.01
    assert billing["credits_uncounted"] is True
    assert "max_credits_usd" in case.run["message"]
    assert case.shown("one.txt") == "one"
