"""Usage credits of a subscription: what is recorded of them, and that a run stops in time.

The steward ends the CLI itself; here is the second look, for a box whose steward did not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from plandock.box import launch
from plandock.box.inside.overage import Listener, Sign
from plandock.claude.stream import Progress
from plandock.engines.protocol import Engine
from plandock.runs.model import Billing, Run
from plandock.runs.store import Store
from plandock.settings.keys import WITH_CREDITS
from plandock.supervisor.steps import say

DECISION = "credits"  # of the sealed gateway, which reads the API's headers


def record(store: Store, run: Run, progress: Progress) -> None:
    """Record what the CLI has told of who pays; beside a refusal, when that is known to be one."""
    if progress.listener.unanswered:
        return
    known = store.get(run.id).billing
    now = _told(known, progress)
    if now != known:
        store.change(run.id, billing=now)


def stop_unheeded(engine: Engine, run: Run, progress: Progress) -> None:
    """Stop a box that goes on although usage credits pay and must not."""
    if progress.credits is not None and not progress.credits_heeded and stops(run):
        say(f"usage credits pay: {progress.credits.why}")
        engine.stop(launch.names_of(run).box)


def gateway_judges(billing: object, credentials: object) -> bool:
    """Whether a sealed gateway stops what usage credits pay for, by the API's own headers: what
    the CLI tells counts beside it only where that is certain."""
    return credentials == "sealed" and billing not in (WITH_CREDITS, "api-key")


def listening(run: Run) -> Progress:
    """A new reading of what the run's box says."""
    judges = gateway_judges(run.settings.get("billing"), run.settings.get("credentials"))
    return Progress(listener=Listener(certain_only=judges))


def stops(run: Run) -> bool:
    """Whether a run ends its box when usage credits pay."""
    return run.settings.get("billing") not in (WITH_CREDITS, "api-key")


def sign_of(progress: Progress, decisions: Iterable[dict[str, Any]]) -> Sign | None:
    """The sign that counts when a box has ended, by what its CLI and its gateway have said."""
    return (None if progress.refused else progress.credits) or from_gateway(decisions)


def from_gateway(decisions: Iterable[dict[str, Any]]) -> Sign | None:
    """The sign that the sealed gateway has seen, if any."""
    return next((Sign.of(one) for one in decisions if one.get("decision") == DECISION), None)


def bill(run: Run, progress: Progress) -> Billing:
    """The run's billing after this attempt; its sums are added once."""
    told, spending = _told(run.billing, progress), progress.spending
    if progress.credits is None or run.settings.get("billing") == "api-key":
        return told
    counted = spending.credits_usd
    if counted is not None:
        told.credits_usd = (run.billing.credits_usd or 0.0) + counted
    told.credits_uncounted |= spending.uncounted or spending.is_open or counted is None
    return told


def in_words(run: Run) -> str:
    """Whether usage credits were used and what is known of how much, in a sentence."""
    billing = run.billing
    if billing.source == "api-key":
        return "none: an API key pays"
    if billing.credits_used is None:
        return "not known: nothing was told of them"
    if not billing.credits_used:
        return f"none were used; the allowance paid ({billing.rate_limit_type or 'not named'})"
    if billing.credits_usd is None:
        much = "how much is not known"
    else:
        much = f"{billing.credits_usd:.2f} USD at most, by Claude Code's own count"
        much += "; not all requests are counted in it" if billing.credits_uncounted else ""
    return f"used, {much} ({billing.credits_why})"


def _told(before: Billing, progress: Progress) -> Billing:
    info, sign = progress.listener.info, progress.credits
    now = dataclasses.replace(before)
    now.rate_limit_type = _word(info.get("rateLimitType")) or now.rate_limit_type
    now.overage_status = _word(info.get("overageStatus")) or now.overage_status
    if sign is not None:
        now.credits_used, now.credits_why = True, sign.why
    elif info and now.credits_used is None:
        now.credits_used = False
    return now


def _word(value: object) -> str:
    known = value[:60] if isinstance(value, str) else ""
    return known if known.isascii() and known.isprintable() else ""
