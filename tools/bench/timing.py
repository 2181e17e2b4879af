"""Timing processes side by side: pairs in turn, so that a busy machine slows both sides."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class BenchError(Exception):
    """Something did not do what is to be timed, so that its time would mean nothing."""


@dataclass(frozen=True)
class Timed:
    """One process: when it was started (`time.perf_counter`), how long it took (s), its answer."""

    began: float
    seconds: float
    code: int
    out: bytes


def timed(argv: Sequence[str | Path], *, stdin: bytes, env: Mapping[str, str], cwd: Path) -> Timed:
    """Run a process until it has exited and its standard output is at end of file.

    Claude Code waits for both.  The payload comes from a file, so that writing it is not timed.
    """
    with tempfile.TemporaryFile() as given:
        given.write(stdin)
        given.seek(0)
        began = time.perf_counter()
        with subprocess.Popen(
            [str(x) for x in argv],
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=dict(env),
            cwd=cwd,
        ) as child:
            assert child.stdout is not None, "standard output was asked for"
            out = child.stdout.read()
            code = child.wait()
            seconds = time.perf_counter() - began
    return Timed(began, seconds, code, out)


@dataclass(frozen=True)
class Pairs:
    """Seconds of ours and of the baseline, pair by pair as they were measured."""

    ours: tuple[float, ...]
    baseline: tuple[float, ...]

    @property
    def ratios(self) -> list[float]:
        """Ours by baseline, of each pair."""
        return [a / b for a, b in zip(self.ours, self.baseline, strict=True)]

    @property
    def ratio(self) -> float:
        """The median of the pairs' ratios."""
        return round(statistics.median(self.ratios), 2)

    def details(self, ours: str, baseline: str) -> dict[str, Any]:
        """The figures behind the ratio, as they go into the report; times in milliseconds."""
        return {
            "ours": ours,
            "baseline": baseline,
            "pairs": len(self.ours),
            "ratio_lowest": round(min(self.ratios), 2),
            "ratio_highest": round(max(self.ratios), 2),
            "ours_median_ms": round(statistics.median(self.ours) * 1000, 2),
            "baseline_median_ms": round(statistics.median(self.baseline) * 1000, 2),
        }


def measure_pairs(
    name: str,
    count: int,
    ours: Callable[[], float],
    baseline: Callable[[], float],
    *,
    cold: bool = False,
) -> Pairs:
    """Measure both sides `count` times, one after the other, each going first every other time.

    One pair before them is thrown away, as it fills the caches, unless they are to be `cold`.
    """
    say(f"{name}: {count} pairs")
    if not cold:
        ours()
        baseline()
    found: list[tuple[float, float]] = []
    for number in range(count):
        if number % 2:
            mine = ours()
            other = baseline()
        else:
            other = baseline()
            mine = ours()
        found.append((mine, other))
        if count <= 20:
            say(f"  {mine * 1000:.0f} ms against {other * 1000:.0f} ms")
    pairs = Pairs(tuple(a for a, _ in found), tuple(b for _, b in found))
    say(f"  ratio {pairs.ratio}")
    return pairs


def say(words: str) -> None:
    """Progress, on standard error: standard output is the report's alone."""
    print(f"bench: {words}", file=sys.stderr, flush=True)
