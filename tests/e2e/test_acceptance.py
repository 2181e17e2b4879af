"""The acceptance table of shared facts, section 1, with both real CLIs in a real terminal.

What costs a conversation each is looked at in one: a fixture has the conversation and keeps what
was there to be seen, and each claim is a test of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from plandock.runs.model import Run
from plandock.standin import (
    LOCAL_EXECUTION_FILE,
    Scene,
    Script,
    StandIn,
    Turn,
    local_execution_scene,
    planning_scene,
    read_file,
    write_file,
)
from tests.e2e.conftest import PLAN, scenes
from tests.support import claude_screen, machine
from tests.support.laptop import REFRESH, Laptop
from tests.support.tmux import Tmux

pytestmark = [
    pytest.mark.timeout(1200),
    pytest.mark.e2e,
    pytest.mark.tmux,
    pytest.mark.split_by("cli"),
]

HANDED_OFF = r"handed off as r\w+ → branch feature/auto"
SIBLING = "SIBLING.txt"


@pytest.fixture(scope="module", params=tuple(machine.CLI_VERSIONS))
def cli(request: pytest.FixtureRequest) -> Path:
    """The real CLI for a conversation that several tests look at; its absence is a failure."""
    return machine.claude_cli(request.param)


@dataclass
class Conversation:
    """One user's conversation with a real CLI, and what was seen in it."""

    laptop: Laptop
    terminal: Tmux
    seen: dict[str, Any] = field(default_factory=dict)


def _conversation(cli: Path, root: Path, *planning: Scene) -> Iterator[Conversation]:
    with StandIn(scenes(*planning), keep_bodies=True) as standin:
        laptop = Laptop(root / "laptop", cli=cli, engine="docker", standin=standin)
        terminal = Tmux()
        try:
            yield Conversation(laptop, terminal)
        finally:
            terminal.close()
            laptop.clean_up()
        assert standin.errors == []


@pytest.fixture(scope="module")
def accepted(cli: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Conversation]:
    """A plan accepted for auto mode with a Write beside it, its run's end, one more prompt."""
    sibling = write_file(SIBLING, "ran on the host\n")
    planning = planning_scene(PLAN, match="^Plan it please", siblings=[sibling])
    later = Scene("later", (Turn("", (read_file("README.md"),)), Turn("Done.")), "^what is going")
    for talk in _conversation(cli, tmp_path_factory.mktemp("accepted"), planning, later):
        laptop, seen = talk.laptop, talk.seen
        laptop.plandock("init", "--scope", "user")
        laptop.repo.write({"dirty.txt": "my own uncommitted work\n"})
        seen["before"] = _outside(laptop)
        laptop.plan(talk.terminal)
        session = laptop.standin.model_requests[0].session_id
        seen["session"], seen["asked"] = session, len(laptop.host_requests(session))
        claude_screen.choose(talk.terminal, "auto mode|auto-accept")
        talk.terminal.wait_for(HANDED_OFF, claude_screen.PATIENCE_S)
        seen["code"] = laptop.plandock("wait", "last", "--timeout", "570", check=False).returncode
        seen["after"], seen["leftovers"] = _outside(laptop), laptop.leftovers()
        seen["asked after"] = len(laptop.host_requests(session))
        # The model's answer is a tool call: what became of it is in the second request.
        claude_screen.ask(talk.terminal, "what is going on?")
        laptop.standin.wait_for(2, scene="later", timeout_s=claude_screen.PATIENCE_S)
        seen["bodies"] = [r.body for r in laptop.host_requests(session)[seen["asked"] :]]
        yield talk


def _outside(laptop: Laptop) -> dict[str, Any]:
    """What must be after a hand-off as it was before."""
    status = laptop.repo.git("status", "-s")
    return {"files": laptop.fingerprint(), "refs": laptop.refs(), "status": status}


def test_accepting_hands_off_and_the_laptop_stays_untouched(accepted: Conversation) -> None:
    """The turn ends, no request and no tool call follows, and a branch comes back."""
    laptop, seen = accepted.laptop, accepted.seen
    assert seen["code"] == 0
    run = laptop.json("show", "last")
    assert run["session_id"] == seen["session"]
    assert run["fresh"] is False  # the same conversation goes on in the box, under its own id
    assert run["box_session_id"] not in (None, seen["session"])
    assert seen["asked after"] == seen["asked"]
    assert not (laptop.repo.root / LOCAL_EXECUTION_FILE).exists()
    before, after = seen["before"], seen["after"]
    assert after["files"] == before["files"]
    assert after["status"] == before["status"]
    assert set(after["refs"]) - set(before["refs"]) == {"refs/heads/feature/auto"}
    assert {k: v for k, v in after["refs"].items() if k in before["refs"]} == before["refs"]
    log = laptop.repo.git("log", "--format=%s", "main..feature/auto").splitlines()
    assert "Add a farewell" in log
    assert "Goodbye" in laptop.repo.git("show", "feature/auto:src/farewell.py")
    assert "did not commit" in laptop.repo.git("show", "feature/auto:NOTES.md")
    assert "my own" in laptop.repo.git("show", "feature/auto:dirty.txt")
    assert run["commits"] == 2
    assert run["billing"]["source"] == "subscription"
    assert {r.auth for r in laptop.standin.model_requests} == {"bearer"}
    assert seen["leftovers"] == []


def test_the_boxs_conversation_comes_home_beside_the_hosts(accepted: Conversation) -> None:
    """It lies in the host's project folder under an id of its own, without the refresh token."""
    run = accepted.laptop.json("show", "last")
    (file,) = accepted.laptop.config.glob(f"projects/*/{run['box_session_id']}.jsonl")
    assert "Add a farewell" in file.read_text()
    assert REFRESH not in file.read_text()


def test_the_next_prompt_carries_what_became_of_the_plan(accepted: Conversation) -> None:
    """The local model is told once that the plan is carried out elsewhere, and tools work again."""
    run = accepted.laptop.json("show", "last")["id"]
    first, second = (json.dumps(body) for body in accepted.seen["bodies"][:2])
    assert f"handed off as run {run}" in first
    assert second.count(f"handed off as run {run}") == first.count(f"handed off as run {run}")
    read = accepted.seen["bodies"][1]["messages"][-1]["content"]
    (result,) = (x for x in read if x["type"] == "tool_result")
    assert not result.get("is_error")
    assert "README" in json.dumps(accepted.seen["bodies"][1]["messages"][-2]["content"])


def test_a_call_beside_the_acceptance_does_not_run(accepted: Conversation) -> None:
    """A Write in the same message as ExitPlanMode is refused: the latch stands before it."""
    said = json.dumps(accepted.seen["bodies"][0])
    assert SIBLING in said  # the model did ask for it
    assert "No tool may run here" in said
    assert not (accepted.laptop.repo.root / SIBLING).exists()
    assert len(accepted.laptop.recorded()) == 1


@pytest.fixture(scope="module")
def unaccepted(cli: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Conversation]:
    """Three plans in one conversation: left by Esc, sent back with words, approved by hand.

    Each is followed by something that the CLI does later than a hand-off would have been made.
    """
    planning = (
        planning_scene(PLAN, name="esc", match="^Plan it please", extra_reads=20),
        planning_scene(PLAN, name="sent back", match="^Plan it otherwise"),
        planning_scene(PLAN, name="by hand", match="^Plan it once more"),
    )
    for talk in _conversation(cli, tmp_path_factory.mktemp("unaccepted"), *planning):
        laptop, terminal, seen = talk.laptop, talk.terminal, talk.seen
        laptop.plandock("init", "--scope", "user")
        laptop.plan(terminal)
        seen["proposed"] = _proposals(laptop)
        claude_screen.dismiss(terminal)
        claude_screen.ask(terminal, "Plan it otherwise")
        claude_screen.wait_for_plan(terminal)
        seen["esc"] = laptop.recorded()
        steps = len(laptop.standin.model_requests)
        claude_screen.choose(terminal, "Tell Claude", feedback="shorter")
        laptop.standin.wait_for(steps + 1, timeout_s=claude_screen.PATIENCE_S)
        claude_screen.ask(terminal, "Plan it once more")
        claude_screen.wait_for_plan(terminal)
        seen["manual-or-third"] = laptop.recorded()
        claude_screen.choose(terminal, "manually")
        terminal.wait_for(rf"create {LOCAL_EXECUTION_FILE}", claude_screen.PATIENCE_S)
        seen["manual"] = laptop.recorded()
        yield talk


def _proposals(laptop: Laptop) -> list[str]:
    """The sessions with a plan before their user, as the hook notes them."""
    return [x.name for x in (laptop.home / ".local/state/plandock/proposed").iterdir()]


@pytest.mark.parametrize("answer", ["manual-or-third", "esc"])
def test_no_run_without_an_automatic_acceptance(unaccepted: Conversation, answer: str) -> None:
    """Rejection and Esc after a planning conversation of twenty tool calls hand nothing off."""
    session = unaccepted.laptop.standin.model_requests[0].session_id
    assert unaccepted.seen["proposed"] == [session]  # the hooks were at work
    assert unaccepted.seen[answer] == []


def test_manual_approval_stays_on_the_host(unaccepted: Conversation) -> None:
    """`manually approve edits` hands nothing off: the model goes on here, and asks."""
    assert unaccepted.seen["manual"] == []
    assert _proposals(unaccepted.laptop) == []  # the hook saw the approval, and let it be
    assert not (unaccepted.laptop.repo.root / LOCAL_EXECUTION_FILE).exists()


def test_without_plandock_the_host_would_have_gone_on(
    make_laptop: Callable[..., Laptop], claude_cli: Path, tmux: Tmux
) -> None:
    """Positive control: the same conversation without the hooks writes a file on the host."""
    laptop = make_laptop(claude_cli)
    laptop.plan(tmux)
    claude_screen.choose(tmux, "auto mode|auto-accept")
    claude_screen.wait_until(tmux, (laptop.repo.root / LOCAL_EXECUTION_FILE).exists)


def test_cleared_context_hands_off_once(
    make_laptop: Callable[..., Laptop], claude_cli: Path, tmux: Tmux
) -> None:
    """With cleared context there is no PostToolUse: the new session's first call hands off."""
    laptop = make_laptop(claude_cli)
    (laptop.config / "settings.json").write_text('{"showClearContextOnPlanAccept": true}\n')
    laptop.plandock("init", "--scope", "user")
    before = laptop.fingerprint()
    base = scenes()
    local = local_execution_scene(match=r"^Implement the following plan(?s:(?!sealed).)*$")
    laptop.standin.script = Script(scenes=(local, *base.scenes))
    laptop.plan(tmux)
    claude_screen.choose(tmux, "clear context")
    claude_screen.wait_until(tmux, laptop.recorded)
    assert _end_of(laptop).trigger == "cleared"
    assert len(laptop.recorded()) == 1
    assert laptop.fingerprint() == before
    assert "Goodbye" in laptop.repo.git("show", "feature/auto:src/farewell.py")


def _end_of(laptop: Laptop) -> Run:
    """Wait until the latest run has come to its end; the run."""
    laptop.plandock("wait", "last", "--timeout", "570")
    return laptop.recorded()[0]


def test_bypass_is_an_acceptance_too_and_its_session_can_be_handed_off_again(
    make_laptop: Callable[..., Laptop], claude_cli: Path, tmux: Tmux
) -> None:
    """`switch to bypass permissions` hands off, wired in the local scope; `run --session` again."""
    # The CLI refuses bypass to root unless it believes to be in a sandbox (facts, section 3).
    laptop = make_laptop(claude_cli, env={"IS_SANDBOX": "1"})
    (laptop.config / "settings.json").write_text('{"skipDangerousModePermissionPrompt": true}')
    laptop.plandock("init", "--scope", "local")
    laptop.plan(tmux, "Plan it please", "--allow-dangerously-skip-permissions")
    session = laptop.standin.model_requests[0].session_id
    asked = len(laptop.host_requests(session))
    claude_screen.choose(tmux, "(?i)bypass permissions")
    tmux.wait_for(HANDED_OFF, claude_screen.PATIENCE_S)
    run = _end_of(laptop)
    assert (run.permission_mode, run.state) == ("bypassPermissions", "done")
    assert not (laptop.repo.root / LOCAL_EXECUTION_FILE).exists()
    assert len(laptop.host_requests(session)) == asked
    laptop.plandock("run", "--session", run.session_id, "--wait")
    again = laptop.recorded()[0]
    assert again.id != run.id
    assert again.fresh is False
    assert again.branch == "feature/auto-2"
