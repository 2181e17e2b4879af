"""What a repository asks for in the files that Claude Code reads: its word, never the user's.

Claude Code lays the ``env`` block of a project's ``.claude/settings.json`` over the environment
of every hook, ours included.  So a variable that such a block names says nothing about the user
any more, whatever its value is: it is put back to what ``init`` froze, or dropped.  A file that
cannot be read whole (too large, too deep, no regular file) may name any of them, and counts as if
it did; of one that is no JSON, whatever its text holds.

Standard library only: the hook imports this, but not on its ordinary path.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plandock.errors import SettingsError
from plandock.settings.claude_project import main_work_tree
from plandock.settings.files import read_bounded
from plandock.settings.inside.repository_settings import (
    FILES,
    SENSITIVE,
    decoded,
    judge_folder,
    lines,
)

# What `init` remembers of the user's environment, to put back; none of it is a secret.
FROZEN = (
    "PATH", "HOME", "TMPDIR", "CLAUDE_CONFIG_DIR",
    "XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR",
    "DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "CONTAINER_HOST",
)  # fmt: skip
_LARGEST = 8 << 20
_DEEPEST = 64
_MOST_NAMES = 12

# Setting → what it would do.  The CLI in a box reads none of them; on the host they are Claude
# Code's own business, and reported.
_ASKS: Mapping[str, str] = {
    "apiKeyHelper": "a program that supplies an API key",
    "awsAuthRefresh": "a login to another provider",
    "awsCredentialExport": "a login to another provider",
    "gcpAuthRefresh": "a login to another provider",
    "credentialHelper": "a program that supplies a key",
    "inferenceCredentialHelper": "a program that supplies a key",
    "forceLoginMethod": "another kind of login",
    "forceLoginOrgUUID": "another organisation's login",
    "disableAllHooks": "that no hook runs, plandock's included",
    "hooks": "hooks of its own",
    "enableAllProjectMcpServers": "MCP servers of its own",
    "enabledMcpjsonServers": "MCP servers of its own",
    "enabledPlugins": "plugins of its own",
    "extraKnownMarketplaces": "plugins of its own",
    "statusLine": "a program for the status line",
    "otelHeadersHelper": "a program for telemetry",
    "fileSuggestion": "a program for file suggestions",
}
# Hooks and the like are common in honest repositories; these are said of each run, because they
# reach for who pays, for the login, or for the hand-off itself.
_GRAVE = frozenset(
    {
        "apiKeyHelper", "awsAuthRefresh", "awsCredentialExport", "gcpAuthRefresh",
        "credentialHelper", "inferenceCredentialHelper", "forceLoginMethod", "forceLoginOrgUUID",
        "disableAllHooks",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """One thing that a file of the repository asks for; never a value of it.

    ``grave``: it reaches for billing, login, isolation or the hand-off.
    """

    file: Path
    what: str
    grave: bool

    def __str__(self) -> str:
        return f"the repository's settings ask for {self.what} ({self.file}); not honoured"


@dataclass
class ProjectSettings:
    """The settings files of one project: parsed, and those that could not be."""

    parsed: list[tuple[Path, dict[str, Any]]] = field(default_factory=list)
    unreadable: list[Path] = field(default_factory=list)
    broken: list[tuple[Path, str]] = field(default_factory=list)

    def names(self, environ: Iterable[str]) -> dict[str, Path]:
        """The variables that the files name, with the file.

        An unreadable one names every sensitive variable of ``environ``.  So does a broken one
        that may hold its name; Claude Code takes nothing of such a file, but who knows of a later
        one (measured, both versions).
        """
        found: dict[str, Path] = {}
        for path in self.unreadable:
            found.update((n, path) for n in environ if SENSITIVE.fullmatch(n))
        for path, text in self.broken:
            spelt = "\\u" in text
            found.update(
                (n, path) for n in environ if SENSITIVE.fullmatch(n) and (spelt or n in text)
            )
        for path, held in self.parsed:
            block = held.get("env")
            if isinstance(block, dict):
                found.update((name, path) for name in block)
        return found


def read(folders: list[Path]) -> ProjectSettings:
    """The settings files in ``.claude`` of these folders; raises nothing."""
    return read_files([f / ".claude" / name for f in dict.fromkeys(folders) for name in FILES])


def read_files(paths: list[Path]) -> ProjectSettings:
    """These settings files, those that there are; raises nothing."""
    result = ProjectSettings()
    for path in dict.fromkeys(paths):
        try:
            data = read_bounded(path, most=_LARGEST, follow=True)
            if data is None or not data.strip():
                continue
            text = decoded(data)
            held = json.loads(text)
        except json.JSONDecodeError:
            result.broken.append((path, text))
            continue
        except (SettingsError, ValueError, RecursionError):
            result.unreadable.append(path)
            continue
        if isinstance(held, dict):
            result.parsed.append((path, held))
    return result


def folders_of(start: str | os.PathLike[str], environ: Mapping[str, str]) -> list[Path]:
    """Every folder whose ``.claude`` may have been read as the project's.

    From ``start`` and from ``$CLAUDE_PROJECT_DIR`` up to the repository's top, and the main work
    tree of a linked one, found without any program; never the folder that holds the user's own
    settings.
    """
    found: list[Path] = []
    for place in (os.fspath(start), environ.get("CLAUDE_PROJECT_DIR", "")):
        if not os.path.isabs(place):
            continue
        chain = [Path(place), *Path(place).parents][:_DEEPEST]
        top = next((n for n, f in enumerate(chain) if os.path.lexists(f / ".git")), 0)
        found += chain[: top + 1]
        # Since 2.1.211 its local settings are read from a linked work tree, too.
        found += [f for f in (main_work_tree(place),) if f is not None]
    own = os.path.realpath(_passwd_home())
    return [f for f in dict.fromkeys(found) if os.path.realpath(f) != own]


def take_back(
    environ: MutableMapping[str, str], cwd: str, frozen: Mapping[str, str]
) -> dict[str, Path]:
    """Undo in ``environ`` what the project's files laid over it; returns the names, with the file.

    A name of ``frozen`` gets the user's own value back, ``HOME`` that of the password database,
    any other is dropped.  ``PLANDOCK_*`` settings that :func:`plandock.settings.load` judges
    itself (by the same files) stay.
    """
    from plandock.settings.environment import from_repository, variable
    from plandock.settings.keys import all_keys

    folders = folders_of(cwd, environ)
    named = read(folders).names(environ)
    top = next((f for f in folders if os.path.lexists(f / ".git")), None)
    judged = set(from_repository(environ, top)) & {variable(key) for key in all_keys()}
    for name in set(named) - judged:
        value = _passwd_home() if name == "HOME" else None
        value = frozen.get(name, value)
        if value is None:
            environ.pop(name, None)
        else:
            environ[name] = value
    return named


def asks(folders: list[Path]) -> list[Asked]:
    """What the project's files ask for that plandock does not grant, the gravest first."""
    held = read(folders)
    closed = [*held.unreadable, *(path for path, _ in held.broken)]
    found = [Asked(p, "what cannot be read", True) for p in closed]
    for path, settings in held.parsed:
        found += _of_one(path, settings)
    for folder in dict.fromkeys(folders):
        if os.path.lexists(folder / ".mcp.json"):
            found.append(Asked(folder / ".mcp.json", "MCP servers of its own", False))
    return sorted(dict.fromkeys(found), key=lambda a: not a.grave)


def in_the_box(cwd: Path, is_ignored: Callable[[str], bool] = lambda _: False) -> list[str]:
    """What becomes in the box of the settings of the folder that Claude Code is started in.

    ``is_ignored`` tells of a file whether git ignores it: such a one stays at home.
    """
    folder, told = os.fspath(cwd), []
    for judged in judge_folder(folder):
        said = list(lines(judged, folder))
        if said and is_ignored(judged.file):
            name = ascii(os.path.relpath(judged.file, folder))[1:-1]
            said = [f"not in the box: {name} (git ignores it; `carry` takes such files along)"]
        told += said
    return told


def _of_one(path: Path, settings: dict[str, Any]) -> Iterator[Asked]:
    block = settings.get("env")
    names = sorted(n for n in block if SENSITIVE.fullmatch(n)) if isinstance(block, dict) else []
    if names:
        more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
        said = ", ".join(repr(n)[1:-1][:64] for n in names[:_MOST_NAMES])
        yield Asked(path, f"the variable(s) {said}{more}", True)
    for name, effect in _ASKS.items():
        if settings.get(name):
            yield Asked(path, f"{name}: {effect}", name in _GRAVE)
    rules = settings.get("permissions")
    if isinstance(rules, dict):
        for name in ("defaultMode", "allow", "additionalDirectories"):
            if rules.get(name):
                mode = rules[name] if name == "defaultMode" else ""
                grave = mode in ("bypassPermissions", "acceptEdits", "auto", "dontAsk")
                yield Asked(path, f"permissions.{name}: rights of its own", grave)


def _passwd_home() -> str:
    """The user's home folder as the system knows it, whatever ``HOME`` says."""
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return os.environ.get("HOME", "/")
