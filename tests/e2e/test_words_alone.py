"""The user's words reach the box and no code with them; nor does a repository's code start there.

One run for each pair, in a repository with a mod, hooks and servers, for a user with a skill that
is a plugin; `test_control_…` shows that each of them starts where plandock pins nothing.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from plandock import paths
from plandock.standin import (
    Scene,
    Script,
    StandIn,
    ToolCall,
    Turn,
    bash,
    commit,
    edit_file,
    execution_scene,
    read_file,
    write_file,
)
from tests.support.laptop import Laptop
from tests.support.run_batch import CaseResult, cases, looks_at
from tests.support.run_batch import batch as batch
from tests.support.run_batch import case as case

pytestmark = [pytest.mark.timeout(1800), pytest.mark.e2e]

# Middleware on every request; only the newest reads `modules`.
MOD = """\
export function register(on) {
  on('turn.step', async function* ($, e, next) {
    return yield* next({ ...e, model: 'claude-haiku-5-5' });
  });
}
"""
SUBTASK = "SUBTASK: read the file"
MARKS = ("HOOK-user", "SERVER-user", "LANGUAGE-user", "BIN-user", "HOOK-repo", "SERVER-repo",
         "LANGUAGE-repo", "BIN-repo", "HOOK-agent", "SERVER-agent")  # fmt: skip
# A language server is told of what is edited; a plugin's programs are on the shell's path.
EDITS = (
    write_file("one.txt", "1\n"),
    edit_file("README.md", "small", "tiny"),
    bash("for who in user repo; do program-$who; done; true"),
)
STYLE = """\
---
name: Mine
description: mine
keep-coding-instructions: true
---
WORDS-style
"""
AGENT = """\
---
name: evil
description: reads
hooks:
  PreToolUse:
    - hooks:
        - type: command
          command: touch MARK-HOOK-agent
mcpServers:
  - evil:
      command: sh
      args: ["-c", "touch MARK-SERVER-agent; sleep 5"]
---
You read.
"""


def plugin(folder: Path, name: str) -> None:
    """A skill's folder that is a plugin: a mod, and a hook, servers and a program that leave
    marks."""
    hook = {"hooks": [{"type": "command", "command": f"touch MARK-HOOK-{name}"}]}
    server = {"command": "sh", "args": ["-c", f"touch MARK-SERVER-{name}; sleep 5"]}
    language = {
        "command": "sh",
        "args": ["-c", f"touch MARK-LANGUAGE-{name}; sleep 5"],
        # One server for each kind of file; both are among the edits.
        "extensionToLanguage": {".md": "markdown"} if name == "user" else {".txt": "text"},
    }
    files = {
        f"bin/program-{name}": f"#!/bin/sh\ntouch MARK-BIN-{name}\n",
        ".lsp.json": json.dumps({name: language}),
        ".claude-plugin/plugin.json": json.dumps({"name": name, "version": "1.0.0"}),
        "hooks/hooks.json": json.dumps(
            {"hooks": {"SessionStart": [hook]}, "modules": ["./register.ts"]}
        ),
        "hooks/register.ts": MOD,
        ".mcp.json": json.dumps({"mcpServers": {name: server}}),
        "SKILL.md": f"---\nname: {name}\ndescription: SKILL-WORDS-{name}\n---\nBody\n",
    }
    write(folder / ".claude/skills" / name, files)
    (folder / ".claude/skills" / name / f"bin/program-{name}").chmod(0o755)


def write(folder: Path, files: dict[str, str]) -> None:
    """Files below a folder."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def plant(laptop: Laptop) -> None:
    """The user's words and plugin, and a repository's code."""
    root = laptop.repo.root
    plugin(laptop.home, "user")
    plugin(root, "repo")
    write(root, {".claude/agents/evil.md": AGENT})
    laptop.repo.commit({"CLAUDE.md": "WORDS-repo @~/secret.md\n"})
    write(root, {"CLAUDE.local.md": "WORDS-local\n"})
    (root / ".git/info/exclude").write_text("CLAUDE.local.md\n")
    memory = f".claude/projects/{paths.project_key(str(root))}/memory/MEMORY.md"
    write(
        laptop.home,
        {
            ".claude/CLAUDE.md": "WORDS-user @~/notes/style.md\n",
            ".claude/settings.json": json.dumps(
                {"model": "sonnet", "outputStyle": "Mine", "language": "WORDS-language"}
            ),
            ".claude/output-styles/mine.md": STYLE,
            "notes/style.md": "WORDS-imported\n",
            "secret.md": "WORDS-secret\n",
            "CLAUDE.md": "WORDS-above\n",
            memory: "WORDS-memory\n",
        },
    )


def delegate() -> tuple[Turn, ...]:
    """The repository's agent is asked, under either version's name of the tool."""
    given = {"description": "read", "prompt": SUBTASK, "subagent_type": "evil"}
    return (
        Turn(calls=(ToolCall("Agent", given),), unless_offered="Task"),
        Turn(calls=(ToolCall("Task", given),), if_offered="Task"),
    )


SUBAGENT = Scene("sub", (Turn(calls=(read_file("README.md"),)), Turn("Read.")), f"^{SUBTASK}")


def carry_out(result: CaseResult) -> None:
    """A plan is handed off in that repository."""
    laptop = result.laptop
    plant(laptop)
    work: tuple[ToolCall | Turn | str, ...] = (
        *delegate(),
        *EDITS,
        commit("One"),
    )
    laptop.standin.script = Script((SUBAGENT, execution_scene(work, name=result.case.id)))
    laptop.standin.keep_bodies = True
    result.seen["session"] = result.run_through()


CASES = cases("words", carry_out)


@pytest.mark.engine
@looks_at(CASES, "words")
def test_no_code_of_user_or_repository_starts_in_the_box(case: CaseResult) -> None:
    """No mark in the tree, no other model than the receipt's; what stays at home is named."""
    laptop, run = case.laptop, case.run
    assert (run["state"], run["commits"]) == ("done", 1)
    tree = laptop.repo.git("ls-tree", "-r", "--name-only", run["branch"]).splitlines()
    assert [name for name in tree if "MARK" in name] == []
    requests = [r for r in laptop.standin.requests if r.has_tools]
    assert {r.scene for r in requests} == {"sub", case.case.id}
    assert {"sonnet" in r.model for r in requests} == {True}
    receipt = laptop.json("receipt", "last")
    assert receipt["model"] == "sonnet"
    assert receipt["models_asked"] == sorted({r.model for r in requests})
    (told,) = (n for n in receipt["notes"] if "of the skill user" in n)
    parts = (".claude-plugin", ".lsp.json", ".mcp.json", "bin", "hooks")
    assert all(x in told for x in parts)
    (told,) = (n for n in receipt["notes"] if "of the skill repo" in n)
    assert all(x in told for x in parts)


@pytest.mark.engine
@looks_at(CASES, "words")
def test_words_of_the_user_reach_the_box_and_no_commit(case: CaseResult) -> None:
    """Memory, its imports, style and language, what lies beside the repository for the user alone;
    no file of the user's that the repository names."""
    laptop, run = case.laptop, case.run
    asked = json.dumps([r.body for r in laptop.standin.requests if r.scene == case.case.id])
    reached = (
        "user", "imported", "style", "language", "local", "memory", "above", "repo", "secret"
    )  # fmt: skip
    assert [x for x in reached if f"WORDS-{x}" in asked] == list(reached[:-1])
    assert "SKILL-WORDS-user" in asked
    tree = laptop.repo.git("ls-tree", "-r", "--name-only", run["branch"]).splitlines()
    assert [name for name in tree if "local" in name or "MEMORY" in name] == []
    assert any("@~/secret.md of the repository" in n for n in run["notes"])


def test_control_without_the_pins_each_of_them_starts(
    make_laptop: Callable[..., Laptop], standin: StandIn, claude_cli: Path
) -> None:
    """On the host: hooks and servers of both and of the agent, and (newest) the mod's model."""
    laptop = make_laptop(claude_cli)
    plant(laptop)
    marks = " ".join(f"MARK-LANGUAGE-{name}" for name in ("user", "repo"))
    look = f"n=0; for m in {marks}; do until [ -e $m ] || [ $n = 600 ]; do sleep 0.1"
    waits = bash(f"{look}; n=$((n+1)); done; done")
    standin.script = Script(
        (SUBAGENT, execution_scene((*delegate(), *EDITS, waits), match="^carry it out"))
    )
    words = [str(claude_cli), "-p", "carry it out", "--dangerously-skip-permissions"]
    subprocess.run(
        words,
        cwd=laptop.repo.root,
        env={**laptop.env, "IS_SANDBOX": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    )
    assert {name for name in MARKS if (laptop.repo.root / f"MARK-{name}").exists()} == {*MARKS}
    if "2.1.197" not in str(claude_cli):
        models = {r.model for r in standin.requests if r.scene == "execute"}
        assert models == {"claude-haiku-5-5"}
