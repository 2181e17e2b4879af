"""What becomes of a run whose supervisor is killed: any next command goes on with it."""

from __future__ import annotations

import os
import signal
import time

import pytest

from plandock.runs import alive
from plandock.standin import commit, write_file
from tests.crash.crashing import supervisor_of
from tests.support.laptop import PATIENCE_S
from tests.support.run_batch import CaseResult, cases, hold, looks_at
from tests.support.run_batch import batch as batch
from tests.support.run_batch import case as case

pytestmark = [pytest.mark.timeout(1800), pytest.mark.e2e, pytest.mark.engine]

WORK = (write_file("one.txt", "1\n"), commit("One"), hold(), write_file("two.txt", "2\n"))


def kill_the_supervisor(result: CaseResult) -> None:
    """Killed while the agent works, then `ps`."""
    laptop, seen = result.laptop, result.seen
    result.hand_off("")
    result.until_held()
    run = result.until("running")
    seen["first"] = supervisor_of(run)
    os.kill(seen["first"], signal.SIGKILL)
    end = time.monotonic() + PATIENCE_S
    while alive.is_same(run.supervisor_pid, run.supervisor_started):
        assert time.monotonic() < end
        time.sleep(0.02)
    seen["would"] = laptop.json("recover", "--dry-run")
    seen["only said"] = result.until("running").supervisor_pid
    laptop.plandock("ps")
    result.let_go()
    seen["end"] = result.until_over()
    seen["to recover"] = laptop.json("recover")


CASES = cases("killed", kill_the_supervisor, WORK)


@looks_at(CASES, "killed")
def test_any_next_command_goes_on_with_a_run_whose_supervisor_was_killed(
    case: CaseResult,
) -> None:
    """The run ends done, on one branch, whole."""
    # The engine is shared with others: theirs are runs without a record here.
    would = [found for found in case.seen["would"] if found["state"] != "unknown"]
    assert [(found["run"], found["action"]) for found in would] == [(case.run_id, "start one")]
    assert case.seen["only said"] == case.seen["first"]  # only said, not done
    assert case.run["state"] == "done"
    assert case.shown("one.txt") == "1"
    assert case.shown("two.txt") == "2"
    git = case.laptop.repo.git
    branches = git("for-each-ref", "--format=%(refname:short)", "refs/heads").split()
    assert sorted(branches) == ["feature/auto", "main"]
    assert not [found for found in case.seen["to recover"] if found["run"] == case.run_id]
