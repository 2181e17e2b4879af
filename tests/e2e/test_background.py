"""What the agent leaves at work in the background: the run is over when that is over, too.

Each waits longer than the steward waits for a CLI that has nothing to do and does not end.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from plandock.standin import Scene, ToolCall, Turn, bash, commit, write_file
from plandock.supervisor.harvesting import NOTHING_DONE
from tests.support.run_batch import CaseResult, cases, looks_at
from tests.support.run_batch import batch as batch
from tests.support.run_batch import case as case

pytestmark = [pytest.mark.timeout(1800), pytest.mark.e2e, pytest.mark.engine]

LONG_S = 24
"""More than `steward.END_S`."""
LOOK = "look into it at leisure"


def behind(command: str) -> ToolCall:
    """A command that the agent lets run in the background."""
    words = {"command": command, "description": f"Run {command}", "run_in_background": True}
    return ToolCall("Bash", words)


def with_a_subagent(result: CaseResult) -> None:
    """The subagent's own conversation is a scene of its own."""
    turns = (
        Turn("", (bash(f"sleep {LONG_S}", timeout_s=600.0),)),
        Turn("", (bash("echo looked >agent.txt"),)),
        Turn("I have looked."),
    )
    script = result.laptop.standin.script
    scenes = (Scene("subagent", turns, f"^{LOOK}"), *script.scenes)
    result.laptop.standin.script = replace(script, scenes=scenes)
    result.run_through()


AGENT = ToolCall(
    "Agent",
    {
        "description": "Look into it",
        "prompt": LOOK,
        "subagent_type": "general-purpose",
        "run_in_background": True,
    },
)
CASES = [
    *cases(
        "shell",
        CaseResult.run_through,
        (behind(f"sleep {LONG_S}; echo one >one.txt"), "I wait for it.", commit("Keep it")),
        laptop="shared",
    ),
    *cases(
        "several",
        CaseResult.run_through,
        (
            behind("sleep 3; echo one >one.txt"),
            behind(f"sleep {LONG_S}; echo two >two.txt"),
            "I wait for both.",
            "One of them is over.",
            commit("Keep both"),
        ),
        laptop="shared",
    ),
    *cases("subagent", with_a_subagent, (AGENT, "I wait for it.", commit("Keep it"))),
    *cases(
        "endless",
        CaseResult.run_through,
        (write_file("one.txt", "one\n"), commit("One"), behind("sleep 100000")),
        env={"PLANDOCK_BACKGROUND": "5s"},
        laptop="shared",
    ),
    *cases(
        "later",
        CaseResult.run_through,
        (
            ToolCall("CronCreate", {"cron": "* * * * *", "prompt": "go on", "recurring": False}),
            ToolCall("ScheduleWakeup", {"delaySeconds": 60, "reason": "rest", "prompt": "go on"}),
            ToolCall("EnterWorktree", {}),
            write_file("one.txt", "one\n"),
            commit("One"),
        ),
        laptop="shared",
    ),
    *cases("nothing", CaseResult.run_through, laptop="shared"),
]


@looks_at(CASES, "shell", "several", "subagent")
def test_what_works_in_the_background_is_waited_for(case: CaseResult) -> None:
    """A shell, two of them, a subagent: what they made, and what the agent did then, came home."""
    run = case.run
    assert (run["state"], run["commits"], run["message"]) == ("done", 1, "")
    made = {"shell": ["one.txt"], "several": ["one.txt", "two.txt"], "subagent": ["agent.txt"]}
    for name in made[case.case.name]:
        assert case.shown(name)
    assert [n for n in run["notes"] if "background" in n] == []


@looks_at(CASES, "endless")
def test_what_never_ends_in_the_background_is_named(case: CaseResult) -> None:
    """The run ends when it has waited long enough, and says what was still at work."""
    run = case.run
    assert (run["state"], run["commits"]) == ("done", 1)
    assert case.shown("one.txt") == "one"
    (note,) = (n for n in run["notes"] if "background" in n)
    assert "Run sleep 100000" in note


@looks_at(CASES, "later")
def test_tools_that_lead_away_from_the_run_are_refused_at_once(case: CaseResult) -> None:
    """The agent hears that it has no such tool, while it can still do the work another way."""
    run = case.run
    assert (run["state"], run["commits"], run["message"]) == ("done", 1, "")
    state = case.laptop.home / ".local/state/plandock"
    told = (state / "runs" / case.run_id / "events.jsonl").read_text()
    for tool in ("CronCreate", "ScheduleWakeup", "EnterWorktree"):
        assert f"No such tool available: {tool}" in told


@looks_at(CASES, "nothing")
def test_a_run_that_carried_nothing_out_says_so(case: CaseResult) -> None:
    """`done`, with a warning wherever it is looked at."""
    run = case.run
    assert (run["state"], run["commits"], run["message"]) == ("done", 0, NOTHING_DONE)
    for words in (["receipt", case.run_id], ["wait", case.run_id]):
        done = case.laptop.plandock(*words)
        assert NOTHING_DONE in done.stdout + done.stderr
    (line,) = (x for x in case.laptop.plandock("ps").stdout.splitlines() if case.run_id in x)
    assert "none" in line
