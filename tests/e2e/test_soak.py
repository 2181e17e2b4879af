"""A short soak: what `make soak` does with 200 runs, with four."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import machine

pytestmark = [pytest.mark.timeout(1800), pytest.mark.e2e]
COUNT = 4  # one in each way in which the soak hands off


def test_four_runs_leave_nothing_behind_and_what_is_planted_is_found(home: Path) -> None:
    """The soak's own exit code and report; its control is part of it.

    `home` gave this process an environment of its own; the soak makes itself another.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tools.soak", "--runs", str(COUNT), "--minutes", "25"],
        cwd=machine.CLONE,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=1700,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert (report["done"], report["failed"], report["branches"]) == (COUNT, 0, COUNT)
    assert not any(report["leaks"].values()), report["leaks"]
    assert report["control"] == {"planted": 10, "missed": []}
