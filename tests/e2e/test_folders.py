"""Where `claude` is started and where its shell stands, with both real CLIs (docs/folders.md).

The model of these conversations writes a file on the host as soon as its plan is approved: it
exists after each control, and never where plandock was called.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from plandock import paths
from plandock.settings.claude_project import files_read
from plandock.standin import (
    LOCAL_EXECUTION_FILE,
    Scene,
    Script,
    StandIn,
    ToolCall,
    Turn,
    bash,
    local_execution_scene,
    planning_scene,
)
from tests.e2e.conftest import PLAN, scenes
from tests.support import claude_screen
from tests.support.laptop import Laptop
from tests.support.machine import CLI_VERSIONS
from tests.support.repository import Repository, make_repository
from tests.support.tmux import Tmux

pytestmark = [pytest.mark.timeout(1800), pytest.mark.e2e]

HANDED_OFF = r"handed off as r\w+ → branch feature/auto"
AUTOMATIC = "^Yes, and (use auto mode|auto-accept)"
CLEARED = "clear context"
NO_HOOK = "Claude Code does not call plandock when it is started in"


def settle(laptop: Laptop, *folders: Path, **settings: object) -> None:
    """The user trusts these folders, too, and lets the model use its shell while planning."""
    known = {"hasTrustDialogAccepted": True, "hasCompletedProjectOnboarding": True}
    laptop.trust(projects={str(f): known for f in (laptop.repo.root, *folders)})
    held = {"permissions": {"allow": ["Bash"]}, **settings}
    (laptop.config / "settings.json").write_text(json.dumps(held))


def play(standin: StandIn, *calls: ToolCall) -> None:
    """What the model does before its plan; and, in a cleared conversation, at once."""
    planning = planning_scene(PLAN, calls, match="^Plan it please")
    standin.script = scenes(planning)


def accept(laptop: Laptop, tmux: Tmux, folder: Path, *words: str, option: str = AUTOMATIC) -> None:
    """Start `claude` in a folder, have a plan made, and accept it."""
    tmux.start([laptop.cli, "--permission-mode", "plan", *words], cwd=folder, env=laptop.env)
    tmux.wait_for(r"plan mode|for shortcuts", claude_screen.PATIENCE_S)
    claude_screen.ask(tmux, "Plan it please")
    claude_screen.wait_for_plan(tmux)
    claude_screen.choose(tmux, option)


def written(*folders: Path) -> list[Path]:
    """In which of these folders the model has carried the plan out on the host."""
    return [f for f in folders if (f / LOCAL_EXECUTION_FILE).exists()]


@pytest.fixture
def library(tmp_path: Path) -> Repository:
    """Another repository beside the laptop's own; `cd ../library` from there."""
    return make_repository(tmp_path / "laptop0" / "home" / "library")


def test_the_run_lands_in_the_conversations_repository_wherever_its_shell_stands(
    make_laptop: Callable[..., Laptop],
    standin: StandIn,
    engine: str,
    claude_cli: Path,
    tmux: Tmux,
    library: Repository,
) -> None:
    """The model goes into an added repository; run, branch and conversation stay where they belong.

    Before, all of them landed in the other repository.
    """
    laptop = make_laptop(claude_cli, engine)
    settle(laptop, library.root)
    play(standin, bash("cd ../library && ls"))
    laptop.plandock("init", "--scope", "user")
    before = library.git("for-each-ref")
    accept(laptop, tmux, laptop.repo.root, "--add-dir", "../library")
    tmux.wait_for(HANDED_OFF, claude_screen.PATIENCE_S)
    laptop.plandock("wait", "last", "--timeout", "1200")
    (run,) = laptop.recorded()
    assert (run.repo, run.cwd) == (str(laptop.repo.root), str(laptop.repo.root))
    assert "refs/heads/feature/auto" in laptop.refs()
    assert library.git("for-each-ref") == before
    assert run.folders_left_out == [str(library.root)]
    assert any(str(library.root) in note for note in laptop.json("show", run.id)["notes"])
    key = paths.project_key(str(laptop.repo.root))
    assert (laptop.config / "projects" / key / f"{run.box_session_id}.jsonl").is_file()
    assert written(laptop.repo.root, library.root) == []


def test_a_cleared_conversation_is_handed_off_though_its_shell_had_gone_elsewhere(
    make_laptop: Callable[..., Laptop],
    standin: StandIn,
    claude_cli: Path,
    tmux: Tmux,
    library: Repository,
) -> None:
    """The new conversation begins in its own folder again.

    Before, 2.1.332 told nothing then that linked the two, and the plan ran on the laptop.
    """
    laptop = make_laptop(claude_cli)
    settle(laptop, library.root, showClearContextOnPlanAccept=True)
    laptop.plandock("init", "--scope", "user")
    planning = planning_scene(PLAN, [bash("cd ../library && ls")], match="^Plan it please")
    standin.script = Script(scenes=(local_execution_scene(), planning))
    accept(laptop, tmux, laptop.repo.root, "--add-dir", "../library", option=CLEARED)
    claude_screen.wait_until(
        tmux, lambda: laptop.recorded() or written(laptop.repo.root, library.root)
    )
    (run,) = laptop.recorded()
    assert (run.trigger, run.repo, run.cwd) == ("cleared", *2 * (str(laptop.repo.root),))
    assert written(laptop.repo.root, library.root) == []


@pytest.mark.parametrize("option", [AUTOMATIC, CLEARED], ids=["kept", "cleared"])
def test_control_without_plandock_the_plan_is_carried_out_on_the_host(
    make_laptop: Callable[..., Laptop],
    standin: StandIn,
    claude_cli: Path,
    tmux: Tmux,
    library: Repository,
    option: str,
) -> None:
    """The same conversations without the hooks write a file on this machine."""
    laptop = make_laptop(claude_cli)
    settle(laptop, library.root, showClearContextOnPlanAccept=True)
    planning = planning_scene(PLAN, [bash("cd ../library && ls")], match="^Plan it please")
    standin.script = Script(scenes=(local_execution_scene(), planning))
    accept(laptop, tmux, laptop.repo.root, "--add-dir", "../library", option=option)
    claude_screen.wait_until(tmux, lambda: written(laptop.repo.root, library.root))


def test_a_project_that_is_wired_at_its_top_is_not_in_a_subfolder(
    make_laptop: Callable[..., Laptop], standin: StandIn, claude_cli: Path, tmux: Tmux
) -> None:
    """There no hook comes, the plan runs on the host (the control), and `doctor` says so there.

    What `doctor` and `init` say is what holds: wired in that folder, the same plan is handed off.
    """
    laptop = make_laptop(claude_cli)
    folder = laptop.repo.root / "packages" / "api"
    folder.mkdir(parents=True)
    settle(laptop, folder)
    play(standin)
    laptop.plandock("init", "--scope", "project", "--no-image")
    assert hooks_in(laptop, laptop.repo.root)["ok"] is True
    told = hooks_in(laptop, folder)
    assert told["ok"] is False
    assert f"{NO_HOOK} {folder}: it does not read" in told["detail"]
    accept(laptop, tmux, folder)
    claude_screen.wait_until(tmux, lambda: written(folder))
    assert laptop.recorded() == []
    (folder / LOCAL_EXECUTION_FILE).unlink()
    tmux.close()

    said = run_in(laptop, folder, "init", "--scope", "project", "--no-image")
    assert f"when it is started in {folder}, not in a folder below or above" in said.stdout
    found = json.loads(run_in(laptop, folder, "doctor", "--json").stdout)
    wired = [x for x in found if x["check"] == "hooks"]
    assert any(x["ok"] and "wired in" in x["detail"] for x in wired)
    # The plan that ran on the host is named, so that its user can see to it.
    assert any(x["ok"] is False and "plandock run --session" in x["remedy"] for x in wired)
    second = Tmux()
    try:
        accept(laptop, second, folder)
        second.wait_for(HANDED_OFF, claude_screen.PATIENCE_S)
    finally:
        second.close()
    (run,) = laptop.recorded()
    assert (run.repo, run.cwd) == (str(laptop.repo.root), str(folder))
    assert written(folder) == []


def test_a_linked_work_tree_has_the_local_hooks_of_the_main_one_since_2_1_211(
    make_laptop: Callable[..., Laptop], standin: StandIn, claude_cli: Path, tmux: Tmux
) -> None:
    """Whether its plans are handed off is what `doctor` says there, for either version."""
    laptop = make_laptop(claude_cli)
    linked = laptop.home / "linked"
    laptop.repo.git("worktree", "add", "-q", str(linked))
    settle(laptop, linked)
    play(standin)
    laptop.plandock("init", "--scope", "local", "--no-image")
    told = hooks_in(laptop, linked)
    accept(laptop, tmux, linked)
    claude_screen.wait_until(tmux, lambda: laptop.recorded() or written(linked))
    assert told["ok"] is bool(laptop.recorded())
    assert told["ok"] is (claude_cli == Path(os.environ["PLANDOCK_TEST_CLI_NEWEST"]))
    assert [run.repo for run in laptop.recorded()] == [str(linked)] * told["ok"]
    if not told["ok"]:
        assert NO_HOOK in told["detail"]


def run_in(laptop: Laptop, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the product in a folder, whatever its exit code."""
    root, laptop.repo = laptop.repo, Repository(folder)
    try:
        return laptop.plandock(*words, check=False)
    finally:
        laptop.repo = root


def hooks_in(laptop: Laptop, folder: Path) -> dict[str, Any]:
    """What `doctor` says of the hooks in a folder: the first that is wrong, else the first."""
    found = json.loads(run_in(laptop, folder, "doctor", "--json").stdout)
    lines = [x for x in found if x["check"] == "hooks"]
    return next((x for x in lines if x["ok"] is False), lines[0])


def test_claude_code_reads_the_settings_files_that_plandock_says(
    make_laptop: Callable[..., Laptop], standin: StandIn, claude_cli: Path, tmp_path: Path
) -> None:
    """In every folder that may have settings stands a hook; those that come are those named."""
    laptop = make_laptop(claude_cli)
    top, home = laptop.repo.root, laptop.home
    linked, bare = home / "linked", home / "bare.git"
    laptop.repo.git("worktree", "add", "-q", str(linked))
    laptop.repo.git("clone", "-q", "--bare", str(top), str(bare))
    Repository(bare).git("worktree", "add", "-q", str(home / "of-bare"), "-b", "of-bare")
    nested = make_repository(top / "vendor" / "nested").root
    forged = home / "forged"
    forged.mkdir()
    (forged / ".git").write_text(f"gitdir: {top}/.git/worktrees/linked\n")
    (home / "plain").mkdir()
    (home / "sub-link").symlink_to(top / "src")
    roots = [home, top, linked, bare, home / "of-bare", nested, forged]
    roots += [home / "plain", top / "vendor"]
    starts = [home, linked, top / "vendor", home / "sub-link"]
    below = (top, linked, nested, home / "of-bare", forged, home / "plain")
    starts += [folder / "src" for folder in below]
    (asked := tmp_path / "asked").mkdir()
    for folder in dict.fromkeys([*roots, *(f / "src" for f in (top, linked, nested))]):
        for name in ("settings.json", "settings.local.json"):
            path = folder / ".claude" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            mark = f'mkdir -p "$ASKED"; printf %s {path} > "$ASKED"/{abs(hash(path))}'
            hook = {"type": "command", "command": mark}
            path.write_text(json.dumps({"hooks": {"SessionStart": [{"hooks": [hook]}]}}))
    version = version_of(claude_cli)
    standin.script = Script(scenes=(Scene("hello", (Turn("Hello."),)),))

    def read_by_the_cli(start: Path) -> set[str]:
        start.mkdir(exist_ok=True)
        folder = asked / str(abs(hash(start)))
        env = {**laptop.env, "ASKED": str(folder)}
        subprocess.run(
            [laptop.cli, "-p", "hello"], cwd=start, env=env, stdin=subprocess.DEVNULL,
            capture_output=True, check=False, timeout=600,
        )  # fmt: skip
        return {file.read_text() for file in folder.glob("*")}

    with ThreadPoolExecutor(4) as pool:
        found = dict(zip(starts, pool.map(read_by_the_cli, starts), strict=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        for start, files in found.items():
            named = files_read(start, config_dir=laptop.config, version=version)
            expected = {str(f.path) for f in named if f.path.exists()}
            assert files == expected, start


def version_of(cli: Path) -> str:
    """The version of an installed CLI, by the folder that set-up put it into."""
    assert cli.parent.name in (*CLI_VERSIONS, os.environ["PLANDOCK_TEST_CLI_NEWEST_VERSION"])
    return cli.parent.name
