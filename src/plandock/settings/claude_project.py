"""Which settings files Claude Code reads, by the folder that it is started in.

Measured with 2.1.197 and 2.1.332 (docs/folders.md): the project's ``.claude/settings.json`` is
read in the very folder in which ``claude`` is started, never in one above it.  So is
``settings.local.json``; since 2.1.211 that of the repository's main work tree is read as well,
from any of its folders and from its linked work trees.  The folder is the real one, links
resolved.  Standard library only: the hook imports this.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Tier = Literal["user", "project", "local"]

SHARED, LOCAL = "settings.json", "settings.local.json"
# The first version that reads the main work tree's local settings (found by bisection).
_LOCAL_OF_REPOSITORY_SINCE = (2, 1, 211)
_RELEASE = re.compile(r"(\d{1,6})\.(\d{1,6})\.(\d{1,6})")
_LARGEST_POINTER = 64 * 1024
_DEEPEST = 256


@dataclass(frozen=True)
class SettingsFile:
    """A settings file that Claude Code reads, whether it exists or not."""

    tier: Tier
    path: Path


def files_read(
    start: str | os.PathLike[str], *, config_dir: Path, version: str
) -> tuple[SettingsFile, ...]:
    """The user's, project's and local settings files of a `claude` started in ``start``.

    ``version`` is the CLI's; of one that is not known, what every version reads.  A file that two
    tiers name comes once, as the first of them: in the home folder the project's is the user's.
    """
    folder = Path(os.path.realpath(start))
    found = [
        SettingsFile("user", config_dir / SHARED),
        SettingsFile("project", folder / ".claude" / SHARED),
        SettingsFile("local", folder / ".claude" / LOCAL),
        SettingsFile("local", local_root(folder, version) / ".claude" / LOCAL),
    ]
    by_place: dict[str, SettingsFile] = {}
    for file in found:
        by_place.setdefault(os.path.realpath(file.path), file)
    return tuple(by_place.values())


def local_root(start: str | os.PathLike[str], version: str) -> Path:
    """The folder whose local settings this version of Claude Code keeps when started there."""
    folder = Path(os.path.realpath(start))
    found = _RELEASE.match(version)
    if found is None or tuple(map(int, found.groups())) < _LOCAL_OF_REPOSITORY_SINCE:
        return folder
    root = main_work_tree(folder)
    if root is None or root == Path(os.path.realpath(os.path.expanduser("~"))):
        return folder
    return root if _is_ours(root) else folder


def work_tree(start: str | os.PathLike[str]) -> Path | None:
    """The nearest folder, from ``start`` up, with a ``.git`` in it; found without any program."""
    folder = Path(os.path.realpath(start))
    for place in (folder, *folder.parents)[:_DEEPEST]:
        if os.path.exists(place / ".git"):
            return place
    return None


def main_work_tree(start: str | os.PathLike[str]) -> Path | None:
    """The main work tree of the repository that ``start`` lies in, by Claude Code's own rule.

    For a folder of a linked work tree that is another folder; it counts only where the repository
    points back at the work tree, since anybody can write a ``.git`` file.  None without a ``.git``.
    """
    root = work_tree(start)
    if root is None:
        return None
    pointer = _line(root / ".git")
    if not pointer.startswith("gitdir:"):
        return root
    own = os.path.normpath(root / pointer.removeprefix("gitdir:").strip())
    common_name, back_name = _line(Path(own, "commondir")), _line(Path(own, "gitdir"))
    if not common_name or not back_name:
        return root
    common = os.path.normpath(os.path.join(own, common_name))
    back = os.path.realpath(os.path.join(own, back_name))
    if os.path.dirname(own) != os.path.join(common, "worktrees") or back != str(root / ".git"):
        return root
    return Path(common if os.path.basename(common) != ".git" else os.path.dirname(common))


def _line(path: Path) -> str:
    """What a small plain file says, stripped; "" for anything else."""
    try:
        # Not to be kept waiting by a FIFO that somebody laid there.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:  # a folder can be opened, and not read as a file
            raw = os.read(handle, _LARGEST_POINTER + 1)
        finally:
            os.close(handle)
    except (OSError, ValueError):
        return ""
    text = os.fsdecode(raw).strip()
    return text if len(raw) <= _LARGEST_POINTER and "\0" not in text else ""


def _is_ours(root: Path) -> bool:
    """Whether the folder, its ``.git`` and its ``.claude`` (if any) are this user's."""
    try:
        owners = {os.stat(root).st_uid, os.lstat(root / ".git").st_uid}
        if os.path.lexists(root / ".claude"):
            owners.add(os.lstat(root / ".claude").st_uid)
    except OSError:
        return False
    return owners == {os.geteuid()}
