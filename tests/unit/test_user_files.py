"""What of the user's own files a box gets: words that are the user's, and no code."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from plandock import paths
from plandock.claude import carrying, user_files
from plandock.claude.carrying import Carrier
from plandock.claude.front_matter import without_code
from plandock.claude.user_files import carry
from tests.support.repository import Repository

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n"
TOKEN = "sk-ant-oat01-" + "made-up-" * 6


class World:
    """A user's home with a repository in it."""

    def __init__(self, home: Path, make_repo: Callable[..., Repository]) -> None:
        self.home, self.config = home, home / ".claude"
        self.repo = make_repo("place/project", {"README.md": "x\n", ".gitignore": "*.local.md\n"})

    def write(self, files: dict[str, str]) -> None:
        """Files below the home folder."""
        for name, text in files.items():
            path = self.home / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def carried(self, cwd: Path | None = None) -> Carrier:
        """What goes along from there."""
        root = self.repo.root
        return carry(config_dir=self.config, repo=root, cwd=cwd or root, snapshot="HEAD")

    def texts(self, cwd: Path | None = None) -> str:
        """Everything that goes along, as one text."""
        return "\n".join(x.decode("utf-8", "replace") for x in self.carried(cwd).files.values())


@pytest.fixture
def world(home: Path, make_repo: Callable[..., Repository]) -> World:
    """A home of its own."""
    return World(home, make_repo)


def said(carrier: Carrier) -> str:
    """What it says that stays at home."""
    return "\n".join(carrier.left)


def test_memory_goes_along_and_settings_stay(world: World) -> None:
    """CLAUDE.md, agents, skills, commands, rules by allowlist; hooks, MCP and the login never."""
    words = ("CLAUDE.md", "agents/a.md", "skills/s/SKILL.md", "skills/s/scripts/do.sh",
             "commands/x/c.md", "rules/r.md", "output-styles/o.md")  # fmt: skip
    others = ("settings.json", ".credentials.json", "plugins/p.md", "hooks/h.sh", "history.jsonl")
    world.write({f".claude/{name}": "x" for name in (*words, *others)})
    assert set(world.carried().files) == {f"user/{name}" for name in words}


def test_imports_of_the_users_memory_go_along_and_are_named_anew(world: World) -> None:
    """From the home folder, by an absolute path, beside the file, from an import; not from code."""
    world.write(
        {
            ".claude/CLAUDE.md": "See @~/notes/style.md and @beside.md and `@~/notes/code.md`.\n"
            f"@{world.home}/absolute.txt\nmail me@example.com or @nobody\n"
            "```\n@~/notes/code.md\n```\n",
            ".claude/beside.md": "BESIDE\n",
            "notes/style.md": "STYLE @deeper.md\n",
            "notes/deeper.md": "DEEPER @style.md\n",
            "notes/code.md": "CODE\n",
            "absolute.txt": "ABSOLUTE\n",
            ".claude/rules/sub/r.md": "RULE @~/notes/style.md\n",
        }
    )
    files = world.carried().files
    text = files["user/CLAUDE.md"].decode()
    assert "CODE" not in world.texts()
    assert {x for x in ("STYLE", "DEEPER", "BESIDE", "ABSOLUTE") if x in world.texts()} == {
        "STYLE", "DEEPER", "BESIDE", "ABSOLUTE",
    }  # fmt: skip
    assert "`@~/notes/code.md`" in text
    assert "me@example.com or @nobody" in text
    names = {place.rpartition("/")[2] for place in files if "plandock-imports" in place}
    (style,) = (n for n in names if n.endswith("style.md"))
    assert f"@plandock-imports/{style}" in text
    assert f"@../../plandock-imports/{style}" in files["user/rules/sub/r.md"].decode()
    (deeper,) = (n for n in names if n.endswith("deeper.md"))
    assert f"@./{deeper}" in files[f"user/plandock-imports/{style}"].decode()


def test_texts_with_a_place_of_their_own_are_not_laid_twice(world: World) -> None:
    """CLAUDE.md and the rules, where an import names them; a rule's link elsewhere is no rule."""
    world.write(
        {
            ".claude/CLAUDE.md": "MEMORY @a.md @rules/style.md @~/notes/b.md\n",
            ".claude/a.md": "IMPORTED @CLAUDE.md @rules/sub/deep.md\n",
            ".claude/rules/style.md": "STYLE @sub/deep.md\n",
            ".claude/rules/sub/deep.md": "DEEP @../../CLAUDE.md\n",
            "notes/b.md": "LINKED\n",
        }
    )
    (world.config / "rules/link.md").symlink_to(world.home / "notes/b.md")
    files = world.carried().files
    text = world.texts()
    words = ("MEMORY", "IMPORTED", "STYLE", "DEEP", "LINKED")
    assert {w: text.count(w) for w in words} == dict.fromkeys(words, 1)
    (a,) = (place for place in files if place.endswith("-a.md"))
    assert b"@../CLAUDE.md @../rules/sub/deep.md" in files[a]
    assert b"@rules/style.md" in files["user/CLAUDE.md"]
    assert b"@sub/deep.md" in files["user/rules/style.md"]
    assert b"@../../CLAUDE.md" in files["user/rules/sub/deep.md"]


def test_what_is_the_users_alone_beside_the_repository_goes_along_as_memory(world: World) -> None:
    """CLAUDE.local.md at each level, MEMORY.md and its files, the CLAUDE.md of folders above.

    None of it lies in the workspace, where it could end up in a commit.
    """
    root = world.repo.root
    (root / "packages/api").mkdir(parents=True)
    (root / "CLAUDE.local.md").write_text("LOCAL @~/notes/mine.md\n")
    (root / "packages/api/CLAUDE.local.md").write_text("NESTED\n")
    (root.parent / "CLAUDE.md").write_text("ABOVE\n")
    memory = f".claude/projects/{paths.project_key(str(root))}/memory"
    world.write(
        {"notes/mine.md": "MINE\n", f"{memory}/MEMORY.md": "MEMO\n", f"{memory}/a.md": "A\n"}
    )
    carrier = world.carried(root / "packages/api")
    text = world.texts(root / "packages/api")
    assert all(x in text for x in ("LOCAL", "NESTED", "ABOVE", "MINE", "MEMO"))
    assert {
        f"projects/{paths.project_key(str(root))}/memory/{n}" for n in ("MEMORY.md", "a.md")
    } < {*carrier.files}
    assert {place.split("/")[0] for place in carrier.files} == {"user", "projects"}
    assert carrier.left == []


def test_memory_follows_the_users_settings(world: World) -> None:
    """Kept elsewhere, or switched off."""
    world.write({"memos/MEMORY.md": "MEMO\n"})
    world.write({".claude/settings.json": '{"autoMemoryDirectory": "~/memos"}'})
    assert "MEMO" in world.texts()
    off = '{"autoMemoryDirectory": "~/memos", "autoMemoryEnabled": false}'
    world.write({".claude/settings.json": off})
    assert world.carried().files == {}


def test_memory_of_the_main_work_tree_is_that_of_a_linked_one(world: World) -> None:
    """As the CLI has it; in the box it lies under the linked one's own key."""
    linked = world.repo.root.parent / "linked"
    world.repo.git("worktree", "add", "-q", str(linked))
    memory = f".claude/projects/{paths.project_key(str(world.repo.root))}/memory"
    world.write({f"{memory}/MEMORY.md": "MEMO\n"})
    files = carry(config_dir=world.config, repo=linked, cwd=linked, snapshot="HEAD").files
    assert files == {f"projects/{paths.project_key(str(linked))}/memory/MEMORY.md": b"MEMO\n"}


def test_local_memory_that_the_snapshot_holds_is_not_carried_twice(world: World) -> None:
    """A committed CLAUDE.local.md is the repository's word: its imports are not followed."""
    world.write({"notes/mine.md": "MINE\n"})
    (world.repo.root / "CLAUDE.local.md").write_text("LOCAL @~/notes/mine.md\n")
    world.repo.git("add", "-f", "CLAUDE.local.md")
    world.repo.git("commit", "-qm", "x")
    assert world.carried().files == {}


@pytest.mark.parametrize("named", ["@~/secret.md", "@../../secret.md", "@/{home}/secret.md"])
def test_what_a_repository_imports_from_outside_stays_and_is_named(
    world: World, named: str
) -> None:
    """Its own CLAUDE.md may not reach for the user's files."""
    world.write({"secret.md": "SECRET\n"})
    target = os.path.relpath(world.home / "secret.md", world.repo.root)
    named = named.replace("../../secret.md", target).replace("/{home}", str(world.home))
    world.repo.commit({"CLAUDE.md": f"See {named}\n"})
    assert "SECRET" not in world.texts()
    assert "of the repository's CLAUDE.md: it lies outside of it" in said(world.carried())


def test_another_repository_above_may_name_nothing_of_the_users(world: World) -> None:
    """The folder above belongs to a repository: its words go along, what they import does not."""
    above = world.repo.root.parent
    (above / ".git").mkdir()
    world.write({"secret.md": "SECRET\n"})
    (above / "CLAUDE.md").write_text("ABOVE @~/secret.md\n")
    (above / "CLAUDE.local.md").symlink_to(world.home / "secret.md")
    text = world.texts()
    assert "ABOVE" in text
    assert "SECRET" not in text
    assert "a link leads out" in said(world.carried())


@pytest.mark.parametrize(
    "name", [".ssh/id_rsa.md", ".aws/notes.md", "keys/x.pem", ".env", "x.json"]
)
def test_import_of_a_secret_place_stays(world: World, name: str) -> None:
    """Even where the user's own memory names it."""
    world.write({".claude/CLAUDE.md": f"OWN @~/{name}\n", name: "SECRET\n"})
    assert "OWN" in world.texts()
    assert "SECRET" not in world.texts()
    assert f"@~/{name} of CLAUDE.md" in said(world.carried())


@pytest.mark.parametrize(
    "place", ["agents/a.md", "skills/s/more.md", "rules/r.md", "commands/c.md"]
)
@pytest.mark.parametrize("target", [".ssh/id_rsa", "elsewhere/x.md"])
def test_link_out_of_a_folder_of_words_stays(world: World, place: str, target: str) -> None:
    """Whatever it leads to."""
    world.write({target: "SECRET\n", ".claude/skills/s/SKILL.md": "x", f".claude/{place}": ""})
    link = world.config / place
    link.unlink()
    link.symlink_to(world.home / target)
    assert "SECRET" not in world.texts()
    assert str(link) in said(world.carried())


def test_the_users_own_links_to_where_they_keep_things_are_followed(world: World) -> None:
    """CLAUDE.md and a skill's folder may lie among the user's dotfiles."""
    world.write({"dotfiles/CLAUDE.md": "OWN @more.md\n", "dotfiles/more.md": "MORE\n"})
    world.write({"dotfiles/s/SKILL.md": "SKILL\n", ".claude/skills/.keep": ""})
    (world.config / "CLAUDE.md").symlink_to(world.home / "dotfiles/CLAUDE.md")
    (world.config / "skills/s").symlink_to(world.home / "dotfiles/s")
    assert all(x in world.texts() for x in ("OWN", "MORE", "SKILL"))


@pytest.mark.parametrize("name", ["skills/x", "agents", "commands", "rules", "output-styles"])
def test_folder_that_is_a_link_to_logins_stays(world: World, name: str) -> None:
    """None of its files goes along, whatever it is called."""
    world.write({".ssh/config": "SECRET\n", ".ssh/notes.md": "SECRET\n", ".claude/skills/.k": ""})
    (world.config / name).symlink_to(world.home / ".ssh")
    assert "SECRET" not in world.texts()
    assert "may hold a login" in said(world.carried())


def test_credentials_in_words_are_blanked_and_files_with_keys_stay(world: World) -> None:
    """A token in CLAUDE.md, a key beside a skill."""
    world.write({".claude/CLAUDE.md": f"OWN {TOKEN}\n", ".claude/skills/s/SKILL.md": "x"})
    world.write({".claude/skills/s/deploy": KEY, ".claude/skills/s/t.sh": f"echo {TOKEN}\n"})
    world.write({".claude/skills/s/.env": "A=1\n"})
    text = world.texts()
    assert "OWN" in text
    assert TOKEN not in text
    assert "PRIVATE KEY" not in text
    assert {"user/skills/s/.env", "user/skills/s/deploy"} & set(world.carried().files) == set()


def test_what_makes_a_skill_a_plugin_stays_and_is_named(world: World) -> None:
    """Its manifest, hooks, servers and programs; its words and their scripts go along."""
    code = (".claude-plugin/plugin.json", "hooks/hooks.json", "hooks/register.ts", ".mcp.json",
            ".lsp.json", "bin/tool", "monitors/m.json", "sub/.mcp.json")  # fmt: skip
    words = ("SKILL.md", "scripts/do.py", "reference/a.md")
    world.write({f".claude/skills/x/{name}": "CODE" for name in code})
    world.write({f".claude/skills/x/{name}": "words" for name in words})
    carrier = world.carried()
    assert set(carrier.files) == {f"user/skills/x/{name}" for name in words}
    assert all(
        x in said(carrier) for x in (".claude-plugin", "hooks", ".mcp.json", "bin", "skill x")
    )


HOOKS = "hooks:\n  PreToolUse:\n    - hooks:\n      - command: touch /tmp/x\n"


@pytest.mark.parametrize(
    "place", ["agents/a.md", "commands/c.md", "skills/s/SKILL.md", "skills/l.md"]
)
def test_heads_lose_the_code_that_they_declare(world: World, place: str) -> None:
    """Hooks and servers of an agent, a command, a skill; the rest of the head stays."""
    head = f"---\nname: a\n{HOOKS}mcpServers:\n- x:\n    command: evil\ndescription: words\n---\n"
    world.write({f".claude/{place}": head + "Body\n"})
    carrier = world.carried()
    assert carrier.files[f"user/{place}"] == b"---\nname: a\ndescription: words\n---\nBody\n"
    assert "hooks, mcpServers of" in said(carrier)


@pytest.mark.parametrize(
    "head",
    [
        '{"name": "a", "hooks": {"PreToolUse": []}}\n',
        "name: a\n? hooks\n: {PreToolUse: []}\nhooks: {}\n",
        "x: &a {hooks: {PreToolUse: []}}\n<<: *a\n",
        '"hooks": {}\n',
        "'mcpServers': {}\n",
        "mcp-servers: {}\n",
        "name: a\n? hooks\n: {PreToolUse: []}\n",
        '"ho\\u006fks": {}\n',
        "!!str hooks: {}\n",
        "&a hooks: {}\n",
        "  name: a\n  ? hooks\n  : {}\n",
    ],
)
def test_heads_in_other_styles_lose_it_too(head: str) -> None:
    """Where the head cannot be read line by line it goes as a whole."""
    text, gone = without_code(f"---\n{head}---\nBody\n")
    assert gone
    assert "ooks" not in text
    assert "ervers" not in text
    assert "fks" not in text
    assert text.endswith("Body\n")
    assert without_code(f"\n \n---\n{head}---\nBody\n") == (text, gone)


def test_heads_without_code_stay_as_they_are() -> None:
    """Words about hooks are words."""
    for text in (
        "---\nname: a\ndescription: use it when hooks: fail\n---\nhooks:\n  x\n",
        "x\n",
        "",
    ):
        assert without_code(text) == (text, [])


def test_size_and_number_are_bounded(world: World) -> None:
    """What does not fit stays at home, and is named."""
    world.write({".claude/CLAUDE.md": "x" * (2 << 20), ".claude/agents/a.md": "small"})
    carrier = world.carried()
    assert set(carrier.files) == {"user/agents/a.md"}
    assert "larger than" in said(carrier)


@pytest.mark.parametrize("name", [".venv", "lib/node_modules"])
def test_what_a_skill_has_installed_stays_and_is_named(world: World, name: str) -> None:
    """It would take the place of everything after it."""
    world.write({".claude/skills/a/SKILL.md": "x", f".claude/skills/a/{name}/lib/x.py": "x"})
    carrier = world.carried()
    assert set(carrier.files) == {"user/skills/a/SKILL.md"}
    assert f"{name} of the skill a" in said(carrier)


def test_nothing_is_read_once_the_bounds_are_reached(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither of a skill that has too many files, nor a file that is too large, nor later ones."""
    monkeypatch.setattr(carrying, "MOST_FILES", 20)
    monkeypatch.setattr(user_files, "_MOST_SEEN", 80)
    read: list[Path] = []
    real_read = carrying._read

    def noted(real: Path, most: int) -> bytes:
        read.append(real)
        return real_read(real, most)

    monkeypatch.setattr(carrying, "_read", noted)
    world.write({f".claude/skills/b/data/{n:03}/x.txt": "x" for n in range(100)})
    world.write({".claude/skills/c/SKILL.md": "x", ".claude/skills/a/large.bin": ""})
    os.truncate(world.config / "skills/a/large.bin", carrying.MOST_BYTES + 1)
    carrier = world.carried()
    assert len(read) == len(carrier.files) == 20
    assert "the rest of the skill b" in said(carrier)
    assert "the rest of the skill c" in said(carrier)
    assert "large.bin" in said(carrier)


def test_walk_ends_where_nothing_goes_along(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files with keys, links out of the folder: they fill nothing, and are not without end."""
    monkeypatch.setattr(user_files, "_MOST_SEEN", 40)
    world.write({f".claude/skills/b/{n:03}/x.key": "x" for n in range(100)})
    world.write({".claude/skills/c/SKILL.md": "x"})
    carrier = world.carried()
    assert set(carrier.files) == {"user/skills/c/SKILL.md"}
    assert len(carrier.left) < 40
    assert "the rest of the skill b: there are too many files" in said(carrier)


def test_plugin_within_a_skill_stays_and_is_named(world: World) -> None:
    """Its hooks and programs too; folders of such names that are no plugin's go along."""
    names = ("SKILL.md", "x/.claude-plugin/plugin.json", "x/hooks/h.json", "x/bin/y", "x/a.md")
    world.write({f".claude/skills/s/{name}": "x" for name in (*names, "y/bin/z")})
    carrier = world.carried()
    assert set(carrier.files) == {f"user/skills/s/{n}" for n in ("SKILL.md", "x/a.md", "y/bin/z")}
    assert "x/.claude-plugin, x/bin, x/hooks of the skill s" in said(carrier)


def test_what_stays_does_not_crowd_out_a_runs_other_notes(world: World) -> None:
    """The first few are named, the rest is counted."""
    world.write({f".claude/skills/s{n:02}/.mcp.json": "x" for n in range(30)})
    carrier = world.carried()
    assert len(carrier.left) == 30
    assert carrier.told[:8] == carrier.left[:8]
    assert carrier.told[8:] == ["left out of the box: 22 more of the user's files"]


def test_a_fifo_does_not_keep_anyone_waiting(world: World) -> None:
    """Nor does a folder with the name of a text."""
    world.write({".claude/agents/b.md": "small"})
    os.mkfifo(world.config / "agents/a.md")
    (world.config / "CLAUDE.md").mkdir()
    assert set(world.carried().files) == {"user/agents/b.md"}


def test_settings_that_git_ignores_are_named(world: World) -> None:
    """Where something in them would count or be set aside, and the snapshot does not hold them."""
    root, local = world.repo.root, ".claude/settings.local.json"
    (root / "conf").mkdir()
    (root / ".claude").symlink_to("conf")
    (root / ".gitignore").write_text("*.local.json\n")
    world.repo.commit({"conf/settings.json": '{"model": "opus"}'})
    (root / local).write_text('{"permissions": {"allow": ["Bash"]}}')
    assert world.carried().left == []
    (root / local).write_text('{"permissions": {"deny": ["Read(.env)"]}}')
    why = "the snapshot does not hold it, so that nothing in it counts"
    assert world.carried().left == [f"left out of the box: {root / local}: {why}"]


def test_plugins_and_servers_of_the_session_are_named(world: World) -> None:
    """They stay at home: the user's own, those of the folder, and those of the repository."""
    root = world.repo.root
    server = {"command": "x"}
    of_the_user = {
        "mcpServers": {"one": server},
        "projects": {str(root): {"mcpServers": {"two": server}}},
    }
    world.write(
        {
            ".claude.json": json.dumps(of_the_user),
            ".claude/settings.json": '{"enabledPlugins": {"a@b": true, "c@d": false}}',
        }
    )
    (root / ".mcp.json").write_text('{"mcpServers": {"three": {"command": "x"}}}')
    assert world.carried().left == [
        "left out of the box: the plugins a@b: they are code, not words",
        "left out of the box: the MCP servers one, two, three: they are code, not words",
    ]
    world.write({".claude.json": "[]", ".claude/settings.json": "{"})
    (root / ".mcp.json").write_text("")
    assert world.carried().left == []
