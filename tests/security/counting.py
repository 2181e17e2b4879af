"""How many attacks there are: ``python -m tests.security.counting`` says so in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CLONE = Path(__file__).resolve().parents[2]
# The attacks by box and branch, and those upon the harvest, which need no box.
PLACES = ("tests/security", "tests/git/test_quarantine.py", "tests/git/test_bundle.py")
REPEATED = ("docker", "podman", "2.1.197", "newest", "sealed", "host", "merge", "apply")
CONTROLS = ("control", "attack_is_real", "without_the_gateway", "an_allowed_name")


def distinct_payloads(listing: str) -> set[str]:
    """The parametrised cases of a listing, without positive controls, and without what only
    repeats them by engine, CLI, login or way of taking."""
    found = set()
    for line in listing.splitlines():
        place, bracket, inner = line.strip().partition("[")
        left = f"-{inner.removesuffix(']')}-"
        for word in REPEATED:
            left = left.replace(f"-{word}-", "-")
        if any(word in place for word in CONTROLS):
            continue
        if "::" in place and bracket and left.strip("-"):
            found.add(f"{place.partition('::')[0]}[{left.strip('-')}]")
    return found


def listing() -> str:
    """Every test case of :data:`PLACES`, collected as pytest would run them."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *PLACES],
        capture_output=True,
        text=True,
        cwd=CLONE,
        # The number says what there is, not what this machine can take.
        env={k: v for k, v in os.environ.items() if k != "PLANDOCK_TEST_ENGINES"},
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    return done.stdout


def cases(text: str) -> int:
    """How many test cases a listing has."""
    return sum("::" in line for line in text.splitlines())


if __name__ == "__main__":
    said = listing()
    print(f"{len(distinct_payloads(said))} distinct attacks, {cases(said)} test cases")
