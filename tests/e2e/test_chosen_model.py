"""A plan is carried out with the model and the effort that its session was set to, in real runs.

Each session is the real CLI in a terminal; the scripted model notes which model it was asked for.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from plandock.runs.model import State
from tests.e2e.conftest import scenes
from tests.support import claude_screen
from tests.support.pairs import NEWEST, PAIRS
from tests.support.run_batch import CaseResult, cases, looks_at
from tests.support.run_batch import batch as batch
from tests.support.run_batch import case as case

pytestmark = [pytest.mark.timeout(1800), pytest.mark.e2e, pytest.mark.engine, pytest.mark.tmux]

# Without auto mode, which haiku has not, the words are shorter.
AUTOMATIC = r"^Yes, (and use auto mode|(and )?auto-accept)"
LONG = "claude-sonnet-4-5-20250929[1m]"


def accept(
    *words: str, settings: dict[str, Any] | None = None, command: str = "", option: str = ""
) -> Callable[[CaseResult], None]:
    """A session that was started with these words and settings, and in which a command is typed
    before the plan is made and accepted."""

    def act(result: CaseResult) -> None:
        laptop = result.laptop
        laptop.standin.script = scenes()
        (laptop.config / "settings.json").write_text(json.dumps(settings or {}))
        laptop.plandock("init", "--scope", "user", "--no-image")
        with result.terminal() as terminal:
            argv = [str(laptop.cli), "--permission-mode", "plan", *words]
            terminal.start(argv, cwd=laptop.repo.root, env=laptop.env)
            terminal.wait_for(r"plan mode|for shortcuts", claude_screen.PATIENCE_S)
            if command:
                claude_screen.ask(terminal, command)
                terminal.wait_for("Set model to", claude_screen.PATIENCE_S)
            claude_screen.ask(terminal, "Plan it please")
            claude_screen.wait_for_plan(terminal)
            result.seen["planned"] = len(laptop.standin.requests)
            claude_screen.choose(terminal, option or AUTOMATIC)
            claude_screen.wait_until(terminal, laptop.recorded)
            result.run_id = laptop.recorded()[0].id
            # Until the conversation is frozen: a CLI that is ended sooner does not write its end.
            result.until("running", *FINAL)
        result.until_over()

    return act


CLEAR = {"model": "haiku", "showClearContextOnPlanAccept": True}
CASES = [
    *cases("opusplan", accept("--effort", "low", settings={"model": "opusplan"})),
    *cases("long", accept("--model", LONG), among=PAIRS[-1:]),
    *cases("command", accept(settings={"model": "opus"}, command="/model haiku"), among=NEWEST),
    *cases("cleared", accept(settings=CLEAR, option="clear context"), among=PAIRS[-1:]),
]
FINAL = [state.value for state in State if state.final]
# What the request of the box names; the planning's is another one.
FAMILIES = {
    "opusplan": ("opus", "sonnet"),
    "command": ("sonnet", "haiku"),
    "cleared": ("sonnet", "haiku"),
}


def asked(case: CaseResult) -> tuple[list[Any], list[Any]]:
    """What the model was asked while planning, and what for the box's conversation."""
    requests = [r for r in case.laptop.standin.requests if r.has_tools]
    box = [r for r in requests if r.session_id == case.run["box_session_id"]]
    return [r for r in requests if r.scene == "plan"], box


@looks_at(CASES, *FAMILIES)
def test_box_asks_for_the_model_that_was_to_carry_the_plan_out(case: CaseResult) -> None:
    """Not for the one that planned; the receipt names what was asked for."""
    plans, carries_out = FAMILIES[case.case.name]
    planning, box = asked(case)
    assert {plans in r.model for r in planning} == {True}
    assert box
    assert {carries_out in r.model for r in box} == {True}
    receipt = case.laptop.json("receipt", "last")
    assert receipt["models_asked"] == sorted({r.model for r in box})
    assert carries_out in receipt["model"] or receipt["model"] == case.case.name
    assert f"answered by {box[0].model}" in case.laptop.plandock("receipt", "last").stdout
    assert not [n for n in receipt["notes"] if "answered by" in n]


@looks_at(CASES, *sorted({case.name for case in CASES}))
def test_box_goes_on_with_the_conversation(case: CaseResult) -> None:
    """Where it is not cleared; so the model is that of a conversation, not of a plan alone."""
    assert case.run["fresh"] is (case.case.name == "cleared"), case.run["notes"]


@looks_at(CASES, "opusplan")
def test_box_works_with_the_effort_of_the_session(case: CaseResult) -> None:
    """The same that the planning was asked for with."""
    assert (case.run["effort"], case.run["state"]) == ("low", "done")
    assert "effort low" in case.laptop.plandock("receipt", "last").stdout


@looks_at(CASES, "long")
def test_box_keeps_the_long_context(case: CaseResult) -> None:
    """The model's id and the header that asks for it, as while planning."""
    planning, box = asked(case)
    assert {(r.model, "context-1m" in r.betas) for r in [*planning, *box]} == {
        (LONG.removesuffix("[1m]"), True)
    }
    assert (case.run["model"], case.run["model_origin"]) == (LONG, "the start of the session")
