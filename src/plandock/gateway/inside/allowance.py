"""Lets no request out any more once usage credits pay, unless the user's settings allow it."""

from __future__ import annotations

from collections.abc import Iterable

from head import Refused
from overage import Sign, sign_in_headers  # type: ignore[import-not-found]
from report import Report

# Of requests that nothing but another payer would help; the CLI does not try it again.
REFUSED_STATUS = 429


class Allowance:
    """Reads who paid from every answer, and says so once."""

    def __init__(self, report: Report, *, credits_allowed: bool) -> None:
        self._report = report
        self._credits_allowed = credits_allowed
        self._sign: Sign | None = None

    def take(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Look at the head of an answer."""
        if self._sign is not None:
            return
        self._sign = sign_in_headers(status, headers)
        if self._sign is not None:
            sign = self._sign
            self._report.say(
                "credits",
                target="",
                why=sign.why,
                certain=sign.certain,
                back_at=sign.back_at,
                used_up=sign.used_up,
            )

    def check(self) -> None:
        """Raise :class:`Refused` where the next request may be paid with usage credits."""
        if self._sign is not None and not self._credits_allowed:
            raise Refused(REFUSED_STATUS, "usage credits would pay, which the settings forbid")
