"""What a repository does to the hooks, and what managed settings do about it: the real CLI.

Each story has a control in which the same repository without managed settings runs on the host.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from plandock.standin import LOCAL_EXECUTION_FILE
from tests.support import claude_screen, machine
from tests.support.laptop import Laptop
from tests.support.managed import OwnEtc, add_mod
from tests.support.tmux import Tmux

pytestmark = [
    pytest.mark.timeout(1200),
    pytest.mark.e2e,
    pytest.mark.tmux,
    pytest.mark.netns,
    pytest.mark.split_by("cli"),
]

HANDED_OFF = r"handed off as r\w+ → branch feature/auto"
SWALLOWED = ("classic.PreToolUse", "classic.PostToolUse")


def switch_off(laptop: Laptop) -> None:
    """A repository's settings that turn hooks off."""
    (laptop.repo.root / ".claude").mkdir()
    file = laptop.repo.root / ".claude/settings.json"
    file.write_text('{"disableAllHooks": true}')


def swallow(laptop: Laptop) -> None:
    """A repository's mod that answers in the hooks' place, and one that does no harm."""
    add_mod(laptop.repo.root / ".claude", *SWALLOWED)
    add_mod(laptop.repo.root / ".claude", "ui.render", name="draws")


@pytest.fixture
def terminal() -> Iterator[Tmux]:
    """A terminal of the test's own."""
    made = Tmux()
    yield made
    made.close()


CASES = [("2.1.197", switch_off), ("newest", switch_off), ("newest", swallow)]


@pytest.mark.parametrize(("cli", "reach"), CASES, ids=["off-oldest", "off-newest", "mod-newest"])
def test_managed_hooks_hold(
    cli: str,
    reach: Callable[[Laptop], None],
    make_laptop: Callable[..., Laptop],
    terminal: Tmux,
    tmp_path: Path,
) -> None:
    """The plan is handed off though the repository turns hooks off or swallows them, `doctor`
    says so, and nothing runs here."""
    laptop = make_laptop(machine.claude_cli(cli))
    etc = OwnEtc(tmp_path)
    reach(laptop)
    done = etc.plandock(laptop, "init", "--scope", "managed", "--no-image", "--json")
    assert done.returncode == 0, done.stderr
    file = Path(json.loads(done.stdout)["path"])
    assert file.parent == Path("/etc/claude-code/managed-settings.d")
    _plan(laptop, terminal, etc)
    claude_screen.choose(terminal, "auto mode|auto-accept")
    terminal.wait_for(HANDED_OFF, claude_screen.PATIENCE_S)
    assert not (laptop.repo.root / LOCAL_EXECUTION_FILE).exists()
    assert len(laptop.recorded()) == 1
    rows = etc.doctor(laptop)
    assert not [row for row in rows if row["ok"] is False], rows
    assert any("managed hooks fire all the same" in row["detail"] for row in rows)
    laptop.plandock("stop", "last", check=False)


@pytest.mark.parametrize(("cli", "reach"), CASES, ids=["off-oldest", "off-newest", "mod-newest"])
def test_control_the_users_own_hooks_do_not(
    cli: str,
    reach: Callable[[Laptop], None],
    make_laptop: Callable[..., Laptop],
    terminal: Tmux,
    tmp_path: Path,
) -> None:
    """The same repository with the user's hooks alone: the plan runs here.  `doctor` says before
    that it would, and afterwards that it did; a hand-off by hand settles that (once shown)."""
    laptop = make_laptop(machine.claude_cli(cli))
    etc = OwnEtc(tmp_path)
    reach(laptop)
    laptop.plandock("init", "--no-image")
    before = [row for row in etc.doctor(laptop) if row["ok"] is False]
    assert len(before) == 1, before
    assert "carried out on this machine" in before[0]["detail"]
    assert "init --scope managed" in before[0]["remedy"]
    _plan(laptop, terminal, etc, first="can swallow" if reach is swallow else "")
    claude_screen.choose(terminal, "auto mode|auto-accept")
    terminal.wait_for("Done on the host", claude_screen.PATIENCE_S)
    if reach is swallow:
        terminal.wait_for("NOT handed off", claude_screen.PATIENCE_S)
    claude_screen.leave(terminal)
    assert (laptop.repo.root / LOCAL_EXECUTION_FILE).exists()
    assert laptop.recorded() == []
    session = laptop.standin.model_requests[0].session_id
    missed = [r for r in etc.doctor(laptop) if f"conversation {session}" in r["detail"]]
    assert [row["ok"] for row in missed] == [False]
    assert f"plandock run --session {session}" in missed[0]["remedy"]
    if reach is not swallow:
        return
    laptop.plandock("run", "--session", "last")
    assert not [r for r in etc.doctor(laptop) if f"conversation {session}" in r["detail"]]
    (run,) = laptop.recorded()
    assert run.session_id == session
    laptop.plandock("stop", "last", check=False)


def _plan(laptop: Laptop, terminal: Tmux, etc: OwnEtc, *, first: str = "") -> None:
    """Have a plan made; ``first`` is what must stand on the screen before that."""
    words = etc.argv(laptop.cli, "--permission-mode", "plan")
    terminal.start(words, cwd=laptop.repo.root, env=laptop.env)
    terminal.wait_for(r"plan mode|for shortcuts", claude_screen.PATIENCE_S)
    terminal.wait_for(first, claude_screen.PATIENCE_S)
    claude_screen.ask(terminal, "Plan it please")
    claude_screen.wait_for_plan(terminal)
