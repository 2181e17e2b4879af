"""The project's words in the CLI's own folder, where the project's settings are not read."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

import plandock


@pytest.fixture
def words() -> ModuleType:
    """The module as it lies in the image."""
    place = Path(plandock.__file__).parent / "box" / "inside" / "words.py"
    spec = importlib.util.spec_from_file_location("words_by_itself", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(root: Path, *names: str) -> None:
    """Files that hold their own names."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


def test_words_are_links_beside_the_users_own(words: ModuleType, tmp_path: Path) -> None:
    """The nearer folder goes before the farther, the project before the user; the work tree and
    the user's folder stay as they are."""
    top, user, config = tmp_path / "my repo", tmp_path / "user", tmp_path / "config"
    cwd = top / "packages" / "api"
    write(user, "agents/a.md", "agents/own.md")
    write(
        top, ".claude/agents/a.md", ".claude/agents/b.md", "CLAUDE.md", ".claude/skills/s/SKILL.md"
    )
    write(cwd, ".claude/agents/b.md", "AGENTS.md", "CLAUDE.local.md", "sub/CLAUDE.md")
    subprocess.run(["git", "init", "-q", str(top)], check=True)
    subprocess.run(["git", "-C", str(top), "add", "-A"], check=True)
    config.mkdir()
    (config / "agents").symlink_to(user / "agents")
    words.lay_out([str(top), str(cwd.parent), str(cwd)], str(config))
    agents = {p.name: p.resolve() for p in (config / "agents").iterdir()}
    assert agents == {
        "a.md": top / ".claude/agents/a.md",
        "b.md": cwd / ".claude/agents/b.md",
        "own.md": user / "agents/own.md",
    }
    assert sorted(p.name for p in (user / "agents").iterdir()) == ["a.md", "own.md"]
    assert (config / "skills/s").resolve() == top / ".claude/skills/s"
    rules = [p.read_text() for p in sorted((config / "rules").glob("plandock-0*"))]
    escaped = str(top).replace(" ", "\\ ")
    assert rules == [
        f"@{escaped}/CLAUDE.md\n",
        f"@{escaped}/packages/api/AGENTS.md\n",
        f"@{escaped}/packages/api/CLAUDE.local.md\n",
    ]
    (below,) = (config / "rules").glob("plandock-below-*")
    assert '  - "sub/**"' in below.read_text()
    assert below.read_text().endswith("sub/CLAUDE.md")


def test_a_skill_that_is_a_plugin_comes_without_its_code(words: ModuleType, tmp_path: Path) -> None:
    """Its words alone."""
    skill = ".claude/skills/x/"
    write(tmp_path, *(skill + n for n in ("SKILL.md", ".claude-plugin/plugin.json", "hooks/h.json",
                                          ".mcp.json", "bin/run", "notes/a.md")))  # fmt: skip
    config = tmp_path / "config"
    words.lay_out([str(tmp_path)], str(config))
    laid = sorted(p.name for p in (config / "skills" / "x").iterdir())
    assert laid == ["SKILL.md", "notes"]
