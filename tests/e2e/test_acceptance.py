"""The acceptance table of shared facts, section 1, with both real CLIs in a real terminal."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from plandock.standin import (
    LOCAL_EXECUTION_FILE,
    Script,
    StandIn,
    local_execution_scene,
    planning_scene,
    write_file,
)
from tests.e2e.conftest import PLAN, scenes
from tests.support.laptop import REFRESH, Laptop
from tests.support.tmux import Tmux

pytestmark = pytest.mark.timeout(300)


def test_accepting_hands_off_and_the_laptop_stays_untouched(
    make_laptop: Callable[..., Laptop], claude_cli: Path, tmux: Tmux
) -> None:
    """The turn ends, no request and no tool call follows, and a branch comes back."""
    laptop = make_laptop(claude_cli)
    laptop.plandock("init", "--scope", "user")
    laptop.repo.write({"dirty.txt": "my own uncommitted work\n"})
    before, refs, status = laptop.fingerprint(), laptop.refs(), laptop.repo.git("status", "-s")
    laptop.plan(tmux)
    asked = len(laptop.standin.model_requests)
    tmux.send("1")
    tmux.wait_for(r"handed off as r\w+ → branch feature/auto", 20)
    assert laptop.plandock("wait", "last", "--timeout", "120").returncode == 0
    run = laptop.json("show", "last")
    session = laptop.standin.model_requests[0].session_id
    assert run["session_id"] == session
    assert run["fresh"] is False  # the same conversation goes on in the box, under its own id
    assert run["box_session_id"] not in (None, session)
    assert len(laptop.host_requests(session)) == asked
    assert not (laptop.repo.root / LOCAL_EXECUTION_FILE).exists()
    assert laptop.fingerprint() == before
    assert laptop.repo.git("status", "-s") == status
    new = laptop.refs()
    assert set(new) - set(refs) == {"refs/heads/feature/auto"}
    assert {k: v for k, v in new.items() if k in refs} == refs
    log = laptop.repo.git("log", "--format=%s", "main..feature/auto").splitlines()
    assert "Add a farewell" in log
    assert "Goodbye" in laptop.repo.git("show", "feature/auto:src/farewell.py")
    assert "did not commit" in laptop.repo.git("show", "feature/auto:NOTES.md")
    assert "my own" in laptop.repo.git("show", "feature/auto:dirty.txt")
    assert run["commits"] == 2
    assert run["billing"]["source"] == "subscription"
    assert {r.auth for r in laptop.standin.model_requests} == {"bearer"}
    assert laptop.leftovers() == []
    _conversation_is_home(laptop, run, tmux)


def _conversation_is_home(laptop: Laptop, run: dict[str, str], tmux: Tmux) -> None:
    """The box's conversation lies beside the host's, under an id of its own."""
    found = list(laptop.config.glob(f"projects/*/{run['box_session_id']}.jsonl"))
    assert len(found) == 1
    text = found[0].read_text()
    assert "Add a farewell" in text
    assert REFRESH not in text
    tmux.send("C-c")
    tmux.send("C-c")


def test_the_next_prompt_carries_what_became_of_the_plan(
    make_laptop: Callable[..., Laptop], claude_cli: Path, tmux: Tmux
) -> None:
    """The local model is told once that the plan is carried out elsewhere, and tools work again."""
    laptop = make_laptop(claude_cli)
    with StandIn(scenes(), keep_bodies=True) as standin:
        laptop.env["ANTHROPIC_BASE_URL"] = standin.url
        laptop.plandock("init", "--scope", "user")
        laptop.plan(tmux)
        tmux.send("1")
        tmux.wait_for(r"handed off as r\w+", 20)
        time.sleep(1.0)
        count = len(standin.model_requests)
        tmux.type("what is going on?")
        time.sleep(0.3)
        tmux.send("Enter")
        standin.wait_for(count + 1)
        body = json.dumps(standin.model_requests[count].body)
    run = laptop.json("show", "last")["id"]
    assert f"handed off as run {run}" in body


@pytest.mark.parametrize("keys", [("3",), ("Escape",)], ids=["manual-or-third", "esc"])
def test_no_run_without_an_automatic_acceptance(
    make_laptop: Callable[..., Laptop], claude_cli: Path, tmux: Tmux, keys: tuple[str, ...]
) -> None:
    """Rejection and Esc after a planning conversation of twenty tool calls hand nothing off."""
    laptop = make_laptop(claude_cli)
    laptop.standin.script = scenes(planning_scene(PLAN, extra_reads=20))
    laptop.plandock("init", "--scope", "user")
    laptop.plan(tmux)
    tmux.send(*keys)
    time.sleep(3.0)
    assert laptop.runs() == []


def test_manual_approval_stays_on_the_host(
    make_laptop: Callable[..., Laptop], claude_cli: Path, tmux: Tmux
) -> None:
    """`manually approve edits` hands nothing off: the model goes on here, and asks."""
    laptop = make_laptop(claude_cli)
    laptop.plandock("init", "--scope", "user")
    laptop.plan(tmux)
    screen = tmux.screen()
    line = next(x for x in screen.splitlines() if "manually" in x)
    tmux.send(line.strip().lstrip("❯ ")[0])
    tmux.wait_for(LOCAL_EXECUTION_FILE, 20)
    assert laptop.runs() == []


def test_a_call_beside_the_acceptance_does_not_run(
    make_laptop: Callable[..., Laptop], claude_cli: Path, tmux: Tmux
) -> None:
    """A Write in the same message as ExitPlanMode is refused: the latch stands before it."""
    laptop = make_laptop(claude_cli)
    sibling = write_file("SIBLING.txt", "ran on the host\n")
    laptop.standin.script = scenes(planning_scene(PLAN, siblings=[sibling]))
    laptop.plandock("init", "--scope", "user")
    laptop.plan(tmux)
    tmux.send("1")
    tmux.wait_for(r"handed off as r\w+", 20)
    time.sleep(2.0)
    assert not (laptop.repo.root / "SIBLING.txt").exists()
    assert len(laptop.runs()) == 1


def test_without_plandock_the_host_would_have_gone_on(
    make_laptop: Callable[..., Laptop], claude_cli: Path, tmux: Tmux
) -> None:
    """Positive control: the same conversation without the hooks writes a file on the host."""
    laptop = make_laptop(claude_cli)
    laptop.plan(tmux)
    tmux.send("1")
    end = time.monotonic() + 20
    while not (laptop.repo.root / LOCAL_EXECUTION_FILE).exists():
        assert time.monotonic() < end, tmux.screen()
        time.sleep(0.1)


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
    tmux.wait_for("clear context", 5)
    tmux.send("1")
    end = time.monotonic() + 30
    while not laptop.runs():
        assert time.monotonic() < end, tmux.screen()
        time.sleep(0.2)
    laptop.plandock("wait", "last", "--timeout", "120")
    assert len(laptop.runs()) == 1
    assert laptop.fingerprint() == before
    assert "Goodbye" in laptop.repo.git("show", "feature/auto:src/farewell.py")


def test_bypass_is_an_acceptance_too_and_its_session_can_be_handed_off_again(
    make_laptop: Callable[..., Laptop], claude_cli: Path, tmux: Tmux
) -> None:
    """`switch to bypass permissions` hands off, wired in the local scope; `run --session` again."""
    # The CLI refuses bypass to root unless it believes to be in a sandbox (facts, section 3).
    laptop = make_laptop(claude_cli, env={"IS_SANDBOX": "1"})
    (laptop.config / "settings.json").write_text('{"skipDangerousModePermissionPrompt": true}')
    laptop.plandock("init", "--scope", "local")
    laptop.plan(tmux, "Plan it please", "--allow-dangerously-skip-permissions")
    assert re.search("bypass permissions", tmux.screen(), re.IGNORECASE)
    tmux.send("1")
    tmux.wait_for(r"handed off as r\w+", 20)
    laptop.plandock("wait", "last", "--timeout", "120")
    run = laptop.json("show", "last")
    assert (run["permission_mode"], run["state"]) == ("bypassPermissions", "done")
    assert not (laptop.repo.root / LOCAL_EXECUTION_FILE).exists()
    laptop.plandock("run", "--session", run["session_id"], "--wait")
    again = laptop.json("show", "last")
    assert again["id"] != run["id"]
    assert again["fresh"] is False
    assert again["branch"] == "feature/auto-2"
