"""Whether usage credits pay for an answer of the API: the one rule, for its headers and the CLI.

A subscription with usage credits goes on billing when its allowance is used up, and some models
bill credits from the first request.  The API says so in ``anthropic-ratelimit-unified-*``; the
CLI repeats it as ``rate_limit_info`` (2.1.197 and 2.1.332, read and measured): there
``isUsingOverage`` is ``status`` rejected beside ``overageStatus`` allowed or allowed_warning.
``overageStatus`` allowed alone says that there are credits, not that they pay.  Every value that
is not known counts as paid.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

PREFIX = "anthropic-ratelimit-unified-"
# What the included allowance is reckoned by; `overage` is the credits' own.
WINDOWS: Mapping[str, str] = {
    "five_hour": "5h", "seven_day": "7d", "seven_day_overage_included": "7d_oi",
}  # fmt: skip
_INCLUDED = frozenset({*WINDOWS, "seven_day_opus", "seven_day_sonnet", "seven_day_oauth_apps"})
_EVERYBODYS = ("five_hour", "seven_day")
_ALLOWED = ("allowed", "allowed_warning")
_LATEST = 10**11  # Unix seconds


@dataclass(frozen=True)
class Sign:
    """Says that usage credits pay, or that it is not known who does.

    ``why`` is for people; ``certain`` is false for what is not known.  ``back_at``: when the
    included allowance is back (Unix seconds), 0 where nothing tells.  ``used_up``: the allowance
    is; where it is not, this model is paid for with credits from the first request on.
    """

    why: str
    certain: bool
    back_at: int
    used_up: bool

    @classmethod
    def of(cls, facts: Mapping[str, object]) -> Sign:
        """From a line of the gateway's log."""
        return cls(
            str(facts.get("why"))[:200],
            facts.get("certain") is True,
            _seconds(facts.get("back_at")),
            facts.get("used_up") is True,
        )


def sign_in_headers(status: int, headers: Iterable[tuple[bytes, bytes]]) -> Sign | None:
    """What the headers of an answer with this HTTP status say; None: the allowance pays, or
    nothing was answered."""
    told: dict[str, str] = {}
    for name, value in headers:
        key = name.decode("latin-1").lower()
        if key.startswith(PREFIX):
            # A name that comes twice is no value that is known.
            key, text = key[len(PREFIX) :], value.decode("latin-1").strip()
            told[key] = f"{told[key]}, {text}" if key in told else text
    if status >= 400 or not told:
        return None
    info: dict[str, object] = {
        "status": told.get("status"),
        "resetsAt": _number(told.get("reset")),
        "rateLimitType": told.get("representative-claim"),
        "overageStatus": told.get("overage-status"),
        "overageResetsAt": _number(told.get("overage-reset")),
        "overageInUse": {"true": True, "false": False}.get(
            told.get("overage-in-use", "false"), told.get("overage-in-use")
        ),
        "rateLimitGraceActive": told.get("grace-status") != "eligible"
        and any((_number(told.get(f"grace-{x}-utilization")) or 0) > 0 for x in ("5h", "7d")),
        "unifiedWindows": {
            window: {
                "status": told.get(f"{short}-status"),
                "resetsAt": _number(told.get(f"{short}-reset")),
            }
            for window, short in WINDOWS.items()
        },
    }
    if found := sign_in(info):
        return found
    # An answer that the allowance refuses, and yet there it is.
    return answered_although(info) if info["status"] == "rejected" else None


def sign_in(info: object) -> Sign | None:
    """What a ``rate_limit_info`` of the CLI says; None: the allowance pays, or nobody."""
    if info is None:
        return None
    if not isinstance(info, Mapping):
        return Sign("the API's limits are told in a form not known", False, 0, False)
    unknown = ""
    for name in ("isUsingOverage", "overageInUse"):
        if info.get(name) is True:
            return _sign(info, f"the API says so ({name})", True)
        if info.get(name) not in (None, False):
            unknown = unknown or name
    status, credit, claim = (
        info.get(name) for name in ("status", "overageStatus", "rateLimitType")
    )
    if claim == "overage" and status == "allowed_warning":
        # A warning takes the place of status and claim in what the CLI tells (measured).
        if not unknown and _warns_of_unused(info):
            return None
        return _sign(info, "not known who pays (a warning about usage credits)", False)
    if claim == "overage" and status != "rejected":
        return _sign(info, "the API counts the request against them (claim: overage)", True)
    if status == "rejected" and credit in _ALLOWED:
        return _sign(info, "the allowance is used up, and credits are allowed", True)
    if status not in (None, *_ALLOWED, "rejected"):
        unknown = unknown or "status"
    if credit not in (None, *_ALLOWED, "rejected"):
        unknown = unknown or "overageStatus"
    # Who is refused pays nothing, whatever the limit is called.
    if status != "rejected" and claim is not None and claim not in _INCLUDED:
        unknown = unknown or "rateLimitType"
    if unknown:
        said = "".join(c for c in str(info.get(unknown))[:40] if " " <= c <= "~")
        return _sign(info, f"not known who pays ({unknown}: {said})", False)
    if status != "rejected" and claim in (None, *_EVERYBODYS) and _is_used_up(info):
        return answered_although(info)
    return None


def _is_used_up(info: Mapping[str, object]) -> bool:
    """Whether a window that counts for every model is (told since 2.1.332), and no grace is given:
    with that the CLI reckons that the allowance pays as long as the request is allowed (read)."""
    if info.get("rateLimitGraceActive") is True:
        return False
    windows = info.get("unifiedWindows")
    told = [windows.get(name) for name in _EVERYBODYS] if isinstance(windows, Mapping) else []
    return any(isinstance(one, Mapping) and one.get("status") == "rejected" for one in told)


def _warns_of_unused(info: Mapping[str, object]) -> bool:
    """Whether the CLI warns that credits run low while the allowance still pays: no window of it
    is used up (told since 2.1.332)."""
    threshold, windows = info.get("surpassedThreshold"), info.get("unifiedWindows")
    if not isinstance(threshold, (int, float)) or not isinstance(windows, Mapping):
        return False
    told = [one.get("status") if isinstance(one, Mapping) else None for one in windows.values()]
    session = windows.get("five_hour")
    return (
        info.get("isUsingOverage") is False
        and isinstance(session, Mapping)
        and session.get("status") == "allowed"
        and all(status in _ALLOWED for status in told)
    )


def answered_although(info: Mapping[str, object]) -> Sign:
    """For an answer that came although the allowance is used up and no credits are named."""
    return _sign(info, "not known who pays (answered beyond the allowance)", False)


class Listener:
    """Listens to the CLI's messages for the first sign; ``certain_only`` where a sealed gateway
    judges what is not known, by the API's own headers."""

    def __init__(self, certain_only: bool = False) -> None:
        self._certain_only = certain_only
        self.sign: Sign | None = None
        self.info: Mapping[str, object] = {}  # the latest that the CLI told
        self.included = False  # an answer was the allowance's, before the first sign
        self.required = False  # the model is refused for want of credits
        self.unanswered = False  # the sign came before an answer to what was asked, and none since
        self._refused = self._answered = False

    def take(self, message: Mapping[str, object]) -> Sign | None:
        """Take one message; the sign where this is the first."""
        params = message.get("api_error_params")
        told = params if isinstance(params, Mapping) else message
        found, refused, self._refused = None, self._refused, False
        if message.get("type") == "user":
            self._answered = False
        elif _is_of_the_model(message):
            self._answered, self.unanswered = True, False
        if "rate_limit_info" in told:
            info = told["rate_limit_info"]
            found = sign_in(info)
            if isinstance(info, Mapping):
                self.info = info
                rejected = info.get("status") == "rejected"
                self._refused = rejected and told is message
                # 2.1.332 leaves it out beside the error (measured).
                codes = (info.get("errorCode"), message.get("api_error_code"))
                self.required = rejected and "credits_required" in codes
                if self.sign is None and found is None and not rejected:
                    self.included = True
        elif refused and (message.get("type") == "user" or _is_answer(message)):
            # The event stands between an answer and what its tools said; after a refusal the CLI
            # itself speaks (measured, both versions).
            found = answered_although(self.info)
        if found is None or self.sign is not None:
            return None
        if self._certain_only and not found.certain:
            return None
        self.sign, self.unanswered = found, not self._answered
        return found


def _is_of_the_model(message: Mapping[str, object]) -> bool:
    """Whether the model said it; the CLI puts its own errors into its mouth (measured)."""
    said = message.get("message")
    model = said.get("model") if isinstance(said, Mapping) else "<synthetic>"
    return message.get("type") == "assistant" and model != "<synthetic>"


def _is_answer(message: Mapping[str, object]) -> bool:
    """Whether it is a result that is no error."""
    return message.get("type") == "result" and message.get("is_error") is False


def _sign(info: Mapping[str, object], why: str, certain: bool) -> Sign:
    windows = info.get("unifiedWindows")
    windows = windows if isinstance(windows, Mapping) else {}
    spent = [
        _seconds(window.get("resetsAt"))
        for window in windows.values()
        if isinstance(window, Mapping) and window.get("status") == "rejected"
    ]
    rejected = info.get("status") == "rejected"
    back_at = max(spent, default=0)
    if not back_at and rejected and info.get("resetsAt") != info.get("overageResetsAt"):
        back_at = _seconds(info.get("resetsAt"))
    return Sign(why, certain, back_at, rejected or bool(spent))


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _seconds(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return 0
    return int(min(max(value, 0), _LATEST))
