"""Run the suite several times with the cores kept busy, and list what was not the same each time.

`python -m tools.steady --rounds 10 [what pytest gets]`: no test is ever run again to make it pass;
a test that fails in one round and passes in another is a bug, of the test or of the product.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.check import pytest_argv, test_environment
from tools.setup.folder import CLONE, setup_dir

BUSY = "while :; do :; done"
"""What a core is kept busy with, as in the developers' handbook."""


@dataclass(frozen=True)
class Round:
    """What became of each test in one round, and how long all took (seconds)."""

    outcomes: dict[str, str]
    seconds: float
    exit_code: int


@contextlib.contextmanager
def busy_cores(count: int) -> Iterator[None]:
    """Keep so many cores busy until the block ends."""
    loops = [subprocess.Popen(["sh", "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def read_outcomes(report: Path) -> dict[str, str]:
    """The outcome of each test in a JUnit report: passed, failed, error or skipped."""
    found = {}
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 - pytest's own report
        kinds = {child.tag for child in case} & {"failure", "error", "skipped"}
        found[f"{case.get('classname')}::{case.get('name')}"] = "+".join(sorted(kinds)) or "passed"
    return found


def differences(rounds: Sequence[Round]) -> list[str]:
    """One line for each test that was not the same in all rounds, or did not pass in any."""
    seen: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for one in rounds:
        for test, outcome in one.outcomes.items():
            seen[test][outcome] += 1
    lines = []
    for test, counts in sorted(seen.items()):
        if missing := len(rounds) - counts.total():
            counts["not run"] = missing
        if len(counts) > 1 or "passed" not in counts:
            told = ", ".join(f"{count}x {outcome}" for outcome, count in sorted(counts.items()))
            lines.append(f"{test}: {told}")
    return lines


def run_round(number: int, arguments: Sequence[str], folder: Path) -> Round:
    """Run the suite once; its log and report stay in the folder."""
    report, log = folder / f"round-{number}.xml", folder / f"round-{number}.log"
    report.unlink(missing_ok=True)
    began = time.monotonic()
    with log.open("w") as output:
        code = subprocess.run(
            [*pytest_argv(), f"--junitxml={report}", *arguments],
            cwd=CLONE,
            env=test_environment(),
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
    outcomes = read_outcomes(report) if report.exists() else {}
    return Round(outcomes, time.monotonic() - began, code)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the rounds; 0 where every test passed in each of them."""
    parser = argparse.ArgumentParser(prog="python -m tools.steady", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--busy", type=int, default=os.cpu_count() or 2, help="cores kept busy")
    given, arguments = parser.parse_known_args(argv)
    folder = setup_dir() / "steady"
    folder.mkdir(exist_ok=True)
    rounds: list[Round] = []
    with busy_cores(given.busy):
        for number in range(1, given.rounds + 1):
            rounds.append(one := run_round(number, arguments, folder))
            counts = Counter(one.outcomes.values())
            told = ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())
            print(f"round {number}: {told or 'no test'} in {one.seconds:.0f} s", flush=True)
            for line in differences(rounds):
                print(f"  {line}", flush=True)
    unlike = differences(rounds)
    verdict = f"{len(unlike)} tests were not the same" if unlike else "no difference"
    print(f"steady: {len(rounds)} rounds, {given.busy} cores kept busy: {verdict}")
    print(f"steady: logs and reports: {folder}")
    return 1 if unlike or any(one.exit_code for one in rounds) else 0


if __name__ == "__main__":
    sys.exit(main())
