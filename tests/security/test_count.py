"""How many attacks there are: no refactoring may lose them without a word."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

LEAST = 120


REPEATED = ("docker", "podman", "2.1.197", "newest")


def distinct_payloads(listing: str) -> set[str]:
    """The parametrised cases of a listing, without what only repeats them by engine or CLI."""
    found = set()
    for line in listing.splitlines():
        place, bracket, inner = line.strip().partition("[")
        left = f"-{inner.removesuffix(']')}-"
        for word in REPEATED:
            left = left.replace(f"-{word}-", "-")
        if "::" in place and bracket and left.strip("-"):
            found.add(f"{place.partition('::')[0]}[{left.strip('-')}]")
    return found


def test_there_are_at_least_120_distinct_attacks() -> None:
    """Collected as pytest would run them; an attack upon two engines counts once, and so does
    one that several tests of a file look at."""
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", here],
        capture_output=True,
        text=True,
        cwd=here.parents[1],
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    found = distinct_payloads(done.stdout)
    assert len(found) >= LEAST, f"{len(found)}: {sorted(found)}"


def test_repetitions_do_not_count() -> None:
    """The count can fail: engines, CLI versions and unparametrised tests add nothing."""
    listing = (
        "tests/security/test_a.py::test_x[docker-one]\n"
        "tests/security/test_a.py::test_x[podman-one]\n"
        "tests/security/test_a.py::test_y[newest-docker-one]\n"
        "tests/security/test_a.py::test_z[docker]\n"
        "tests/security/test_a.py::test_plain\n"
        "2 tests collected in 0.1s\n"
    )
    assert distinct_payloads(listing) == {"tests/security/test_a.py[one]"}
