"""Freeze the user's tree at acceptance, as commits that only a hidden ref knows of.

Two commits when dirty: the user's HEAD, and on top of it one with the uncommitted work, so that
the user's work is told apart from the agent's.  What is written: objects, and one ref under
``refs/plandock/`` that keeps them from ``git gc``.  What is only read: everything else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from plandock import git
from plandock.errors import RepositoryError, UsageError
from plandock.printable import one_line
from plandock.workspace.changes import Changes, Entry, copied_index
from plandock.workspace.neutral import neutralise

TRAILER = "Plandock-Snapshot"
_MODES = ("include", "exclude", "refuse")
_ATTEMPTS = 3


@dataclass(frozen=True)
class Snapshot:
    """A frozen tree.

    ``base`` is HEAD's commit and ``commit`` what the box starts from: ``base`` itself when there
    was nothing to add, else a child of it.  ``included`` holds the paths in which the two differ
    (old and new name of a renamed file; undecodable bytes kept as surrogates), ``left_out`` what
    is in the work tree and not in ``commit``, each as "path (reason)".  ``dirty`` says whether
    there was anything uncommitted at all.  ``head_ref`` is the branch, "" when detached.
    """

    base: str
    commit: str
    dirty: bool
    included: list[str]
    left_out: list[str]
    head_ref: str


def take_snapshot(
    repo: Path,
    *,
    run_id: str,
    dirty: str = "include",
    carry: Sequence[str] = (),
    config_dir: Path | None = None,
    name: str,
    email: str,
) -> Snapshot:
    """Freeze the work tree of ``repo`` under ``refs/plandock/runs/<run_id>/snapshot``.

    ``dirty``: "include" takes tracked changes as they are on disk (staged or not) and untracked
    files that git does not ignore; "exclude" takes HEAD alone; "refuse" raises when anything is
    uncommitted.  ``carry`` are pathspecs of ignored files to take along (not with "exclude").
    Taken again with nothing changed, the same commit comes back.

    Raises :class:`RepositoryError` for partial clones, unborn branches, unresolved conflicts and
    unreadable files, :class:`UsageError` for an unknown ``dirty``.
    """
    if dirty not in _MODES:
        raise UsageError(f"dirty = {dirty!r} is unknown", hint=f"one of: {', '.join(_MODES)}")
    repo = git.top_level(repo)
    neutral = neutralise(repo)
    for attempt in range(_ATTEMPTS):
        base = git.head_commit(repo)
        with copied_index(repo, neutral, base) as changes:
            if dirty == "exclude":
                taken = _exclude(changes, base)
            else:
                taken = _include(changes, base, carry, config_dir, run_id, (name, email), dirty)
        # A commit made meanwhile would turn up in the user's "uncommitted work".
        if git.head_commit(repo) == base or attempt == _ATTEMPTS - 1:
            break
    git.git(repo, "update-ref", _ref(run_id), taken.commit, env=neutral.env)
    return taken


def _exclude(changes: Changes, base: str) -> Snapshot:
    paths, notes = changes.uncommitted(base)
    left_out = [f"{x} (uncommitted)" for x in paths] + notes
    return Snapshot(base, base, bool(left_out), [], left_out, _branch(changes.repo))


def _include(
    changes: Changes,
    base: str,
    carry: Sequence[str],
    config_dir: Path | None,
    run_id: str,
    identity: tuple[str, str],
    dirty: str,
) -> Snapshot:
    entries = changes.special_entries()
    _refuse_conflicts(changes.repo, entries)
    if dirty == "refuse":
        _refuse_dirty(changes, base)
    tracked = changes.tracked()
    left_out = tracked.left_out + changes.hidden(entries) + changes.submodules(entries)
    changes.remove(tracked.removed)
    # Listed after the removals: a name freed in one case may be there in another.
    untracked, others = changes.untracked(carry, config_dir)
    left_out += others + changes.write([*tracked.written, *untracked])
    tree = changes.git("write-tree").text.strip()
    commit = _commit(changes, base, tree, run_id, identity)
    included = git.names(
        changes.git(
            "diff-tree", "-r", "-z", "--name-only", "--no-renames", "--no-commit-id", base, commit
        ).stdout
    )
    was_dirty = commit != base or bool(left_out)
    return Snapshot(base, commit, was_dirty, included, left_out, _branch(changes.repo))


def _commit(changes: Changes, base: str, tree: str, run_id: str, identity: tuple[str, str]) -> str:
    """A commit of ``tree`` on ``base``; ``base`` itself where the tree is the same."""
    if changes.git("rev-parse", "--verify", f"{base}^{{tree}}").text.strip() == tree:
        return base
    fields = "%(objectname) %(tree) %(parent)"
    kept = changes.git("for-each-ref", f"--format={fields}", _ref(run_id)).text.split()
    if kept[1:] == [tree, base]:
        return kept[0]
    name, email = identity
    who = {
        f"GIT_{role}_{field}": value
        for role in ("AUTHOR", "COMMITTER")
        for field, value in (("NAME", name), ("EMAIL", email))
    }
    message = (
        f"plandock: your uncommitted work at hand-off ({run_id})\n\n"
        f"Plandock-Run: {run_id}\n{TRAILER}: true\n"
    )
    done = git.git(
        changes.repo,
        "commit-tree",
        "--no-gpg-sign",
        "-p",
        base,
        "-F",
        "-",
        tree,
        stdin=message.encode(),
        env={**changes.neutral.env, **who},
    )
    return done.text.strip()


def _refuse_conflicts(repo: Path, entries: Sequence[Entry]) -> None:
    paths = sorted({x.path for x in entries if x.tag in "Mm"})
    if paths:
        raise RepositoryError(
            f"the repository has unresolved conflicts: {_some(paths)}",
            hint="finish or abort the merge, rebase or cherry-pick (see `git status`)",
        )


def _refuse_dirty(changes: Changes, base: str) -> None:
    # In a copy of its own: looking refreshes the index, and a refresh forgets what is racy.
    with copied_index(changes.repo, changes.neutral, base) as second:
        paths, notes = second.uncommitted(base)
    found = paths + notes
    if found:
        raise RepositoryError(
            f"the work tree has uncommitted changes: {_some(found)}",
            hint='commit or stash them, or set dirty = "include"',
        )


def _some(paths: Sequence[str]) -> str:
    shown = ", ".join(one_line(x, limit=80) for x in paths[:3])
    return shown if len(paths) <= 3 else f"{shown} and {len(paths) - 3} more"


def _branch(repo: Path) -> str:
    found = git.git(repo, "symbolic-ref", "--quiet", "HEAD", check=False)
    return found.text.removesuffix("\n").removeprefix("refs/heads/")


def _ref(run_id: str) -> str:
    return f"refs/plandock/runs/{run_id}/snapshot"
