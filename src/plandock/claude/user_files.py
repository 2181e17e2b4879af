"""The user's memory, agents, skills and commands, as a box gets them: words, and no plugin.

By allowlist, from the user's own folder and from what lies beside the repository for the user
alone (CLAUDE.local.md, MEMORY.md, the CLAUDE.md of folders above).  What of a repository names a
file outside of it is not followed.  Measured with 2.1.197 and 2.1.332: which files the CLI reads,
and that the memory's folder is that of the main work tree.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from plandock import git, paths
from plandock.claude import front_matter, jsonfile
from plandock.claude.carrying import (
    MOST_FILES,
    TOO_MUCH,
    Carrier,
    NotCarried,
    is_file,
    may_hold_secrets,
    read_part,
    read_words,
)
from plandock.claude.imports import Importer, paths_in, target_of
from plandock.settings.inside.repository_settings import judge_folder

_WORDS = ("agents", "commands", "output-styles")
_NAMES = ("CLAUDE.md", ".claude/CLAUDE.md", "CLAUDE.local.md")
# Of a skill's folder: what makes it a plugin, or what a plugin's parts lie in.
_PLUGIN = frozenset(
    {
        ".claude-plugin", "hooks", ".mcp.json", ".lsp.json", "bin", "monitors", "commands",
        "agents", "skills", "output-styles", "themes", "workflows", "channels", "servers",
        "settings.json", "plugin.json", "hooks.json", "register.ts",
    }
)  # fmt: skip
_MANIFESTS = frozenset({".claude-plugin", ".mcp.json", ".lsp.json"})
# What a tool has put there and can put there again, thousands of files.
_INSTALLED = frozenset({"node_modules", ".venv", "venv", ".tox"})
_DEEPEST = 8
_LARGEST_STATE = 64 << 20
# How many files and folders of one folder are looked at: more than go along.
_MOST_SEEN = 4 * MOST_FILES


def carry(*, config_dir: Path, repo: Path, cwd: Path, snapshot: str) -> Carrier:
    """All that goes along from the user's own files, what matters most first; raises nothing.

    ``snapshot`` is the commit with the files that the box has already.
    """
    carrier = Carrier()
    importer = Importer(carrier, paths.home(), places=_own_places(config_dir))
    steps: dict[str, Callable[[], None]] = {
        "CLAUDE.md": lambda: _carry_user_text(importer, config_dir, repo, cwd, snapshot),
        "the project's memory": lambda: _carry_memory(carrier, config_dir, repo),
        "settings": lambda: _name_settings_at_home(carrier, repo, cwd, snapshot),
        "programs": lambda: _name_programs(carrier, config_dir, cwd),
        "rules": lambda: _carry_rules(importer, config_dir),
        **{name: partial(_carry_words, carrier, config_dir, name) for name in _WORDS},
        "skills": lambda: _carry_skills(carrier, config_dir),
        "imports": lambda: _name_repository_imports(carrier, repo, cwd),
    }
    for name, step in steps.items():
        try:
            step()
        except (OSError, RuntimeError, ValueError, NotCarried) as error:
            carrier.leave(name, error)
    return carrier


def _own_places(config_dir: Path) -> dict[Path, str]:
    """The texts that have a place of their own: where an import names one, it is not laid twice."""
    rules = config_dir / "rules"
    found = {}
    with contextlib.suppress(NotCarried, OSError, RuntimeError, ValueError):
        for path in _files_below(rules):
            # What a link leads to elsewhere is no rule, and goes along as an import.
            if is_file(path) and (real := path.resolve()).is_relative_to(rules.resolve()):
                found[real] = str(path.relative_to(config_dir))
    if is_file(config_dir / "CLAUDE.md"):
        found[(config_dir / "CLAUDE.md").resolve()] = "CLAUDE.md"
    return found


def _carry_user_text(
    importer: Importer, config_dir: Path, repo: Path, cwd: Path, snapshot: str
) -> None:
    """The user's CLAUDE.md, and behind it what is the user's alone beside the repository.

    The latter is imported: laid into the workspace it could end up in a commit, and folders above
    the repository are not the box's to write.
    """
    carrier, own = importer.carrier, config_dir / "CLAUDE.md"
    if is_file(own):
        _try(carrier, own, lambda: importer.carry(own, "CLAUDE.md"))
    place = "user/CLAUDE.md"
    added = []
    for path in _beside(carrier, config_dir, repo, cwd, snapshot):
        try:
            at = importer.imported(path, tree=_tree_above(path, repo))
        except NotCarried as why:
            carrier.leave(path, why)
        else:
            added.append(f"Contents of {path} (the user's own):\n\n@{at}\n")
    if added:
        before = carrier.files.get(place, b"")
        text = b"\n\n".join(x for x in (before, "\n".join(added).encode()) if x)
        _try(carrier, "CLAUDE.local.md and the like", lambda: carrier.add(place, text))


def _tree_above(path: Path, repo: Path) -> Path | None:
    """The work tree that a text above the repository belongs to: its words are not the user's."""
    if path.is_relative_to(repo):
        return None
    return next((f for f in path.parents if os.path.lexists(f / ".git")), None)


def _beside(
    carrier: Carrier, config_dir: Path, repo: Path, cwd: Path, snapshot: str
) -> Iterator[Path]:
    """Texts for the model that Claude Code reads in that folder and the snapshot does not hold."""
    own = (config_dir / "CLAUDE.md").resolve()
    for folder in reversed(repo.parents):
        rules = folder / ".claude/rules"
        if os.path.isdir(rules) and rules.resolve() != (config_dir / "rules").resolve():
            carrier.leave(rules, "rules of folders above the repository do not go along")
        for path in (folder / name for name in _NAMES):
            if is_file(path) and path.resolve() != own:
                yield path
    inside = [f for f in (cwd, *cwd.parents) if f.is_relative_to(repo)] or [repo]
    for folder in reversed(inside):
        path = folder / "CLAUDE.local.md"
        if is_file(path) and not _is_held(repo, snapshot, path):
            yield path


def _is_held(repo: Path, snapshot: str, path: Path) -> bool:
    name = path.relative_to(repo).as_posix()
    return git.git(repo, "cat-file", "-e", f"{snapshot}:{name}", check=False).ok


def _carry_memory(carrier: Carrier, config_dir: Path, repo: Path) -> None:
    """The project's memory folder: MEMORY.md, and the files that it names."""
    common = repo / git.line(repo, "rev-parse", "--git-common-dir")
    main = common.parent if common.name == ".git" else repo
    settings = _settings(config_dir)
    if settings.get("autoMemoryEnabled") is False:
        return
    folder = config_dir / "projects" / paths.project_key(str(main)) / "memory"
    elsewhere = settings.get("autoMemoryDirectory")
    if isinstance(elsewhere, str) and elsewhere.startswith(("~/", "/")) and "\0" not in elsewhere:
        folder = paths.home() / elsewhere.removeprefix("~/")
    for path in _files_below(folder):
        place = f"projects/{paths.project_key(str(repo))}/memory/{path.relative_to(folder)}"

        def lay(path: Path = path, place: str = place) -> None:
            carrier.make_sure_of_room(path)
            carrier.add(place, read_words(path, within=folder).encode())

        _try(carrier, path, lay)


def _settings(config_dir: Path) -> dict[str, Any]:
    return _object(config_dir / "settings.json")


def _object(file: Path) -> dict[str, Any]:
    try:
        return jsonfile.read_object(file, limit=_LARGEST_STATE) or {}
    except jsonfile.Unreadable:
        return {}


def _name_programs(carrier: Carrier, config_dir: Path, cwd: Path) -> None:
    """Say which plugins and MCP servers of the session the box does not have: all of them."""
    plugins = _settings(config_dir).get("enabledPlugins")
    servers: dict[str, Any] = {}
    for state in (_object(f / ".claude.json") for f in (paths.home(), config_dir)):
        projects = state.get("projects")
        here = projects.get(os.fspath(cwd)) if isinstance(projects, dict) else None
        for held in (state, here):
            named = held.get("mcpServers") if isinstance(held, dict) else None
            servers |= named if isinstance(named, dict) else {}
    shared = _object(cwd / ".mcp.json").get("mcpServers")
    servers |= shared if isinstance(shared, dict) else {}
    for kind, found in (("plugins", plugins), ("MCP servers", servers)):
        names = [name for name, on in found.items() if on] if isinstance(found, dict) else []
        if names:
            carrier.leave(f"the {kind} {', '.join(names)}", "they are code, not words")


def _carry_rules(importer: Importer, config_dir: Path) -> None:
    for path in _files_below(config_dir / "rules"):
        place = str(path.relative_to(config_dir))

        def lay(path: Path = path, place: str = place) -> None:
            read_words(path, within=config_dir / "rules")
            importer.carry(path, place)

        _try(importer.carrier, path, lay)


def _carry_words(carrier: Carrier, config_dir: Path, name: str) -> None:
    """A folder of texts whose head may declare code: that part stays at home."""
    for path in _files_below(config_dir / name):
        place = f"user/{path.relative_to(config_dir)}"

        def lay(path: Path = path, place: str = place) -> None:
            carrier.make_sure_of_room(path)
            text, gone = front_matter.without_code(read_words(path, within=config_dir / name))
            carrier.add(place, text.encode())
            if gone:
                carrier.leave(f"{', '.join(gone)} of {path}", "it is code, not words")

        _try(carrier, path, lay)


def _carry_skills(carrier: Carrier, config_dir: Path) -> None:
    """Each skill's folder less what makes it a plugin; the scripts that its words use go along."""
    for skill in _entries(config_dir / "skills"):
        # The user may keep skills elsewhere, and link them here.
        if not os.path.isdir(skill):
            if is_file(skill) and skill.suffix == ".md":
                place = f"user/skills/{skill.name}"
                _try(carrier, skill, partial(_lay_part, carrier, skill, place, skill.parent))
            continue
        if may_hold_secrets(skill.resolve()):
            carrier.leave(skill, "it may hold a login or a key")
            continue
        skipped: list[Path] = []
        try:
            for path in _files_below(skill, without=_PLUGIN, skipped=skipped):
                if carrier.full:
                    raise NotCarried(TOO_MUCH)
                place = f"user/skills/{skill.name}/{path.relative_to(skill)}"
                _try(carrier, path, partial(_lay_part, carrier, path, place, skill))
        except NotCarried as why:
            carrier.leave(f"the rest of the skill {skill.name}", why)
        if skipped:
            names = ", ".join(str(p.relative_to(skill)) for p in skipped)
            kind = "a plugin's parts or installed programs, not words"
            carrier.leave(f"{names} of the skill {skill.name}", kind)


def _lay_part(carrier: Carrier, path: Path, place: str, within: Path) -> None:
    carrier.make_sure_of_room(path)
    if path.suffix.lower() != ".md":
        carrier.add(place, read_part(path, within=within))
        return
    text, gone = front_matter.without_code(read_words(path, within=within))
    carrier.add(place, text.encode())
    if gone:
        carrier.leave(f"{', '.join(gone)} of {path}", "it is code, not words")


def _name_repository_imports(carrier: Carrier, repo: Path, cwd: Path) -> None:
    """Say which files outside the repository its own CLAUDE.md names: none of them goes along."""
    folders = [f for f in (cwd, *cwd.parents) if f.is_relative_to(repo)] or [repo]
    for path in (f / name for f in folders for name in ("CLAUDE.md", ".claude/CLAUDE.md")):
        try:
            named = paths_in(read_words(path, within=repo)) if is_file(path) else []
        except NotCarried:
            continue
        for one in named:
            target = target_of(one, path.resolve().parent, paths.home())
            if target is None or not is_file(target):
                continue
            if not target.resolve().is_relative_to(repo.resolve()):
                carrier.leave(f"@{one} of the repository's {path.name}", "it lies outside of it")


def _name_settings_at_home(carrier: Carrier, repo: Path, cwd: Path, snapshot: str) -> None:
    """Say which settings of the repository stay at home: mostly because git ignores them."""
    for judged in judge_folder(os.fspath(cwd)):
        real = Path(os.path.realpath(judged.file))
        bears = judged.carried or judged.stands or judged.aside
        if bears and real.is_relative_to(repo) and not _is_held(repo, snapshot, real):
            carrier.leave(
                judged.file, "the snapshot does not hold it, so that nothing in it counts"
            )


def _try(carrier: Carrier, what: object, act: Callable[[], object]) -> None:
    try:
        act()
    except NotCarried as why:
        carrier.leave(what, why)
    except OSError as error:
        carrier.leave(what, f"it cannot be read: {error.strerror}")


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _files_below(
    folder: Path, *, without: frozenset[str] = frozenset(), skipped: list[Path] | None = None
) -> Iterator[Path]:
    """Files below a folder in order, not through links to folders, nor in folders of a name.

    At the top, and wherever a plugin lies, ``without`` leaves out; a manifest and folders of a
    tool's own at any depth.  ``skipped`` gets what is left out.  Raises :class:`NotCarried` where
    there are too many files to look at.
    """
    room = _MOST_SEEN
    for root, folders, names in os.walk(folder, followlinks=False):
        here = Path(root)
        depth = len(here.relative_to(folder).parts)
        plugin = depth == 0 or ".claude-plugin" in (f.lower() for f in folders)
        skip = without if plugin else without & _MANIFESTS
        if skipped is not None:
            told = skip | _INSTALLED
            skipped += [here / n for n in sorted([*folders, *names]) if n.lower() in told]
        skip |= _INSTALLED | {".git", "__pycache__"}
        folders[:] = sorted(f for f in folders if f.lower() not in skip and depth < _DEEPEST)
        for name in sorted(n for n in names if n.lower() not in skip):
            yield here / name
        room -= 1 + len(names)
        if room <= 0:
            raise NotCarried("there are too many files to look at")
