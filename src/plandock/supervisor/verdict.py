"""What is to become of a run when its agent has ended: a pure function of what was seen.

Three answers: it ends (and how), it waits (for what, until when), or it is let go once more on
the same volumes.  Facts about the CLI's messages: shared facts, section 4 (measured).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from plandock.box.expectations import isolation_words
from plandock.claude.api_errors import permanent
from plandock.claude.billing import judge_auth_status
from plandock.claude.stream import Progress
from plandock.errors import IsolationError
from plandock.runs.model import Run, State, utc_time
from plandock.settings.keys import WITH_CREDITS

# The API's own words for "too busy" and "something broke": 429 and 5xx, 529 (overloaded) too.
_BUSY = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 521, 522, 524, 529})
_FIRST_BACKOFF_S = 10.0
_LONGEST_BACKOFF_S = 900.0
_RESET_JITTER_S = (1.0, 5.0)
# Without a time that can be, a limit is looked at again after this long.
_UNKNOWN_RESET_S = 900.0
# The longest limit is a week's; a reset beyond that is no time to wait for.
_LONGEST_RESET_S = 8 * 86_400.0
_LONGEST_CREDITS_PAUSE_S = 86_400.0
_PAY = f'set billing = "{WITH_CREDITS}", then: plandock resume '
_MOST_STRIKES = 5
_MOST_OUT_OF_MEMORY = 2


@dataclass(frozen=True)
class BoxEnd:
    """How the container ended, as the engine tells; ``there`` is false where it is gone."""

    there: bool = True
    oom_killed: bool = False
    exit_code: int | None = None


@dataclass(frozen=True)
class Verdict:
    """``end`` with the fields of the end, ``wait`` with reason and time, or ``again``."""

    kind: Literal["end", "wait", "again"]
    ending: dict[str, Any] = field(default_factory=dict)
    reason: str = ""
    until: float = 0.0
    message: str = ""
    hint: str = ""
    strikes: int = 0  # attempts in a row that got nowhere, this one counted
    kept: bool = False  # a wait for a login whose token was not refused


def judge(
    run: Run,
    progress: Progress,
    box: BoxEnd,
    *,
    now: float | None = None,
    jitter: Callable[[float, float], float] = random.uniform,
) -> Verdict:
    """The verdict on a run whose box has ended; times are Unix seconds."""
    now = time.time() if now is None else now
    if refusal := _refusal(run, progress):
        return refusal
    if run.stop_requested:
        return Verdict("end", stopped("stopped"))
    if run.reason == "timeout" or (progress.ended or {}).get("why") == "timeout":
        return Verdict("end", stopped("timeout", "the run reached its time limit"))
    if run.reason == "disk" and not progress.finished:
        return Verdict(
            "wait",
            reason="disk",
            message="the engine's disk is full",
            hint="make room there; the run goes on by itself",
            strikes=run.strikes,
        )
    if run.reason == "login" and not progress.finished:
        # The watch ended the box: this machine has another account's login now.
        return Verdict(
            "wait", reason="login", message=run.message, hint=run.hint, strikes=run.strikes,
            kept=True,
        )  # fmt: skip
    # A success with work left in the background is no result: that work was cut off.
    result = {} if progress.succeeded else progress.result or {}
    if not progress.finished and (paid := _credits(run, progress, result, now, jitter)):
        return paid
    if result.get("subtype") in ("error_max_turns", "error_max_budget_usd"):
        reason = "max_turns" if result["subtype"] == "error_max_turns" else "budget"
        return Verdict("end", stopped(reason, progress.closing_words or f"{reason} was reached"))
    if progress.finished:
        well = {"reason": "", "exit_code": 0, "message": "", "hint": ""}
        return Verdict("end", {"target": str(State.DONE), **well})
    status = result.get("api_error_status")
    if lasting := permanent(
        result, progress.closing_words, kind=progress.error_kind, passes=progress.resets_at > 0
    ):
        return Verdict("end", failed(lasting.reason, lasting.message, 10, lasting.hint))
    named = result.get("api_error") == "usage_limit_reached"  # since 2.1.332 (measured)
    if named or (progress.resets_at and (progress.limited or status == 429)):
        return _usage_limit(run, progress, now, jitter)
    # A limit that names no time is none of the user's: "temporarily limiting requests (not your
    # usage limit)", as the CLI puts it.
    if status in (401, 403):
        return Verdict(
            "wait",
            reason="login",
            message=f"the API refused the login ({status})",
            hint="start claude here once, or sign in with /login; the run goes on by itself",
            strikes=_in_a_row(run, progress) + 1,
        )
    silent = (progress.ended or {}).get("why") == "silence"
    if (
        silent
        or progress.limited
        or status in _BUSY
        or (result and status is None and progress.api_trouble)
    ):
        return _backoff(run, progress, now, jitter)
    return _broken_off(run, progress, box, result)


def stopped(reason: str, message: str = "") -> dict[str, Any]:
    """The end of a run that was stopped, by its user or by a limit."""
    return {
        "target": str(State.STOPPED),
        "reason": reason,
        "exit_code": 10,
        "message": message[:2000],
        "hint": f"plandock resume {{run}} goes on{'' if reason == 'stopped' else ' from there'}",
    }


def failed(reason: str, message: str, code: int, hint: str) -> dict[str, Any]:
    """The end of a run that could not be carried out."""
    return {
        "target": str(State.FAILED),
        "reason": reason,
        "message": message[:2000],
        "exit_code": code,
        "hint": hint,
    }


def _refusal(run: Run, progress: Progress) -> Verdict | None:
    """The ends that no going on can mend: who pays, and what the box was like."""
    if progress.isolation_fault:
        words = isolation_words(progress.isolation_fault)
        code = IsolationError.exit_code
        return Verdict("end", failed("isolation", words["message"], code, words["hint"]))
    by_key = run.settings.get("billing") == "api-key"
    asked = judge_auth_status(progress.auth_status, kind="file")
    refused = progress.billing_refused
    if not by_key and (refused or (progress.auth_status is not None and not asked.ok)):
        culprit = f"the CLI would use {refused}" if refused else asked.culprit
        return Verdict(
            "end",
            failed(
                "billing",
                f"not started, it would be billed per token: {culprit}",
                21,
                "plandock doctor names what to remove",
            ),
        )
    if progress.asks_in_mode:
        return Verdict(
            "end",
            failed(
                "permission_mode",
                "ended before a request left: Claude Code in the box would ask for permission "
                f"(mode {progress.asks_in_mode!r}), and nobody is there to answer",
                10,
                "an organisation's policy can forbid the mode without questions: ask its "
                "administrator, or carry the plan out here",
            ),
        )
    return None


def _usage_limit(
    run: Run, progress: Progress, now: float, jitter: Callable[[float, float], float]
) -> Verdict:
    # A reset that has passed already, or none at all: the clocks differ, or it was no such limit.
    at = float(progress.resets_at)
    strikes = _in_a_row(run, progress)
    if now < at <= now + _LONGEST_RESET_S:
        until = at
    elif 0 < at <= now:
        until = now + _pause(strikes)
    else:
        until = now + _UNKNOWN_RESET_S
    until += jitter(*_RESET_JITTER_S)
    return Verdict(
        "wait",
        reason="usage_limit",
        until=until,
        message=f"the usage limit was reached; goes on at {utc_time(until)}",
        strikes=strikes + 1,
    )


def _credits(
    run: Run,
    progress: Progress,
    result: dict[str, Any],
    now: float,
    jitter: Callable[[float, float], float],
) -> Verdict | None:
    """Usage credits pay: the wait for the allowance, or the end at the limit that was set."""
    billing, cap = run.settings.get("billing"), run.settings.get("max_credits_usd")
    sign = progress.credits
    if progress.listener.required and not progress.resets_at:
        words = "this model is paid for with usage credits, and the API says that there are none"
        return Verdict("end", failed("billing", words, 21, "hand it off with another model"))
    if sign is None or billing == "api-key":
        return None
    if billing == WITH_CREDITS:
        spent = (run.billing.credits_usd or 0.0) + (progress.spending.credits_usd or 0.0)
        at_its_end = result.get("subtype") == "error_max_budget_usd"
        if not isinstance(cap, (int, float)):
            return None
        if progress.spending.is_open:
            words = f"how many usage credits it used is not known, and {cap:g} USD are its limit"
        elif at_its_end or spent >= cap:
            words = f"it used {spent:.2f} USD of usage credits; max_credits_usd is {cap:g}"
        else:
            return None
        return Verdict("end", stopped("credits", words))
    # An allowance that pays for the first request and then does not is no news by itself.
    strikes = 0 if progress.listener.included and sign.back_at > now else run.strikes
    if now < sign.back_at <= now + _LONGEST_RESET_S:
        until = float(sign.back_at)
    elif 0 < sign.back_at <= now and not strikes:
        until = now + _FIRST_BACKOFF_S
    else:
        # Each look can cost a paid request.
        until = now + min(_UNKNOWN_RESET_S * 2.0 ** min(strikes, 10), _LONGEST_CREDITS_PAUSE_S)
    until += jitter(*_RESET_JITTER_S)
    if not sign.certain:
        words = f"{sign.why}; it counts as usage credits. Goes on at {utc_time(until)}"
    elif sign.used_up:
        words = f"the included allowance is used up; goes on at {utc_time(until)} without credits"
    else:
        words = f"usage credits pay for this model; tries again at {utc_time(until)}"
    lead = "to pay with usage credits," if sign.used_up else "stop it and take another model, or"
    return Verdict(
        "wait",
        reason="usage_limit",
        until=until,
        message=words,
        hint=f"{lead} {_PAY}{run.id}",
        strikes=strikes + 1,
    )


def _backoff(
    run: Run, progress: Progress, now: float, jitter: Callable[[float, float], float]
) -> Verdict:
    strikes = _in_a_row(run, progress)
    status = (progress.result or {}).get("api_error_status")
    said = "" if progress.succeeded else progress.closing_words[:200]
    what = said or ("silence" if progress.ended else "")
    return Verdict(
        "wait",
        reason="overloaded",
        until=now + _pause(strikes) * jitter(0.8, 1.2),
        message=f"the API does not answer as it should ({status or what or 'no connection'})",
        strikes=strikes + 1,
    )


def _in_a_row(run: Run, progress: Progress) -> int:
    """Attempts before this one that got nowhere; none where the model has said something now."""
    return 0 if progress.moved else run.strikes


def _pause(strikes: int) -> float:
    return float(min(_FIRST_BACKOFF_S * 2.0 ** min(strikes, 10), _LONGEST_BACKOFF_S))


def _broken_off(run: Run, progress: Progress, box: BoxEnd, result: dict[str, Any]) -> Verdict:
    """No result, or one that nobody knows: the CLI or its box broke; let it go on, but not for
    ever."""
    if result and result.get("subtype") == "success":
        # `is_error` without an API status: the CLI itself says that it could not.
        words = progress.closing_words or "the agent ended with an error"
        return Verdict("end", failed("agent", words, 10, f"plandock logs {run.id}"))
    why = str((progress.ended or {}).get("why") or "")[:500]
    if why == "the setup command failed":
        return Verdict("end", failed("setup", why, 10, f"plandock logs {run.id}"))
    # However far it came in between: what breaks at one place breaks there again, and each time
    # costs requests.  A box that was killed from outside is told from one out of memory.
    strikes = run.strikes + 1
    if strikes >= (_MOST_OUT_OF_MEMORY if box.oom_killed else _MOST_STRIKES):
        if box.oom_killed:
            return Verdict(
                "end", failed("memory", "the box ran out of memory", 10, "raise `memory`")
            )
        words = progress.closing_words if result else ""
        words = words or f"the agent ended without a result{why and ': '}{why}"
        return Verdict("end", failed("agent", words, 10, f"plandock logs {run.id}"))
    return Verdict("again", message=why or "the box ended without a word", strikes=strikes)
