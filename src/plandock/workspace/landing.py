"""What a harvest writes into the user's repository: objects, hidden refs, one new branch.

Called only for work that has passed every check.  Each step can be done again after a call that
was cut off; none of them moves HEAD, the index, the work tree or a branch, but for the
branch that an earlier harvest of the same run made.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Set
from pathlib import Path
from typing import IO

from plandock import git
from plandock.errors import RepositoryError
from plandock.printable import one_line
from plandock.workspace.branch import free_name

# A user's own git may be at work; its locks are held for moments.
_PATIENCE = (
    *("-c", "core.filesRefLockTimeout=3000"),
    *("-c", "core.packedRefsTimeout=10000"),
)
_ENV = {"GIT_NO_REPLACE_OBJECTS": "1", "GIT_GRAFT_FILE": os.devnull}


def holds(repo: Path, run_id: str, tips: Iterable[str]) -> bool:
    """Whether the run's hidden refs stand on all of ``tips`` already, from an earlier call."""
    listed = git.git(
        repo, "for-each-ref", "--format=%(objectname)", f"refs/plandock/runs/{run_id}/"
    )
    return set(tips) <= set(listed.text.split())


def let_in(repo: Path, pack: IO[bytes], run_id: str) -> None:
    """Add the checked objects to the user's store.

    What `git fetch` does at its core, without its remote, refs, hooks and FETCH_HEAD.  The keep
    file stops a repack of the user's from dropping the objects before a ref holds them.
    """
    git.git(repo, "index-pack", "--stdin", f"--keep={_keep_text(run_id)}", stdin=pack, env=_ENV)


def _keep_text(run_id: str) -> str:
    return f"plandock {run_id}"


def release(repo: Path, run_id: str) -> None:
    """Remove this run's keep files, also those of a call that was cut off."""
    where = git.git(repo, "rev-parse", "--path-format=absolute", "--git-path", "objects/pack")
    for keep in Path(where.text.removesuffix("\n")).glob("pack-*.keep"):
        try:
            if keep.read_bytes()[:200].strip() == _keep_text(run_id).encode():
                keep.unlink()
        except FileNotFoundError:
            continue


def write_hidden_refs(repo: Path, run_id: str, head: str, others: dict[str, str]) -> dict[str, str]:
    """Set ``refs/plandock/runs/<id>/…``; returns the others by the names they were given.

    An earlier harvest's others stay: what they hold may be nowhere else.
    """
    base = f"refs/plandock/runs/{run_id}"
    listed = git.git(repo, "for-each-ref", "--format=%(objectname) %(refname)", f"{base}/others/")
    there = {
        name.removeprefix(f"{base}/others/"): oid
        for oid, _, name in (x.partition(" ") for x in listed.text.splitlines())
    }
    kept: dict[str, str] = {}
    orders = b""
    for wanted, oid in others.items():
        name = wanted
        if there.get(name) != oid:
            name = free_name(wanted, {*there, *kept})
        kept[name] = oid
        orders += f"update {base}/others/{name}\0{oid}\0\0".encode()
    if head:
        orders += f"update {base}/head\0{head}\0\0".encode()
    options = (*_PATIENCE, "-c", "core.logAllRefUpdates=false")
    git.git(repo, "update-ref", "--stdin", "-z", stdin=orders, options=options, env=_ENV)
    return kept


def create_branch(
    repo: Path,
    wanted: str,
    head: str,
    run_id: str,
    grown_from: str = "",
    others: Set[str] = frozenset(),
) -> str:
    """Create the branch on ``head``, at the first free name; returns the name.

    Where ``wanted`` still stands on ``grown_from``, which this run itself made it on, and no work
    tree has it checked out, it goes on from there.  ``others`` are the names that other runs have
    or were promised: beside ``wanted`` itself none of them is taken.
    """
    others = others - {wanted}
    if grown_from and _grow(repo, wanted, grown_from, head, run_id):
        return wanted
    complaint = ""
    for attempt in range(20):
        there = _branches(repo)
        # A call that was cut off after this step made it already, under this name or the next.
        done = re.compile(re.escape(wanted.replace("/", "-")) + r"(?:-\d+)?")
        # Not another run's: two that do the same in the same second make the very same commit.
        for name, oid in sorted(there.items()):
            mine = name == wanted or (done.fullmatch(name.replace("/", "-")) and name not in others)
            if oid == head and mine:
                return name
        taken = set(there) | _checked_out(repo)
        name = free_name(wanted, taken)
        if name != wanted:
            name = free_name(wanted, taken | others)
        made = git.git(
            repo,
            *("update-ref", "--stdin", "-z", "-m", f"plandock: run {run_id}"),
            stdin=f"create refs/heads/{name}\0{head}\0".encode(),
            options=_PATIENCE,
            env=_ENV,
            check=False,
        )
        if made.ok:
            return name
        # Made by somebody else since we looked, or a lock: look again.
        complaint = made.complaint
        time.sleep(0.05 * (attempt + 1))
    raise RepositoryError(
        f"the branch {wanted} could not be created: {one_line(complaint)}",
        hint=f"the work is at refs/plandock/runs/{run_id}/head",
    )


def _grow(repo: Path, name: str, old: str, new: str, run_id: str) -> bool:
    """Move a branch on from ``old`` to its descendant ``new``, or do nothing."""
    if old == new or name in _checked_out(repo) or _branches(repo).get(name) != old:
        return False
    if not git.git(repo, "merge-base", "--is-ancestor", old, new, check=False, env=_ENV).ok:
        return False
    return git.git(
        repo,
        *("update-ref", "--stdin", "-z", "-m", f"plandock: run {run_id} went on"),
        # With the old value: whoever moved it meanwhile keeps what they did.
        stdin=f"update refs/heads/{name}\0{new}\0{old}\0".encode(),
        options=_PATIENCE,
        env=_ENV,
        check=False,
    ).ok


def _branches(repo: Path) -> dict[str, str]:
    found = git.git(repo, "for-each-ref", "--format=%(objectname) %(refname)", "refs/heads/")
    pairs = (x.partition(" ") for x in found.text.splitlines())
    return {name.removeprefix("refs/heads/"): oid for oid, _, name in pairs}


def _checked_out(repo: Path) -> set[str]:
    """The branches that some work tree's HEAD names, also those without a commit yet: creating
    such a one would move that HEAD."""
    found = git.git(repo, "worktree", "list", "--porcelain")
    prefix = "branch refs/heads/"
    names = {x.removeprefix(prefix) for x in found.text.split("\n") if x.startswith(prefix)}
    head = git.git(repo, "symbolic-ref", "--quiet", "HEAD", check=False).text.strip()
    return names | {head.removeprefix("refs/heads/")} - {""}
