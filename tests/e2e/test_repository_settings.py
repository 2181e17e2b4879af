"""Hostile and careless settings of a repository, with both real CLIs: none undoes the box.

Each row of docs/repository-settings.md, with the steward's own arguments and settings and without
a container; whole runs are in test_repository_settings_runs.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from plandock.standin import Script, StandIn, ToolCall, bash, commit, execution_scene, write_file
from tests.support import machine
from tests.support.repository import make_repository
from tests.support.steward_here import Outcome, carry_out

pytestmark = [pytest.mark.timeout(1800), pytest.mark.e2e]

LOCAL = ".claude/settings.local.json"
SHARED = ".claude/settings.json"


@dataclass(frozen=True)
class Row:
    """A repository's settings; what is said of them, and what of them shows in the agent's work.

    ``harms``: read by the CLI itself, as a control, they keep the work from being done or its
    model from being the one that was asked for.
    """

    name: str
    settings: Mapping[str, Any] | str
    said: tuple[str, ...] = ()
    results: tuple[str, ...] = ()
    file: str = SHARED
    harms: bool = True


HOSTILE = (
    Row(
        "no-bypass",
        {"permissions": {"disableBypassPermissionsMode": "disable"}},
        ("set aside", "permissions.disableBypassPermissionsMode"),
    ),
    Row(
        "denies-and-asks",
        {"permissions": {"deny": ["Bash", "Edit(**)"], "ask": ["Bash", "Write"]}},
        ("set aside", "the denial of Bash", "the denial of Edit(**)", "permissions.ask"),
    ),
    Row(
        "programs",
        {"env": {"PATH": "/nowhere", "BASH_ENV": "/nowhere", "LD_PRELOAD": "/x.so"}},
        ("env.PATH", "env.BASH_ENV", "env.LD_PRELOAD"),
    ),
    Row(
        "model",
        {"env": {"ANTHROPIC_DEFAULT_SONNET_MODEL": "claude-opus-4-1"}, "model": "opus"},
        ("env.ANTHROPIC_DEFAULT_SONNET_MODEL", "model"),
    ),
    Row(
        "sandbox-and-agent",
        {"sandbox": {"enabled": True, "failIfUnavailable": True}, "agent": "reader"},
        ("sandbox", "agent"),
        file=LOCAL,
    ),
)
CARELESS = (
    Row(
        "guards-secrets",
        {"permissions": {"deny": ["Read(.env)", "Read(/kept/**)", "Bash(rm:*)",
                                  "Bash(git push:*)"]}},
        ("denied in the box too", "Read(.env), Read(/kept/**), Bash(rm:*), Bash(git push:*)"),
        ("Permission to use Bash with command rm .env has been denied",
         "Permission to use Bash with command cat kept/file.txt has been denied"),
        harms=False,
    ),
    Row(
        "test-variables",
        {"env": {"DATABASE_URL": "postgres://here", "DEBUG": "1", "BASH_MAX_TIMEOUT_MS": "300",
                 "BASH_DEFAULT_TIMEOUT_MS": "300"}},
        ("env.BASH_MAX_TIMEOUT_MS, env.BASH_DEFAULT_TIMEOUT_MS",),
        ("db=postgres://here",),
    ),
    Row(
        "plan-mode-by-default",
        {"permissions": {"defaultMode": "plan", "allow": ["Bash(ls:*)"]}, "cleanupPeriodDays": 0,
         "enabledPlugins": {"x@y": True}, "hooks": {"PreToolUse": [{"hooks": [
             {"type": "command", "command": "exit 2"}]}]}},
        ("cleanupPeriodDays", "enabledPlugins"),
        harms=False,
    ),
    Row(
        "asks-before-commits",
        {"permissions": {"ask": ["Bash(git commit:*)"]}, "includeCoAuthoredBy": False},
        ("permissions.ask",),
        file=LOCAL,
    ),
    Row("broken", '{"permissions": {"deny": ["Bash"]},,}', ("all of it (it cannot be read)",),
        harms=False),
)  # fmt: skip
ROWS = (*HOSTILE, *CARELESS)
# With 2.1.197 no pin holds against it (measured).
UNPINNABLE = Row(
    "socket-and-key",
    {"env": {"ANTHROPIC_UNIX_SOCKET": "/tmp/x.sock", "ANTHROPIC_API_KEY": "sk-ant-api03-made-up"}},
)
WORDS = {
    "CLAUDE.md": "WORD-ROOT and @docs/more.md\n",
    "docs/more.md": "WORD-IMPORT and @2.md\n",
    "docs/2.md": "@3.md\n",
    "docs/3.md": "WORD-DEEP\n",
    "CLAUDE.local.md": "WORD-LOCAL\n",
    "sub/CLAUDE.md": "WORD-BELOW\n",
    "sub/file.txt": "text\n",
    "kept/file.txt": "text\n",
    ".claude/rules/rule.md": "WORD-RULE\n",
    ".claude/agents/reader.md": "---\nname: reader\ndescription: WORD-AGENT\ntools: Read\n---\nx\n",
    ".claude/skills/skill/SKILL.md": "---\nname: skill\ndescription: WORD-SKILL\n---\nx\n",
    ".claude/commands/tool.md": "do it\n",
    ".env": "S=1\n",
}
STEPS = (
    write_file("one.txt", "1\n"),
    bash("sleep 1; echo db=$DATABASE_URL"),
    bash("rm .env"),
    bash("cat kept/file.txt"),
    commit("One"),
)


# The agent writes settings where there are none, and goes on.
WRITTEN = {"permissions": {"deny": ["Write"], "ask": ["Bash"]}}
WRITES = (write_file(SHARED, json.dumps(WRITTEN)), bash("sleep 2"), *STEPS)
Steps = tuple[ToolCall, ...]


@dataclass(frozen=True)
class Seen:
    """One run: what the steward said, and what the model was asked."""

    outcome: Outcome
    models: frozenset[str]
    asked: str

    @property
    def is_whole(self) -> bool:
        """Whether the work is committed, by a CLI that asked nobody, on the model asked for."""
        return (
            self.outcome.commits[0] == "One"
            and self.outcome.init.get("permissionMode") == "bypassPermissions"
            and all("sonnet" in name for name in self.models)
            and "db=" in "".join(self.outcome.results)
        )


def see(
    cli: Path, folder: Path, row: Row | None, *, old: bool = False, steps: Steps = STEPS
) -> Seen:
    """Carry a plan out in a repository with these settings."""
    repo = make_repository(folder / "project").root
    files = dict(WORDS)
    if row is not None:
        text = row.settings if isinstance(row.settings, str) else json.dumps(row.settings)
        files[row.file] = text
    for name, text in files.items():
        (repo / name).parent.mkdir(parents=True, exist_ok=True)
        (repo / name).write_text(text)
    script = Script((execution_scene(steps, match=".*"),))
    with StandIn(script, keep_bodies=True) as standin:
        outcome = carry_out(cli, folder, repo, standin.url, "sonnet", old)
        asked = [r for r in standin.requests if r.has_tools]
    kept = row is None or (repo / row.file).read_text() == files[row.file]
    assert kept, "the repository's own file was changed"
    bodies = json.dumps([r.body for r in asked])
    return Seen(outcome, frozenset(r.model for r in asked), bodies)


@pytest.fixture(scope="module", params=list(machine.CLI_VERSIONS))
def seen(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Seen]]:
    """Every row, with one version of the CLI; with the newest the controls as well."""
    cli = machine.claude_cli(request.param)
    wanted: dict[str, tuple[Row | None, bool]] = {row.name: (row, False) for row in ROWS}
    wanted["none"] = (None, True)
    if request.param == "newest":
        wanted |= {f"{row.name}, read": (row, True) for row in ROWS if row.harms}
    else:
        wanted |= {"socket-and-key, read": (UNPINNABLE, True)}
    with ThreadPoolExecutor(3) as pool:
        jobs = {
            name: pool.submit(see, cli, tmp_path_factory.mktemp("row"), row, old=old)
            for name, (row, old) in wanted.items()
        }
        if request.param == "newest":
            folder = tmp_path_factory.mktemp("row")
            jobs["written"] = pool.submit(see, cli, folder, None, steps=WRITES)
        yield {name: job.result() for name, job in jobs.items()}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_no_settings_of_a_repository_undo_the_box(seen: dict[str, Seen], row: Row) -> None:
    """The work is committed without a question on the model asked for; what became of the
    settings is said.  The control: read by the CLI, the harmful ones do harm."""
    found = seen[row.name]
    assert found.is_whole, (found.outcome.results, found.models, found.outcome.init)
    assert found.outcome.why == ""
    assert all(words in found.outcome.said for words in row.said), found.outcome.said
    told = "\n".join(found.outcome.results)
    assert all(words in told for words in row.results), told
    if control := seen.get(f"{row.name}, read"):
        assert not control.is_whole, (control.outcome.results, control.models)


def test_settings_that_the_agent_writes_do_not_count(seen: dict[str, Seen]) -> None:
    """Nor do they where there were none: the newest would take them up while it works."""
    found = seen.get("written", seen["none"])
    assert found.is_whole, found.outcome.results


def test_what_is_behind_it_holds_too(seen: dict[str, Seen]) -> None:
    """Were the settings read all the same, the first message would end the run: once, before the
    model has said a word, with its mode, or with who would pay."""
    if "no-bypass, read" in seen:
        found = seen["no-bypass, read"]
        assert (found.outcome.why, found.outcome.results) == ("mode", [])
        assert found.outcome.init["permissionMode"] == "default"
    else:
        found = seen["socket-and-key, read"]
        assert (found.outcome.why, found.outcome.results) == ("billing", [])
        assert found.models == frozenset()


def test_the_words_of_a_project_arrive_without_its_settings(seen: dict[str, Seen]) -> None:
    """What the CLI finds where there are no settings it gets where there are some: memory with
    its imports, rules, agents, skills, commands."""
    native, given = seen["none"], seen["model"]
    words = {"ROOT", "IMPORT", "DEEP", "LOCAL", "RULE", "AGENT", "SKILL"}
    for found in (native, given):
        assert {w for w in words if f"WORD-{w}" in found.asked} == words
        assert "tool" in found.outcome.init["slash_commands"]
        assert "reader" in found.outcome.init["agents"]
        assert "WORD-BELOW" not in found.asked
    assert native.outcome.said == ""
