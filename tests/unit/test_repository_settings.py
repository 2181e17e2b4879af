"""What of a repository's settings counts in the box: nothing that stands on no list."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plandock.settings import project
from plandock.settings.inside import repository_settings
from plandock.settings.inside.repository_settings import Judged, holds, is_harmless, judge, merged

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
# Everything that may ever reach the CLI.
CARRIED = {
    "env", "permissions", "attribution", "includeCoAuthoredBy", "respectGitignore", "language",
    "outputStyle",
}  # fmt: skip


def of(settings: dict[str, Any], taken: tuple[str, ...] = ()) -> Judged:
    """The judgement on one file of the project at /r/p."""
    return judge(settings, "/r/p/.claude/settings.json", "/r/p", taken)


@pytest.mark.parametrize(
    "settings",
    [
        {"permissions": {"disableBypassPermissionsMode": "disable"}},
        {"permissions": {"ask": ["Bash"]}},
        {"permissions": {"some": "later key"}},
        {"permissions": "all"},
        {"sandbox": {"enabled": True}},
        {"model": "opus"},
        {"availableModels": ["haiku"]},
        {"agent": "reader"},
        {"apiKeyHelper": "echo"},
        {"cleanupPeriodDays": 0},
        {"forceLoginOrgUUID": "x"},
        {"outputStyle": " Learning"},
        {"outputStyle": 1},
        {"language": "x" * 3000},
        {"attribution": {"commit": 1}},
        {"someLaterKey": {"a": 1}},
        {"env": ["PATH=/x"]},
        {"env": {"PATH": "/x"}},
    ],
    ids=json.dumps,
)
def test_what_stands_on_no_list_does_nothing_and_is_named(settings: dict[str, Any]) -> None:
    """It reaches the CLI in no form; a name is said, never a value."""
    judged = of(settings)
    assert merged([judged]) == {}
    assert len(judged.aside) == 1


@given(st.dictionaries(st.text() | st.sampled_from(sorted(CARRIED)), JSON, max_size=5))
def test_nothing_else_ever_reaches_the_cli(settings: dict[str, Any]) -> None:
    """Whatever a file holds."""
    carried = merged([of(settings)])
    assert set(carried) <= CARRIED
    assert set(carried.get("permissions", {})) <= {"deny"}
    assert all(is_harmless(n) and isinstance(v, str) for n, v in carried.get("env", {}).items())


def test_what_the_project_needs_counts() -> None:
    """Variables of its tests, its own words on commits, what it denies; local files go before."""
    env = {"DATABASE_URL": "a", "PORT": 1, "TAKEN": "x"}
    denied = {"deny": ["Read(.env)"]}
    shared = of({"env": env, "permissions": denied, "language": "de"}, ("TAKEN",))
    local = of(
        {
            "env": {"DATABASE_URL": "b"},
            "attribution": {"commit": "", "pr": ""},
            "permissions": {"deny": ["Read(.env)", "WebFetch"]},
        }
    )
    assert merged([shared, local]) == {
        "env": {"DATABASE_URL": "b", "PORT": "1"},
        "permissions": {"deny": ["Read(.env)", "WebFetch"]},
        "attribution": {"commit": "", "pr": ""},
        "language": "de",
    }
    assert (shared.aside, local.aside) == (["env.TAKEN"], [])


@pytest.mark.parametrize(
    "name",
    [
        "PATH", "HOME", "SHELL", "TMPDIR", "LD_PRELOAD", "NODE_OPTIONS", "BASH_ENV", "GIT_DIR",
        "CLAUDE_CODE_EFFORT_LEVEL", "CLAUDE_CODE_SUBAGENT_MODEL", "CLAUDE_CODE_MAX_OUTPUT_TOKENS",
        "HTTPS_PROXY", "ANTHROPIC_MODEL", "ANTHROPIC_SMALL_FAST_MODEL", "MAX_THINKING_TOKENS",
        "ANTHROPIC_DEFAULT_OPUS_MODEL", "BASH_DEFAULT_TIMEOUT_MS", "BASH_MAX_OUTPUT_LENGTH",
        "DISABLE_PROMPT_CACHING", "DISABLE_COMPACT", "ENABLE_TOOL_SEARCH", "MCP_TIMEOUT",
        "API_TIMEOUT_MS", "IS_SANDBOX", "USE_BUILTIN_RIPGREP", "OTEL_LOG_USER_PROMPTS", "TERM",
        "FORCE_CODE_TERMINAL", "SLASH_COMMAND_TOOL_CHAR_BUDGET", "TASK_MAX_OUTPUT_LENGTH",
        "SHELLOPTS", "BASHOPTS", "EXECIGNORE", "GLOBIGNORE", "POSIXLY_CORRECT", "TMOUT", "PS4",
        "IFS",
        "GCONV_PATH", "LOCPATH", "NLSPATH", "BASH_FUNC_ls%%", "DYLD_INSERT_LIBRARIES", "FUNCNEST",
        "BUN_OPTIONS", "CCR_FORCE_BUNDLE", "path", "A=B", "", "x y", "USER", "PLANDOCK_BOX",
    ],
)  # fmt: skip
def test_a_variable_that_decides_about_box_or_cli_does_not_count(name: str) -> None:
    """By name; the controls are the ordinary ones of a project."""
    assert not is_harmless(name)
    ordinary = ("DATABASE_URL", "DEBUG", "CI", "APP_ENV", "LC_ALL", "TZ", "FORCE_COLOR")
    assert [n for n in ordinary if not is_harmless(n)] == []


@pytest.mark.parametrize(
    "rule",
    [
        "Read(.env)", "Read(./secrets/**)", "Edit(src/generated/**)", "Write(/etc/**)",
        "Read(//etc/passwd)", "Read(~/.ssh/**)", "Read(**/*.pem)", "WebFetch", "WebSearch",
        "WebFetch(domain:x.example)", "mcp__github__*", "Bash(rm:*)", "Bash(rm -rf *)",
        "Bash(git push:*)", "Bash(git push)", "Bash(git reset --hard:*)", "Bash(curl *)",
        "Bash(npm publish)", "Agent(Explore)", "Read(//r/p/**/*.pem)", "Edit(//r/p/gen*/**)",
    ],
)  # fmt: skip
def test_a_denial_of_a_part_holds(rule: str) -> None:
    """A secret, a command, the web."""
    assert holds(rule, "/r/p")


@pytest.mark.parametrize(
    "rule",
    [
        "Bash", "Bash(*)", "Bash(:*)", "Bash(**)", "Bash()", "Edit", "Write", "Read", "*", "",
        "Edit(**)", "Edit(*)", "Edit(/**)", "Edit(./**)", "Edit(**/*)", "Edit([!x]*)", "Read(~/**)",
        "Edit(//r/p/**)", "Edit(//r/**)", "Edit(//**)", "Edit(//r/p)", "Edit(//r/p*)",
        "Edit(//r/?/*)",
        "Bash(git:*)", "Bash(git *)",
        "Bash(git commit:*)", "Bash(git add -A)", "Bash(git -C . commit)", "Bash(/usr/bin/git:*)",
        "Bash(g*)", "Bash(bash:*)", "Bash(/bin/sh -c *)", "Bash(cd:*)", "Agent", "Task", "SomeTool",
        "SomeTool(x)", "Bash(rm", 7, None, ["Bash"], "Read(" + "x" * 2000 + ")",
    ],
)  # fmt: skip
def test_a_denial_of_what_every_run_needs_does_not_hold(rule: object) -> None:
    """Nor one that is not understood."""
    assert not holds(rule, "/r/p")


def test_a_denial_from_the_projects_root_is_given_as_an_absolute_path() -> None:
    """The CLI counts ``/x`` from the settings' own project; said is what the file says."""
    rules = ["Read(/secret/**)", "Edit(/**/*.pem)", "Bash(/bin/x:*)", "Read(//etc/x)", "Read(x/**)"]
    judged = of({"permissions": {"deny": [*rules, "Edit(/**)", "Edit(/*)"]}})
    assert judged.stands == rules
    assert judged.aside == ["the denial of Edit(/**)", "the denial of Edit(/*)"]
    given = ["Read(//r/p/secret/**)", "Edit(//r/p/**/*.pem)", *rules[2:]]
    assert merged([judged]) == {"permissions": {"deny": given}}
    # Of the top's own file, where the plan is for a folder below: not that whole folder.
    above = judge({"permissions": {"deny": ["Edit(/p/**)", "Edit(/q/**)"]}},
                  "/r/.claude/settings.local.json", "/r/p")  # fmt: skip
    assert merged([above]) == {"permissions": {"deny": ["Edit(//r/q/**)"]}}


@pytest.mark.parametrize("kind", ["broken", "list", "pipe", "folder", "link", "huge"])
def test_a_file_that_cannot_be_read_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """It is set aside as a whole, and nobody waits for a pipe."""
    folder = tmp_path / ".claude"
    folder.mkdir()
    file = folder / "settings.json"
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    elif kind == "link":
        file.symlink_to("nowhere")
    else:
        file.write_text({"broken": "{", "list": "[]", "huge": "{}"}[kind])
    monkeypatch.setattr(repository_settings, "LARGEST", 1 if kind == "huge" else 100)
    (judged,) = repository_settings.judge_folder(str(tmp_path))
    assert merged([judged]) == {}
    assert judged.aside[0].startswith("all of it")


def test_a_hostile_name_cannot_write_on_the_terminal(tmp_path: Path) -> None:
    """Names are spelled out and bounded, and so is their number."""
    (tmp_path / ".claude").mkdir()
    names = {f"\x1b[2J\n{n}" + "x" * 500: 1 for n in range(48)}
    (tmp_path / ".claude" / "settings.json").write_text(json.dumps(names))
    (line,) = project.in_the_box(tmp_path)
    assert line.isascii()
    assert line.isprintable()
    assert "and 18 more" in line
    assert len(line) < 3000


def test_of_a_file_that_git_ignores_it_is_said_that_it_stays(tmp_path: Path) -> None:
    """Nothing in it is denied in the box, or set aside there."""
    (tmp_path / ".claude").mkdir()
    for name in repository_settings.FILES:
        (tmp_path / ".claude" / name).write_text('{"permissions": {"deny": ["Read(.env)"]}}')
    told = project.in_the_box(tmp_path, lambda file: file.endswith(".local.json"))
    assert told == [
        "denied in the box too, as .claude/settings.json says: Read(.env)",
        "not in the box: .claude/settings.local.json (git ignores it; `carry` takes such files "
        "along)",
    ]


def test_files_above_the_folder_are_seen_to_as_well(tmp_path: Path) -> None:
    """2.1.332 reads the local one of the repository's top; the others are set aside unread."""
    (tmp_path / ".git").mkdir()
    cwd = tmp_path / "packages" / "api"
    for folder in (tmp_path, cwd.parent, cwd):
        (folder / ".claude").mkdir(parents=True)
        for name in repository_settings.FILES:
            text = json.dumps({"env": {f"N{len(folder.parts)}_{len(name)}": "1"}, "x": 1})
            (folder / ".claude" / name).write_text(text)
    found = repository_settings.judge_folder(str(cwd))
    above = "all of it (it lies above the folder of the plan)"
    assert [j.aside for j in found] == [[above], ["x"], [above], [above], ["x"], ["x"]]
    assert len(merged(found)["env"]) == 3
    (tmp_path / ".git").rmdir()
    assert len(repository_settings.judge_folder(str(cwd))) == 2
