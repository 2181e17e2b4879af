"""Runs that were stopped and go on: in the same conversation, on the same branch."""

from __future__ import annotations

from dataclasses import replace

import pytest

from plandock.standin import commit, execution_scene, write_file
from tests.support.pairs import NEWEST
from tests.support.run_batch import CaseResult, cases, hold, looks_at
from tests.support.run_batch import batch as batch
from tests.support.run_batch import case as case

pytestmark = [pytest.mark.timeout(1800), pytest.mark.e2e, pytest.mark.engine]

ONE = (write_file("one.txt", "1\n"), commit("One"))
TWO = (write_file("two.txt", "2\n"), commit("Two"))
SAID = "Leave it at that"


def reach_the_turn_limit_and_resume(result: CaseResult) -> None:
    """At most three turns; resumed once, where four more answers are enough."""
    laptop, seen = result.laptop, result.seen
    result.run_through("")
    seen["code"] = laptop.plandock("wait", result.run_id, check=False).returncode
    seen["first"], seen["left"] = result.run, result.in_engine()
    seen["one"] = result.shown("one.txt")
    laptop.plandock("resume", result.run_id)
    seen["second"] = result.until("done")
    seen["again"] = laptop.plandock("resume", result.run_id, check=False).returncode


def stop_in_a_command_and_resume(result: CaseResult) -> None:
    """Stopped while a command goes on; resumed with a word of the user's."""
    laptop, seen = result.laptop, result.seen
    result.hand_off()
    result.until_held()
    laptop.plandock("stop", result.run_id)
    seen["first"], seen["left"] = result.run, result.in_engine()
    seen["code"] = laptop.plandock("wait", result.run_id, check=False).returncode
    seen["files"] = [result.shown(name) for name in ("one.txt", "loose.txt")]
    script = laptop.standin.script
    heard = execution_scene((), name="heard", match=SAID)
    laptop.standin.script = replace(script, scenes=(heard, *script.scenes))
    laptop.plandock("resume", result.run_id, "--say", SAID)
    result.until("done")


def stop_at_once(result: CaseResult) -> None:
    """The box is killed in the middle of a command."""
    result.hand_off()
    result.until_held()
    result.laptop.plandock("stop", result.run_id, "--now")
    result.seen["left"] = result.in_engine()


def stop_in_the_queue(result: CaseResult) -> None:
    """Behind a run that goes, where there is one place."""
    laptop, seen = result.make_laptop(env={"PLANDOCK_MAX_PARALLEL": "1"}), result.seen
    first = result.hand_off()
    result.until("running")
    second = laptop.hand_off("# Another\n")
    seen["listed"] = laptop.runs()[0]
    seen["ps"] = laptop.plandock("ps").stdout
    laptop.plandock("stop", second)
    with laptop.store() as store:
        seen["stopped"] = store.get(second)
    seen["ids"] = (first, second)
    laptop.plandock("stop", first, "--now")


CASES = [
    *cases(
        "turn-limit",
        reach_the_turn_limit_and_resume,
        (*ONE, *TWO),
        env={"PLANDOCK_MAX_TURNS": "3"},
    ),
    *cases(
        "stopped",
        stop_in_a_command_and_resume,
        (*ONE, write_file("loose.txt", "loose\n"), hold()),
        among=NEWEST,
        laptop="shared",
    ),
    *cases(
        "forced",
        stop_at_once,
        (write_file("one.txt", "1\n"), hold()),
        among=NEWEST,
        laptop="shared",
    ),
    *cases("queued", stop_in_the_queue, (hold(),), among=NEWEST),
]


@looks_at(CASES, "turn-limit")
def test_the_turn_limit_ends_a_run_as_stopped(case: CaseResult) -> None:
    """`max_turns` is handed to the CLI, and what was done till then is on the branch."""
    first = case.seen["first"]
    assert case.seen["code"] == 10
    assert (first["state"], first["reason"]) == ("stopped", "max_turns")
    assert first["commits"] >= 1
    assert case.seen["one"] == "1"
    assert case.seen["left"] == []


@looks_at(CASES, "turn-limit")
def test_a_run_at_its_turn_limit_is_resumed_to_its_end_on_the_same_branch(
    case: CaseResult,
) -> None:
    """`stopped (max_turns)`, then `resume`: the same conversation, the same branch, done."""
    first, second = case.seen["first"], case.run
    assert (second["state"], second["branch"]) == ("done", "feature/auto")
    assert second["box_session_id"] == first["box_session_id"]
    assert second["commits"] >= first["commits"]
    assert case.shown("two.txt") == "2"
    git = case.laptop.repo.git
    git("merge-base", "--is-ancestor", first["head"], "feature/auto")
    branches = git("for-each-ref", "--format=%(refname:short)", "refs/heads").split()
    assert sorted(branches) == ["feature/auto", "main"]
    assert case.seen["again"] == 1


@looks_at(CASES, "stopped")
def test_stop_harvests_what_was_done(case: CaseResult) -> None:
    """A run that is stopped in the middle of a command ends as stopped, with exit code 10 and
    nothing left; commits and edits are on the branch."""
    assert (case.seen["first"]["state"], case.seen["first"]["reason"]) == ("stopped", "stopped")
    assert case.seen["files"] == ["1", "loose"]
    assert case.seen["code"] == 10
    assert case.seen["left"] == []


@looks_at(CASES, "stopped")
def test_a_stop_keeps_commits_and_edits_and_what_is_said_at_the_resume_is_heard(
    case: CaseResult,
) -> None:
    """Resumed with a word of the user's, the agent gets it, and has the branch as it was."""
    assert [r.scene for r in case.laptop.standin.requests].count("heard") == 1
    assert (case.run["state"], case.run["branch"]) == ("done", case.case.id)
    assert [case.shown(name) for name in ("one.txt", "loose.txt")] == ["1", "loose"]


@looks_at(CASES, "forced")
def test_a_second_stop_forces_and_the_work_arrives_all_the_same(case: CaseResult) -> None:
    """The box is killed at once, and harvested."""
    run = case.run
    assert (run["state"], run["reason"]) == ("stopped", "stopped")
    assert case.shown("one.txt") == "1"
    assert case.seen["left"] == []


@looks_at(CASES, "queued")
def test_a_queued_run_says_its_place_and_can_be_stopped(case: CaseResult) -> None:
    """Behind a run that goes, the second is `queued`, first in line, and stops without a box."""
    first, second = case.seen["ids"]
    listed = case.seen["listed"]
    assert (listed["id"], listed["state"], listed["queue_position"]) == (second, "queued", 1)
    assert "queued, 1st" in case.seen["ps"]
    assert (case.seen["stopped"].state, case.seen["stopped"].attempt) == ("stopped", 0)
    assert case.run["id"] == first
