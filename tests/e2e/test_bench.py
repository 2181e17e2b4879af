"""`make bench` measures what it says, with the real programs; its figures are no test."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.support.machine import CLONE

pytestmark = [pytest.mark.timeout(1800), pytest.mark.e2e]

RATIOS = (
    "hook_ordinary_call",
    "hook_ordinary_call_other_latch",
    "posttool_to_prompt",
    "acceptance_to_first_request",
)


@pytest.mark.parametrize("engine", ["docker"], indirect=True)
def test_the_benchmark_ends_with_a_ratio_for_each_of_its_promises(engine: str) -> None:
    """One round of each: whole acceptances and runs, of which only the time is left out here."""
    argv = [sys.executable, "-m", "tools.bench", "--rounds", "1", "--cold"]
    done = subprocess.run(argv, cwd=CLONE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {name for name in RATIOS if report[name] > 0} == set(RATIOS)
    assert report["details"]["supervisor_peak_memory_mib"]["runs"] == 1
    assert 5 < report["supervisor_peak_memory_mib"] < 500
