"""What the hook keeps of a session's model: at its start, and at the acceptance."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from plandock.claude.chosen_model import choose
from plandock.paths import project_key
from tests.support import hooks
from tests.support.repository import make_repository

START, ACCEPT = "SessionStart-startup", "PostToolUse-ExitPlanMode-auto"
versions = pytest.mark.parametrize("version", hooks.VERSIONS)


@contextmanager
def cli(world: hooks.HookWorld, *words: str) -> Iterator[None]:
    """A living process in Claude Code's place, with these words in its command line."""
    argv = [sys.executable, "-c", "import time; print(flush=True); time.sleep(3600)", *words]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()  # its own command line stands from here on
        world.env["CLAUDE_PID"] = str(process.pid)
        try:
            yield
        finally:
            process.kill()


def accepted(world: hooks.HookWorld, version: str, **changes: Any) -> dict[str, Any]:
    """What is kept of the session in which a plan is accepted."""
    before = {run.id for run in world.runs()}
    assert world.call(world.payload(version, "auto", ACCEPT, **changes)).stop
    (run,) = (run for run in world.runs() if run.id not in before)
    return run.session_setup


@versions
def test_acceptance_knows_what_the_process_began_with(world: hooks.HookWorld, version: str) -> None:
    """The full id from SessionStart, and the effort of the accepted call."""
    start = world.payload(version, "auto", START)
    with cli(world):
        assert world.call(start).silent
        kept = accepted(world, version)
    assert kept["started"] == start["model"] != ""
    effort = world.payload(version, "auto", ACCEPT)["effort"]["level"]
    choice = choose(kept)
    assert (choice.model, choice.effort) == (start["model"], effort)


@versions
def test_cleared_conversation_knows_it_of_the_process_before(
    world: hooks.HookWorld, version: str
) -> None:
    """SessionStart(clear) names no model: that of the process's start holds."""
    with cli(world):
        assert world.call(world.payload(version, "clear", START)).silent
        for name in ("PreToolUse-ExitPlanMode-plan", "SessionEnd-clear", "SessionStart-clear"):
            assert world.call(world.payload(version, "clear", name)).silent
        # The guard's parent is a shell: in 2.1.197 nothing but the latch names the process.
        world.env["CLAUDE_PID"] = "4711"
        assert world.call(world.payload(version, "clear", "PreToolUse-Write-auto")).code == 2
    (run,) = world.runs()
    assert run.session_setup["started"] == world.payload(version, "clear", START)["model"]
    assert run.session_setup["transcript"].endswith("364f3e50-a21a-5392-b6d5-fcc98daab153.jsonl")


def test_another_process_of_that_number_says_nothing(world: hooks.HookWorld) -> None:
    """Nor does the start of one that has ended, for a session that is resumed."""
    with cli(world):
        assert world.call(world.payload("2.1.332", "auto", START)).silent
    with cli(world, "--model", "haiku"):
        folder = world.state / "started"
        (mark,) = folder.iterdir()
        mark.rename(folder / world.env["CLAUDE_PID"])
        kept = accepted(world, "2.1.332")
    assert (kept["started"], kept["asked"]) == ("", "haiku")


@pytest.mark.parametrize("words", [("--model", "opusplan"), ("--model=opusplan",)])
def test_command_line_goes_before_variable_and_settings(
    world: hooks.HookWorld, words: tuple[str, ...]
) -> None:
    """Each of the ways in which a process is asked for a model, the most specific first."""
    settings = world.home / ".claude/settings.json"
    held = {"model": "haiku", "alwaysThinkingEnabled": False, "language": "fr"}
    settings.write_text(json.dumps({**held, "attribution": {"commit": "x" * 5000}}))
    with cli(world):
        kept = accepted(world, "2.1.332")
    assert (kept["asked"], kept["words"]) == ("haiku", {"language": "fr"})
    assert kept["left_out"] == []
    world.env["ANTHROPIC_MODEL"] = "sonnet[1m]"
    with cli(world, "--", "--model", "opus"):
        assert accepted(world, "2.1.332", tool_use_id="t2")["asked"] == "sonnet[1m]"
    with cli(world, *words):
        kept = accepted(world, "2.1.332", tool_use_id="t3")
    assert (kept["asked"], kept["thinking"]) == ("opusplan", False)
    settings.write_text('{"agent": "mine"}')
    with cli(world, "--append-system-prompt", "be brief", "--agent=x", "--", "--system-prompt"):
        kept = accepted(world, "2.1.332", tool_use_id="t4")
    assert kept["left_out"] == ["--agent", "--append-system-prompt", "agent (of the settings)"]


def conversation(world: hooks.HookWorld, folder: str, version: str) -> str:
    """The file of a conversation for which that version of Claude Code was started there."""
    world.env["CLAUDE_PROJECT_DIR"] = folder
    file = world.home / ".claude/projects" / project_key(folder) / "t.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"type": "user", "version": version, "cwd": folder}) + "\n")
    return str(file)


LIB = {"model": "haiku", "alwaysThinkingEnabled": False, "effortLevel": "low", "fastMode": True}


def test_settings_of_where_the_shell_stands_are_not_the_sessions(world: hooks.HookWorld) -> None:
    """The model went into another repository's folder by `cd`."""
    lib = make_repository(world.repo.root.parent / "lib").root
    (lib / ".claude").mkdir()
    (lib / ".claude/settings.json").write_text(json.dumps(LIB))
    talk = conversation(world, str(world.repo.root), "2.1.332")
    with cli(world):
        kept = accepted(world, "2.1.332", cwd=str(lib), transcript_path=talk)
    assert (kept["asked"], kept["saved"], kept["saved_effort"]) == ("", "", "")
    assert (kept["thinking"], kept["fast"], kept["repository"]) == (True, False, False)


@pytest.mark.parametrize(
    ("place", "name", "version", "model"),
    [
        (".claude", "settings.json", "2.1.332", ""),
        (".claude", "settings.local.json", "2.1.197", ""),
        (".claude", "settings.local.json", "2.1.332", "haiku"),
        ("packages/api/.claude", "settings.json", "2.1.197", "haiku"),
    ],
)
def test_files_that_the_cli_does_not_read_name_no_model(
    world: hooks.HookWorld, place: str, name: str, version: str, model: str
) -> None:
    """Started below the top: the top's settings.json is not read, its local one in new versions."""
    (world.repo.root / "packages/api").mkdir(parents=True)
    world.repo.write({f"{place}/{name}": json.dumps(LIB)})
    here = str(world.repo.root / "packages/api")
    talk = conversation(world, here, version)
    with cli(world):
        # The conversation's file is there only later.
        start = world.payload("2.1.332", "auto", START, cwd=here, transcript_path="/none.jsonl")
        assert world.call(start).silent
        kept = accepted(world, "2.1.332", cwd=here, transcript_path=talk)
    assert (kept["asked"], kept["saved"], kept["saved_then"]) == (model,) * 3
    assert (kept["repository"], kept["thinking"]) == (bool(model), not model)


def test_users_variables_go_along_and_a_repositorys_do_not(world: hooks.HookWorld) -> None:
    """Names of models and numbers; Claude Code lays a repository's over the hook's environment."""
    world.repo.write({".claude/settings.json": json.dumps({"env": {"MAX_THINKING_TOKENS": "9"}})})
    world.env |= {
        "ANTHROPIC_DEFAULT_SONNET_MODEL": "claude-sonnet-4-6",
        "CLAUDE_CODE_SUBAGENT_MODEL": "$(evil)",
        "ANTHROPIC_API_KEY": "sk-ant-api03-made-up",
        "MAX_THINKING_TOKENS": "9",
        "ANTHROPIC_BETAS": "context-1m-2025-08-07,other-2026-01-01",
    }
    with cli(world):
        kept = accepted(world, "2.1.332")
    assert kept["variables"] == {
        "ANTHROPIC_DEFAULT_SONNET_MODEL": "claude-sonnet-4-6",
        "ANTHROPIC_BETAS": "context-1m-2025-08-07,other-2026-01-01",
    }


def test_marks_of_old_processes_are_forgotten(world: hooks.HookWorld) -> None:
    """One file for each process of Claude Code would pile up."""
    with cli(world):
        world.call(world.payload("2.1.332", "auto", START))
        (old,) = (world.state / "started").iterdir()
        old = old.rename(old.with_name("1"))
        os.utime(old, (0, 0))
        world.call(world.payload("2.1.332", "auto", START))
        assert [p.name for p in (world.state / "started").iterdir()] == [world.env["CLAUDE_PID"]]
