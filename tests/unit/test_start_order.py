"""What the steward is told at the start of a run."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from plandock import paths
from plandock.claude.login import PLACEHOLDER, Login
from plandock.claude.redact import Secret
from plandock.runs.model import Run, RunId
from plandock.settings.keys import Settings
from plandock.supervisor.order import start_order

TOKEN = "sk-ant-oat01-made-up-made-up-made-up"


@pytest.fixture
def run() -> Run:
    """A run with a plan."""
    paths.run_dir("r222").mkdir(parents=True)
    (paths.run_dir("r222") / "plan.md").write_text("# Plan\n")
    return Run(
        id=RunId("r222"), repo="/r", cwd="/r", branch="feature/auto", box_session_id="b",
        fresh=True,
    )  # fmt: skip


def order_of(run: Run, settings: Settings, kind: Any = "file") -> dict[str, Any]:
    """The order for a login of this kind."""
    login = Login(kind, Secret(TOKEN), None, "max", ("user:inference",))
    return start_order(run, settings, login, ("Ada", "ada@example.invalid"), {})


@pytest.mark.parametrize("when", ["arguments", "again"])
def test_cli_is_told_its_limits_when_it_starts_and_when_it_continues(run: Run, when: str) -> None:
    """Both times the same turns and the same budget."""
    words = order_of(run, Settings(max_turns=7, max_budget_usd=2.5))[when]
    told = list(itertools.pairwise(words))
    assert ("--max-turns", "7") in told
    assert ("--max-budget-usd", "2.5") in told
    assert "--max-budget-usd" not in order_of(run, Settings())[when]


@pytest.mark.parametrize("when", ["arguments", "again"])
def test_cli_is_told_not_to_push_and_not_to_ask(run: Run, when: str) -> None:
    """A courtesy to the model: what holds is that there is nowhere to push to."""
    words = order_of(run, Settings())[when]
    denied = words[words.index("--disallowedTools") + 1 :]
    asking = {"AskUserQuestion", "EnterPlanMode", "ExitPlanMode"}
    later = {"CronCreate", "ScheduleWakeup", "RemoteTrigger", "EnterWorktree"}
    assert {"Bash(git push:*)"} | asking | later == set(denied)


def test_order_holds_the_placeholder_alone_when_the_run_is_sealed(run: Run) -> None:
    """The control: a box that is not sealed is given the token."""
    sealed = order_of(run, Settings(credentials="sealed"))
    assert TOKEN not in str(sealed)
    assert sealed["credentials"]["claudeAiOauth"]["accessToken"] == PLACEHOLDER
    assert TOKEN in str(order_of(run, Settings()))


def test_order_holds_an_api_key_only_when_the_login_is_one(run: Run) -> None:
    """Otherwise the name is blanked, so that no repository's settings can bring one."""
    assert order_of(run, Settings())["settings"]["env"]["ANTHROPIC_API_KEY"] == ""
    assert "api_key" not in order_of(run, Settings())
    paid = order_of(run, Settings(billing="api-key"), "api-key")
    assert paid["settings"]["env"]["ANTHROPIC_API_KEY"] == paid["api_key"] == TOKEN


@pytest.mark.parametrize("when", ["arguments", "again"])
def test_cli_is_told_the_model_and_the_effort_of_the_session(run: Run, when: str) -> None:
    """And the default by its name where nothing is known, so that no repository chooses."""
    run.model, run.effort = "claude-sonnet-5-5[1m]", "low"
    told = list(itertools.pairwise(order_of(run, Settings())[when]))
    assert ("--model", "claude-sonnet-5-5[1m]") in told
    assert ("--effort", "low") in told
    run.model = run.effort = ""
    words = order_of(run, Settings())[when]
    assert ("--model", "default") in list(itertools.pairwise(words))
    assert "--effort" not in words


def test_cli_is_told_the_users_variables_and_no_thinking(run: Run) -> None:
    """What bears on the model beside its name."""
    plain = order_of(run, Settings())["settings"]
    assert "alwaysThinkingEnabled" not in plain
    run.session_setup = {"variables": {"MAX_THINKING_TOKENS": "0"}, "thinking": False}
    fixed = order_of(run, Settings())["settings"]
    assert fixed["alwaysThinkingEnabled"] is False
    assert fixed["env"] == plain["env"] | {"MAX_THINKING_TOKENS": "0"}


def test_cli_is_told_how_the_session_was_set_to_write(run: Run) -> None:
    """Style, language and the commits' last lines; nothing else, and no style for a person."""
    told = {"outputStyle": "Mine", "language": "fr", "attribution": {"commit": "", "pr": ""}}
    run.session_setup = {"words": {**told, "includeCoAuthoredBy": "yes", "apiKeyHelper": "evil"}}
    fixed = order_of(run, Settings())["settings"]
    assert {name: fixed[name] for name in told} == told
    assert "includeCoAuthoredBy" not in fixed
    assert fixed["apiKeyHelper"] == ""
    run.session_setup = {"words": {"outputStyle": "Learning"}}
    assert "outputStyle" not in order_of(run, Settings())["settings"]
    run.session_setup = {"words": ["x"]}
    assert "outputStyle" not in order_of(run, Settings())["settings"]
