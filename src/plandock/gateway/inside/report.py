"""The gateway's log: one JSON line per decision on standard output, bounded.

The box decides how often the gateway is asked, so it must not decide how much of the host's disk
the container's log takes: beyond a rate, lines are counted instead of written, and the count is
written.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

BURST = 500  # lines at once, of one kind: more than an attack suite asks, less than 200 KiB
RATE = 5.0  # lines per second after that
LONGEST = 300  # characters of anything that the box chose

# Lines that come once, or that have a limit of their own.
_ALWAYS = frozenset({"ready", "disk", "token", "suppressed", "credits"})
_REFUSALS = frozenset({"refused", "failed"})


class Report:
    """Writes decisions; refusals and the rest have a budget each, so neither hides the other."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._budget = {True: float(BURST), False: float(BURST)}
        self._filled = clock()
        self._suppressed = {True: 0, False: 0}

    def say(self, decision: str, **facts: object) -> None:
        """Write one decision, or count it."""
        if decision not in _ALWAYS:
            kind = decision in _REFUSALS
            self._fill()
            if self._budget[kind] < 1:
                self._suppressed[kind] += 1
                return
            self._budget[kind] -= 1
        self._write(decision, facts)

    def flush(self) -> None:
        """Say how many lines were not written since this was last said; called once a second."""
        refused, others = self._suppressed[True], self._suppressed[False]
        if refused or others:
            self._suppressed = {True: 0, False: 0}
            self._write("suppressed", {"refused": refused, "others": others})

    def _fill(self) -> None:
        now = self._clock()
        more, self._filled = (now - self._filled) * RATE, now
        for kind in self._budget:
            self._budget[kind] = min(float(BURST), self._budget[kind] + more)

    def _write(self, decision: str, facts: dict[str, object]) -> None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        told = {k: shown(v) if isinstance(v, str) else v for k, v in facts.items()}
        sys.stdout.write(json.dumps({"at": stamp, "decision": decision, **told}) + "\n")
        sys.stdout.flush()


def shown(text: str) -> str:
    """Text in printable ASCII, 300 characters at most."""
    printable = "".join(c if " " <= c <= "~" else f"\\x{ord(c):02x}" for c in text[:LONGEST])
    return printable[:LONGEST]
