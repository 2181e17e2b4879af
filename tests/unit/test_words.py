"""The project's words in the CLI's own folder, where the project's settings are not read."""

from __future__ import annotations

import importlib.util
import os
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
    own = config / "rules" / "plandock"
    assert [p.resolve() for p in sorted(own.glob("0*"))] == [
        top / "CLAUDE.md",
        cwd / "AGENTS.md",
        cwd / "CLAUDE.local.md",
    ]
    (below,) = own.glob("below-*")
    assert '  - "sub/**"' in below.read_text()
    assert below.read_text().endswith("sub/CLAUDE.md")


@pytest.mark.parametrize("name", ["plandock-000.md", "plandock", "plandock/000-CLAUDE.md"])
@pytest.mark.parametrize("kind", ["link", "file", "folder", "dangling", "into itself"])
def test_no_name_in_the_repository_is_taken_or_written_through(
    words: ModuleType, tmp_path: Path, name: str, kind: str
) -> None:
    """What is written has names of its own, and what stands at the repository's stays."""
    repo, config = tmp_path / "repo", tmp_path / "config"
    subprocess.run(["git", "init", "-q", str(repo)], check=True)
    write(repo, "CLAUDE.md", "src/app.py", "sub/CLAUDE.md")
    subprocess.run(["git", "-C", str(repo), "add", "-A"], check=True)
    for place in (repo / ".claude/rules" / name, repo / ".claude/rules/plandock-below-000.md"):
        place.parent.mkdir(parents=True, exist_ok=True)
        if kind == "file":
            place.write_text("mine")
        elif kind == "folder":
            place.mkdir()
            (place / "a.md").write_text("mine")
        else:
            places: dict[str, str | Path] = {
                "link": repo / "src/app.py",
                "dangling": "/nowhere/x",
                "into itself": ".",
            }
            place.symlink_to(places[kind])
    before = {p: p.read_bytes() for p in repo.rglob("*") if p.is_file()}
    assert words.lay_out([str(repo)], str(config)) == []
    assert {p: p.read_bytes() for p in repo.rglob("*") if p.is_file()} == before
    resolved = {p.resolve() for p in (config / "rules").glob("*/0*") if not p.is_dir()}
    assert repo / "CLAUDE.md" in resolved
    assert [p.read_text()[-13:] for p in (config / "rules").glob("*/below-*")] == ["sub/CLAUDE.md"]


def test_what_cannot_be_laid_is_said(
    words: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends nothing, and the rest is laid."""
    write(tmp_path, "CLAUDE.md", ".claude/rules/a.md", ".claude/rules/b\x1b.md", ".claude/agents")
    lay = os.symlink

    def refuse(target: str, place: str) -> None:
        if place.endswith("\x1b.md"):
            raise OSError
        lay(target, place)

    monkeypatch.setattr(words.os, "symlink", refuse)
    said = words.lay_out([str(tmp_path)], str(tmp_path / "config"))
    assert said == ["not given to the box's agent, of the project's rules: b\\x1b.md"]
    assert sorted(p.name for p in (tmp_path / "config/rules").iterdir()) == ["a.md", "plandock"]


def test_nothing_is_lost_where_user_and_project_have_one_name(
    words: ModuleType, tmp_path: Path
) -> None:
    """Both rules, both commands of one folder; of one agent the project's, of one skill the
    user's."""
    repo, config = tmp_path / "repo", tmp_path / "config"
    for root, who in ((repo / ".claude", "the project's"), (config, "the user's")):
        write(root, "rules/style.md", f"commands/git/{who[4]}.md", "commands/same.md")
        write(root, "skills/sk/SKILL.md", "rules/deep/x.md")
        agents = {"same.md": f"{who} own", f"{who[4]}/rev.md": "reviewer"}
        for file, name in agents.items():
            (root / "agents" / file).parent.mkdir(parents=True, exist_ok=True)
            text = f"---\ndescription: x\nname: {name}\n---\n"
            (root / "agents" / file).write_text(text)
    assert words.lay_out([str(repo)], str(config)) == []

    def laid(kind: str) -> dict[str, bool]:
        files = (p for p in (config / kind).rglob("*") if p.is_file())
        found = {str(p.relative_to(config / kind)): p.resolve() for p in files}
        return {name: path.is_relative_to(repo) for name, path in found.items()}

    assert laid("rules") == {"style.md": True, "2-style.md": False, "deep/x.md": True,
                             "deep/2-x.md": False}  # fmt: skip
    assert laid("commands") == {"git/p.md": True, "git/u.md": False, "same.md": True}
    assert laid("agents") == {"same.md": True, "2-same.md": False, "p/rev.md": True}
    assert not (config / "skills/sk").resolve().is_relative_to(repo)


def test_a_folder_below_has_a_pattern_that_names_it(words: ModuleType, tmp_path: Path) -> None:
    """Where its name has characters that mean something in a pattern."""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    write(tmp_path, "app/[id]/CLAUDE.md")
    subprocess.run(["git", "-C", str(tmp_path), "add", "-A"], check=True)
    words.lay_out([str(tmp_path)], str(tmp_path / "config"))
    (below,) = (tmp_path / "config/rules/plandock").iterdir()
    assert '  - "app/?id?/**"' in below.read_text()


def test_words_of_folders_below_come_along(
    words: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory with what it imports of the repository, and rules, for their own folder; skills."""
    repo, config = tmp_path / "repo", tmp_path / "config"
    subprocess.run(["git", "init", "-q", str(repo)], check=True)
    below = ("a/.claude/rules/r.md", "b/c/.claude/CLAUDE.md", "b/c/CLAUDE.md")
    skills = [f"{x}.claude/skills/s/SKILL.md" for x in ("", "a/", "b/c/")]
    write(repo, *below, *skills, "b/more.md", "b/deep.md", "b/data.json")
    (repo / below[0]).write_text('---\npaths: "*.py"\n---\nA rule\n')
    (repo / below[2]).write_text("See @../more.md, @../../../secret.md and @../data.json\n")
    (repo / "b/more.md").write_text("MORE @deep.md @more.md\n")
    write(tmp_path, "secret.md")
    subprocess.run(["git", "-C", str(repo), "add", "-A"], check=True)
    assert words.lay_out([str(repo)], str(config)) == []
    laid = [p.read_text() for p in sorted((config / "rules/plandock").iterdir())]
    assert [x.split('"')[1] for x in laid] == ["a/**", "b/c/**", "b/c/**"]
    assert laid[0].endswith("---\n\nThis is a/.claude/rules/r.md:\n\nA rule\n")
    assert laid[2].count("Contents of") == 2
    assert laid[2].endswith("Contents of b/deep.md:\n\nb/deep.md")
    found = {p.name: p.resolve() for p in (config / "skills").iterdir()}
    names = ("s", "a-s", "b-c-s")
    assert found == {n: (repo / s).parent for n, s in zip(names, skills, strict=True)}
    monkeypatch.setattr(words, "_MOST_NESTED", 1)
    said = words.lay_out([str(repo)], str(tmp_path / "other"))
    assert said == [
        f"not given to the box's agent, of the project's {kind}: {n} files of folders below"
        for kind, n in (("skills", 1), ("rules", 2))
    ]


def test_a_skill_that_is_a_plugin_comes_without_its_code(words: ModuleType, tmp_path: Path) -> None:
    """Its words alone."""
    skill = ".claude/skills/x/"
    write(tmp_path, *(skill + n for n in ("SKILL.md", ".claude-plugin/plugin.json", "hooks/h.json",
                                          ".mcp.json", "bin/run", "notes/a.md")))  # fmt: skip
    config = tmp_path / "config"
    said = words.lay_out([str(tmp_path)], str(config))
    laid = sorted(p.name for p in (config / "skills" / "x").iterdir())
    assert laid == ["SKILL.md", "notes"]
    parts = ".claude-plugin, .mcp.json, bin, hooks"
    assert said == [f"left out in the box, of the skill x: {parts} (it is code)"]
