"""Acceptances beside the dialog's plain answer, with both real CLIs in a real terminal."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from plandock.standin import LOCAL_EXECUTION_FILE
from tests.support import claude_screen
from tests.support.laptop import Laptop
from tests.support.tmux import Tmux

pytestmark = [pytest.mark.timeout(1200), pytest.mark.e2e, pytest.mark.tmux]

HANDED_OFF = r"handed off as r\w+ → branch feature/auto"
ALLOW = {
    "behavior": "allow",
    "updatedInput": {},
    "updatedPermissions": [
        {"type": "setMode", "mode": "acceptEdits", "destination": "session"},
    ],
}


def plan_of(laptop: Laptop) -> str:
    """The plan of the one run, which is stopped: what it would do is not looked at here."""
    (run,) = laptop.recorded()
    laptop.plandock("stop", run.id, "--now", check=False)
    assert not (laptop.repo.root / LOCAL_EXECUTION_FILE).exists()
    return (laptop.home / f".local/state/plandock/runs/{run.id}/plan.md").read_text()


def test_a_plan_that_another_hook_approves_is_handed_off(
    make_laptop: Callable[..., Laptop], claude_cli: Path, tmux: Tmux
) -> None:
    """No dialog is shown: that hook allows ExitPlanMode, and sets the mode that follows."""
    laptop = make_laptop(claude_cli)
    answer = {"hookEventName": "PermissionRequest", "decision": ALLOW}
    file = laptop.home / "answer.json"
    file.write_text(json.dumps({"hookSpecificOutput": answer}))
    hook = {"matcher": "ExitPlanMode", "hooks": [{"type": "command", "command": f"cat '{file}'"}]}
    settings = {"hooks": {"PermissionRequest": [hook]}}
    (laptop.config / "settings.json").write_text(json.dumps(settings))
    laptop.plandock("init", "--scope", "user", "--no-image")
    tmux.start([claude_cli, "--permission-mode", "plan"], laptop.repo.root, laptop.env)
    tmux.wait_for(r"^❯\s", claude_screen.PATIENCE_S)
    claude_screen.ask(tmux, "Plan it please")
    tmux.wait_for(HANDED_OFF, claude_screen.PATIENCE_S)
    assert "Write src/farewell.py" in plan_of(laptop)
    assert laptop.recorded()[0].permission_mode == "acceptEdits"


def test_a_plan_edited_in_the_editor_is_the_one_with_the_context_kept(
    make_laptop: Callable[..., Laptop], claude_cli: Path, tmux: Tmux
) -> None:
    """What is carried out is the plan as its user left it in the editor (ctrl+g)."""
    laptop = make_laptop(claude_cli)
    adds_a_step(laptop)
    laptop.plandock("init", "--scope", "user", "--no-image")
    laptop.plan(tmux)
    claude_screen.press_until(tmux, "C-g", lambda screen: "EDITED STEP" in screen)
    claude_screen.wait_for_plan(tmux)
    claude_screen.choose(tmux, "auto mode|auto-accept")
    tmux.wait_for(HANDED_OFF, claude_screen.PATIENCE_S)
    assert "EDITED STEP" in plan_of(laptop)


def adds_a_step(laptop: Laptop) -> None:
    """The user's editor adds a step to whatever it opens."""
    editor = laptop.home / "add-a-step"
    editor.write_text('#!/bin/sh\nfor x; do :; done\nprintf "3. EDITED STEP\\n" >>"$x"\n')
    editor.chmod(0o755)
    laptop.env |= {"EDITOR": str(editor), "VISUAL": str(editor)}
