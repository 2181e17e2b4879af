"""A hook that comes to no end, with both real CLIs in a real terminal: the plan stays off the host.

`tests/unit/test_launcher.py` has every other way in which the hook's Python can fail.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from plandock.standin import (
    LOCAL_EXECUTION_FILE,
    Scene,
    Script,
    StandIn,
    Turn,
    write_file,
)
from tests.e2e.conftest import scenes
from tests.support import claude_screen
from tests.support.laptop import Laptop
from tests.support.tmux import Tmux

pytestmark = [pytest.mark.timeout(1200), pytest.mark.e2e, pytest.mark.tmux]

WRITES = write_file("PERSON.txt", "x\n")
PERSON = Scene("person", (Turn("", (WRITES,)), Turn("Done.")), "^look here")


@pytest.fixture
def standin() -> Iterator[StandIn]:
    """The scripted model, with what it was asked."""
    with StandIn(scenes(), keep_bodies=True) as server:
        yield server
        assert server.errors == []


def test_a_hook_slower_than_its_own_timeout_lets_no_tool_run_here(
    make_laptop: Callable[..., Laptop], standin: StandIn, claude_cli: Path, tmux: Tmux
) -> None:
    """It is ended by Claude Code, and the model goes on: refused, told why, and how to go on.

    Once Python works again and the user writes, tools run here as after any other hand-off.
    """
    laptop = make_laptop(claude_cli)
    standin.script = Script(scenes=(PERSON, *scenes().scenes))
    laptop.plandock("init", "--scope", "user")
    settings = laptop.config / "settings.json"
    settings.write_text(re.sub(r'"timeout": \d+', '"timeout": 3', settings.read_text()))
    slow = laptop.home / "slow"
    slow.write_text("#!/bin/sh\nsleep 100000\n")
    slow.chmod(0o755)
    launcher = laptop.home / ".local/state/plandock/hook"
    works = launcher.read_text()
    launcher.write_text(re.sub(r"^python=.*$", f"python={slow}", works, flags=re.MULTILINE))
    laptop.plan(tmux)
    asked = len(standin.model_requests)
    claude_screen.choose(tmux, "auto mode|auto-accept")

    def refused() -> bool:
        later = [json.dumps(r.body) for r in standin.model_requests[asked:]]
        return any("could not take the plan" in text for text in later)

    claude_screen.wait_until(tmux, refused)
    assert not (laptop.repo.root / LOCAL_EXECUTION_FILE).exists()
    assert laptop.recorded() == []
    launcher.write_text(works)
    claude_screen.ask(tmux, "look here")
    claude_screen.wait_until(tmux, (laptop.repo.root / "PERSON.txt").exists)
    told = [json.dumps(r.body) for r in standin.model_requests if r.scene == "person"]
    assert "NOT handed off" in told[0]
