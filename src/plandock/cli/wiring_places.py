"""The settings files that `init` and `uninit` change: those that Claude Code reads from here."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from plandock import git, settings
from plandock.claude import binary
from plandock.errors import PlandockError
from plandock.hook.settings_file import Change, Scope, init_scope, uninit_scope
from plandock.settings.claude_project import local_root, work_tree


@dataclass(frozen=True)
class Place:
    """A folder whose ``.claude`` holds settings, and the repository around it."""

    repo: Path | None
    folder: Path | None


def place_of(scope: Scope, start: Path, environ: Mapping[str, str]) -> Place:
    """Where a scope's settings lie for a `claude` that is started in ``start``.

    A project's in that very folder; the local ones where the CLI of this machine keeps them.
    """
    try:
        repo = git.top_level(start)
    except PlandockError:
        return Place(None, None)
    folder = Path(os.path.realpath(start))
    if scope == "local":
        folder = local_root(folder, _version(environ, repo))
        # In a linked work tree they are those of the main one, which lies elsewhere.
        repo = work_tree(folder) or repo
    return Place(repo, folder if scope != "user" else None)


def init_at(scope: Scope, place: Place, *, config_dir: Path) -> Change:
    """Put the hooks into the settings of a scope at a place; the note says whom they serve."""
    change = init_scope(scope, config_dir=config_dir, repo=place.repo, folder=place.folder)
    notes = [change.note] if change.note else []
    if scope == "project":
        notes.append(
            f"Claude Code reads this file when it is started in {place.folder}, not in a folder "
            "below or above it; for every folder: plandock init"
        )
    return Change(
        change.path, change.changed, change.created, change.deleted, note="; ".join(notes)
    )


def uninit_from(
    scope: Scope, start: Path, environ: Mapping[str, str], *, config_dir: Path
) -> list[Change]:
    """Take the hooks out of every file of a scope that Claude Code reads here, or at the top.

    The changes that were made; where there was nothing to take out, the one that was not.
    """
    made: list[Change] = []
    for place in _places(scope, start, environ):
        change = uninit_scope(scope, config_dir=config_dir, repo=place.repo, folder=place.folder)
        if all(change.path != other.path for other in made):
            made.append(change)
    return [x for x in made if x.changed] or made[:1]


def _places(scope: Scope, start: Path, environ: Mapping[str, str]) -> Iterator[Place]:
    place = place_of(scope, start, environ)
    yield place
    if scope == "user" or place.repo is None:
        return
    top = git.top_level(start)
    yield Place(top, Path(os.path.realpath(start)))
    yield Place(top, top)


def _version(environ: Mapping[str, str], repo: Path) -> str:
    """The version of the user's own CLI; "" where it does not say."""
    try:
        return binary.version_of(binary.find_claude(settings.trusted(environ, repo)))
    except PlandockError:
        return ""
