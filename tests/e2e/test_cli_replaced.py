"""The host's Claude Code goes, or becomes another, while a conversation with it is open."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from plandock.claude import binary
from plandock.runs.model import State
from tests.support import claude_screen, machine
from tests.support.laptop import Laptop
from tests.support.tmux import Tmux

pytestmark = [pytest.mark.timeout(1200), pytest.mark.e2e, pytest.mark.tmux]

HANDED_OFF = r"handed off as r\w+ → branch feature/auto"


@pytest.mark.parametrize("version", ["2.1.197", "newest"])
def test_the_version_in_the_box_is_the_one_that_wrote_the_conversation(
    make_laptop: Callable[..., Laptop], tmp_path: Path, tmux: Tmux, version: str
) -> None:
    """The oldest is taken away and there is no other; the newest is replaced by the oldest."""
    program = tmp_path / "bin" / "claude"
    program.parent.mkdir()
    _lay(machine.claude_cli(version), program)
    laptop = make_laptop(program, env={"PLANDOCK_CLAUDE": ""})
    laptop.plandock("init", "--scope", "user", "--no-image")
    laptop.plan(tmux)
    program.unlink()
    if version == "newest":
        _lay(machine.claude_cli("2.1.197"), program)
    claude_screen.choose(tmux, "auto mode|auto-accept")
    tmux.wait_for(HANDED_OFF, claude_screen.PATIENCE_S)
    laptop.plandock("wait", "last", "--timeout", "570")
    (run,) = laptop.recorded()
    assert run.state is State.DONE
    assert run.cli_version == (binary.TESTED[0] if version == "2.1.197" else binary.TESTED[1])
    assert run.fresh is False
    assert "Goodbye" in laptop.repo.git("show", f"{run.branch}:src/farewell.py")


def _lay(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy(source, target)
