"""What an attempt has cost, by the CLI's own count: in all, and since usage credits pay.

``total_cost_usd`` comes with each result, and counts all that its process of the CLI has asked
for, at the prices of an API key (measured, both versions).  Nothing tells the cost in between.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass
class Spending:
    """Amounts in USD."""

    credits_usd: float | None = None  # since credits pay; at most that, and without what follows
    uncounted: bool = False  # some requests that credits paid for are in no result
    is_open: bool = False  # credits pay in this process, and no result has told how much yet
    total_usd: float = 0.0
    _earlier_usd: float = 0.0  # of processes that have ended
    _process_usd: float = 0.0
    _paid_from_usd: float | None = None  # what this process had cost before; None: credits rest
    _paid_earlier_usd: float = 0.0
    _next_pays: bool = False

    def process_began(self) -> None:
        """A process of the CLI was started."""
        self._earlier_usd, self._process_usd = self.total_usd, 0.0
        self._paid_earlier_usd = self.credits_usd or 0.0
        self._paid_from_usd = 0.0 if self._next_pays else None
        self.is_open, self._next_pays = self._next_pays, False

    def credits_began(self, then: object) -> None:
        """The steward has seen that credits pay; ``then`` is what it does about that."""
        if then == "go-on":
            self._paid_from_usd, self.is_open = self._process_usd, True
        else:
            # It is ended without a result.
            self.uncounted = True
            self._next_pays = then == "restart"

    def told(self, total_cost_usd: object) -> None:
        """A result's ``total_cost_usd``."""
        cost = total_cost_usd
        if isinstance(cost, bool) or not isinstance(cost, (int, float)) or not math.isfinite(cost):
            return
        self._process_usd = min(max(float(cost), 0.0), 1e9)
        self.total_usd = self._earlier_usd + self._process_usd
        if self._paid_from_usd is not None:
            paid = max(0.0, self._process_usd - self._paid_from_usd)
            self.credits_usd, self.is_open = self._paid_earlier_usd + paid, False
