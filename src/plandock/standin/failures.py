"""Decides which failure, if any, a request meets, and what an HTTP failure looks like."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from plandock.standin.script import Failure
from plandock.standin.sse import error_body

_PREFIX = "anthropic-ratelimit-unified"
_HTTP: dict[str, tuple[int, str, str]] = {
    "usage_limit": (
        429,
        "rate_limit_error",
        "This request would exceed your account's rate limit.",
    ),
    "rate_limited": (429, "rate_limit_error", "Too many requests"),
    "credits_required": (429, "rate_limit_error", "Usage credits are required for this model."),
    "overloaded": (529, "overloaded_error", "Overloaded"),
    "server_error": (500, "api_error", "Internal server error"),
    "unauthorized": (401, "authentication_error", "OAuth token has expired."),
}
_NO_CREDITS = {
    "status": "rejected",
    "representative-claim": "overage",
    "overage-status": "rejected",
    "overage-disabled-reason": "out_of_credits",
}


@dataclass
class _Met:
    """What is left of one failure."""

    failure: Failure
    count: int = 0
    reset_at: float | None = None


@dataclass(frozen=True)
class Meeting:
    """A failure that a request meets now; `reset_at` is a Unix time in seconds."""

    failure: Failure
    reset_at: float


class FailureBook:
    """Counts failures down. Safe for use from several request threads."""

    def __init__(self, injected: Iterable[Failure] = ()) -> None:
        """Start with the failures injected from the beginning."""
        self._lock = threading.Lock()
        self._injected = [_Met(failure) for failure in injected]
        self._scripted: dict[tuple[str, int], _Met] = {}

    def inject(self, failures: Iterable[Failure]) -> None:
        """Add failures; the earliest one that applies to a request meets it."""
        with self._lock:
            self._injected += [_Met(failure) for failure in failures]

    def clear(self) -> None:
        """Forget every injected failure; those of the script's own turns stay."""
        with self._lock:
            self._injected.clear()

    def left(self) -> list[Failure]:
        """Return the injected failures that can still be met."""
        with self._lock:
            now = time.time()
            return [met.failure for met in self._injected if not _spent(met, now)]

    def meet(
        self, token: str, scene: str, step: int, scripted: Failure | None, *, side: bool
    ) -> Meeting | None:
        """Return the failure of this request and count it, or None.

        `side` is true for a request without tools, which has no place in the script.
        """
        with self._lock:
            now = time.time()
            candidates = list(self._injected)
            if scripted is not None:
                key = (scene, step)
                candidates.append(self._scripted.setdefault(key, _Met(scripted)))
            for met in candidates:
                if _spent(met, now) or not _applies(met.failure, token, scene, step, side):
                    continue
                met.count += 1
                if met.reset_at is None:
                    met.reset_at = now + met.failure.reset_in_s
                reset = met.reset_at if met.failure.until_reset else now + met.failure.reset_in_s
                return Meeting(met.failure, reset)
        return None


def http_failure(meeting: Meeting) -> tuple[int, dict[str, str], dict[str, Any]] | None:
    """Return status, headers and body of a failure that is an HTTP answer, else None."""
    failure = meeting.failure
    if failure.kind not in _HTTP:
        return None
    status, kind, text = _HTTP[failure.kind]
    headers: dict[str, str] = {}
    if failure.kind == "usage_limit":
        headers = limit_headers("rejected", meeting.reset_at, failure.limit_type)
        headers["retry-after"] = str(max(0, int(meeting.reset_at - time.time())))
    body = error_body(kind, text)
    if failure.kind == "credits_required":
        # As the CLI reads it (2.1.197 and 2.1.332).
        body["error"]["details"] = {"error_code": failure.kind, "can_user_purchase_credits": True}
        headers = {f"{_PREFIX}-{name}": value for name, value in _NO_CREDITS.items()}
    return status, _with_limits(headers, failure), body


def answer_headers(meeting: Meeting | None, window_end: float) -> dict[str, str]:
    """Return what a right answer tells a subscription: who pays for it, and until when."""
    if meeting is None:
        return limit_headers("allowed", window_end)
    if meeting.failure.kind == "credits":
        headers = limit_headers("rejected", meeting.reset_at, meeting.failure.limit_type)
        del headers[f"{_PREFIX}-overage-disabled-reason"]
        headers |= {
            f"{_PREFIX}-overage-status": "allowed",
            f"{_PREFIX}-overage-reset": str(int(meeting.reset_at) + 14 * 86_400),
            f"{_PREFIX}-overage-in-use": "true",
        }
    else:
        headers = limit_headers("allowed", window_end)
    return _with_limits(headers, meeting.failure)


def _with_limits(headers: dict[str, str], failure: Failure) -> dict[str, str]:
    changed = {f"{_PREFIX}-{name}": value for name, value in (failure.limits or {}).items()}
    return {name: value for name, value in (headers | changed).items() if value}


def limit_headers(status: str, reset_at: float, limit_type: str = "five_hour") -> dict[str, str]:
    """Return the headers in which the API tells a subscription how much of it is used.

    Measured (facts, section 4): the CLI turns them into a `rate_limit_event` with `resetsAt`.
    """
    prefix = _PREFIX
    rejected = status == "rejected"
    reset = str(int(reset_at))
    window = {"five_hour": "5h", "seven_day": "7d"}.get(limit_type, "5h")
    return {
        f"{prefix}-status": status,
        f"{prefix}-reset": reset,
        f"{prefix}-representative-claim": limit_type,
        f"{prefix}-{window}-status": status,
        f"{prefix}-{window}-reset": reset,
        f"{prefix}-{window}-utilization": "1.0" if rejected else "0.25",
        f"{prefix}-fallback-percentage": "0.5",
        f"{prefix}-overage-status": "rejected",
        f"{prefix}-overage-disabled-reason": "org_level_disabled",
    }


def _spent(met: _Met, now: float) -> bool:
    if met.failure.until_reset:
        return met.reset_at is not None and now >= int(met.reset_at)
    return met.failure.times is not None and met.count >= met.failure.times


def _applies(failure: Failure, token: str, scene: str, step: int, side: bool) -> bool:
    if failure.if_token is not None and failure.if_token != token:
        return False
    if side:
        return failure.side and failure.scene is None and failure.step is None
    return failure.scene in (None, scene) and failure.step in (None, step)
