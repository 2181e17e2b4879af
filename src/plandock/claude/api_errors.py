"""Errors of the API that waiting does not mend, told by what the CLI says of them.

Measured with 2.1.197 and 2.1.332.  Both put the API's status into the last result
(`api_error_status`) and words, some of the CLI's own, into its text; 2.1.332 also has `api_error`,
`api_error_type` and `terminal_reason`.  The message before it names the kind (`error`).  What is
known to pass (too busy, a usage limit, a login
that was renewed or revoked) is none of these, and neither is what is unknown with 401, 403 or 429.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from plandock.claude.redact import redact
from plandock.printable import one_line

_CREDITS = re.compile(r"(?i)(?:extra usage|usage credits)(?: is| are)? required")
# In other words, within a sentence; beside a limit that passes they are mere advice.
_NAMED = r"\b(?:extra usage|usage credits)\b"
_WANTED = r"\b(?:required?|must|enabled?|out of|needs?|needed)\b"
_NO_CREDITS = re.compile(
    rf"(?i){_NAMED}[^.!?·\n]{{0,80}}{_WANTED}|{_WANTED}[^.!?·\n]{{0,80}}{_NAMED}"
)
_PASSES = re.compile(r"(?i)\bresets?\b|hit your|limit reached|exceed")
_BALANCE = re.compile(r"(?i)credit balance is too low")
_ACCOUNT = re.compile(
    r"(?i)does not have permission|does not have access|not allowed for this organization"
    r"|is not available with the Claude \w+ plan"
)
# Whatever the status: no other login of that account would be let in.
_CLOSED = re.compile(
    r"(?i)(?:organization|account) (?:has been|is) (?:disabled|suspended)|disabled organization"
)
# The login itself: a new one mends it.
_LOGIN = re.compile(r"(?i)revoked|log ?in again|token (?:has )?expired")
_TOO_LARGE = re.compile(r"(?i)prompt is too long|request too large")
# Kinds of the CLI's own (`error`), whatever its words: an account that may not use it.
_ACCOUNT_KINDS = frozenset({"oauth_org_not_allowed", "account_on_hold", "verification_required"})
# No status comes with these: the API has answered.
_ANSWERED_KINDS = frozenset({"invalid_request", "max_output_tokens"})
# Statuses for a request that the API will never take as it is.
_REFUSED = frozenset({400, 402, 404, 405, 413, 422})


@dataclass(frozen=True)
class PermanentError:
    """Why a run cannot go on: a reason for scripts, the API's words, and the next step.

    ``hint`` may hold ``{run}``.
    """

    reason: str
    message: str
    hint: str


def permanent(
    result: Mapping[str, Any], words: str, *, kind: str = "", passes: bool = False
) -> PermanentError | None:
    """What no waiting mends in the last result of a run, or None; ``words`` is its text.

    ``kind`` is what the CLI calls the error.  ``passes``: a usage limit with a time was told, so
    that a 429 without clear words is that.
    """
    status, named = result.get("api_error_status"), result.get("api_error")
    if result.get("is_error") is not True or isinstance(status, bool):
        return None
    said = one_line(redact(words), limit=500) or f"the API refused the request ({status})"
    if named == "long_context_credits_required" or (
        status in (400, 402, 403, 429)
        and (_CREDITS.search(words) or (not passes and _lacks_credits(words)))
    ):
        return PermanentError(
            "credits", said,
            "plan again with a model that needs no usage credits (without [1m]), or allow them: "
            'billing = "subscription+credits", then: plandock resume {run}',
        )  # fmt: skip
    if status in (400, 402, 403) and _BALANCE.search(words):
        return PermanentError(
            "credits", said, "add credit to that account, then: plandock resume {run}"
        )
    shut = _CLOSED.search(words) or (status != 401 and _ACCOUNT.search(words))
    if kind in _ACCOUNT_KINDS or (status in (400, 401, 403) and shut and not _LOGIN.search(words)):
        return PermanentError(
            "account", said,
            "sign in with an account that may use it (claude, /login), then: plandock resume {run}",
        )  # fmt: skip
    if result.get("stop_reason") == "refusal":
        return PermanentError(
            "refusal", said, "plan again in other words or with another model; the work is kept"
        )
    if status is None and kind in _ANSWERED_KINDS:
        return PermanentError("agent", said, "plandock resume {run} goes on from there")
    if status == 404:
        return PermanentError(
            "model", said, "plan again with a model that this account has (in claude: /model)"
        )
    if status in _REFUSED and _TOO_LARGE.search(words):
        return PermanentError(
            "agent", said,
            "plandock resume {run} begins a new conversation from the plan, on the work so far",
        )  # fmt: skip
    if status in _REFUSED:
        return PermanentError("agent", said, "plandock logs {run}")
    return None


def _lacks_credits(words: str) -> bool:
    return bool(_NO_CREDITS.search(words)) and not _PASSES.search(words)
