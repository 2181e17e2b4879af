"""Put a run's work where the user works: merged into a branch, or into the files alone.

Nothing of the branch is run on the way.  What a configuration may name lies in the work tree as
often as not (``.husky``, ``./tools/smudge``, a merge driver beside the lock file it merges), and
the work tree is what the branch changes; so hooks, filters, drivers and monitors stay off.
Two trees are merged in a repository of our own, which knows none of the user's configuration;
only a result without conflicts reaches the work tree, by one checkout that looks before it writes.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from plandock import git, proc
from plandock.errors import PlandockError
from plandock.printable import one_line
from plandock.workspace import landing, quarantine
from plandock.workspace.neutral import Neutral, neutralise
from plandock.workspace.quarantine import Quarantine

_GITLINK, _ABSENT = b"160000", b"000000"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class NotTaken(PlandockError):
    """The work does not fit onto what is there; nothing was changed."""


@dataclass(frozen=True)
class Taken:
    """What arrived: changed paths (undecodable bytes as surrogates), and sentences to show."""

    paths: list[str]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Change:
    old_mode: bytes
    mode: bytes
    path: str


def work_tree(repo: Path, cwd: Path) -> Path:
    """The work tree to take into: that of ``cwd`` when it is one of ``repo``'s, else ``repo``."""
    found = git.git(cwd, "rev-parse", "--show-toplevel", check=False)
    top = Path(found.text.rstrip("\n")) if found.ok else None
    if top is None or not top.parts or top == repo:
        return repo
    words = ("rev-parse", "--path-format=absolute", "--git-common-dir")
    here, there = (git.git(x, *words, check=False) for x in (top, repo))
    return top if here.ok and here.text == there.text else repo


def merge(tree: Path, *, head: str, branch: str, run_id: str) -> Taken:
    """Merge the commit ``head`` into what is checked out in ``tree``.

    A fast-forward where ``merge.ff`` allows it, else a commit with two parents.  Raises
    :class:`NotTaken` on conflicts and where uncommitted or untracked files are in the way.
    """
    neutral = neutralise(tree)
    before = git.head_commit(tree)
    if _is_ancestor(tree, head, before):
        return Taken([], ["everything was there already"])
    how = neutral.settings.get("merge.ff", "true").lower()
    target = head
    if not _is_ancestor(tree, before, head) or how in ("false", "no", "off", "0"):
        if how == "only":
            raise NotTaken("it is no fast-forward, and your merge.ff is `only`")
        target = _merge_commit(tree, neutral, before, head, branch, run_id)
    bookmark = git.git(tree, "rev-parse", "--verify", "--quiet", "ORIG_HEAD", check=False).text
    with _uninterrupted():
        done = git.git(
            tree,
            *("merge", "--quiet", "--ff-only", "--no-edit", "--no-stat", "--no-autostash"),
            *("--no-overwrite-ignore", "--no-verify-signatures", "--no-squash", target),
            env={**neutral.env, "GIT_REFLOG_ACTION": f"plandock merge {run_id}"},
            check=False,
        )
        if not done.ok:
            # Set by git before it looks; `git reset --hard ORIG_HEAD` is to mean what it meant.
            old = ("ORIG_HEAD", bookmark.strip()) if bookmark else ("-d", "ORIG_HEAD")
            git.git(tree, "update-ref", *old, env=neutral.env, check=False)
    if not done.ok:
        raise NotTaken(_why(done))
    changes = _changes(tree, before, target)
    return Taken([c.path for c in changes], _notes(tree, neutral, changes, "git lfs pull"))


def apply(tree: Path, *, snapshot: str, head: str) -> Taken:
    """Change the files of ``tree`` as ``head`` changes ``snapshot``; index and HEAD stay.

    Raises :class:`NotTaken` on conflicts, and where a file that would change holds something
    uncommitted or untracked.
    """
    neutral = neutralise(tree)
    ours = git.head_commit(tree)
    with tempfile.TemporaryDirectory(prefix="plandock-apply-") as folder:
        room = quarantine.build(tree, Path(folder))
        result = _combine(room, neutral, snapshot, ours, head)
        objects = {"GIT_ALTERNATE_OBJECT_DIRECTORIES": _quoted(room.path / "objects")}
        env = {**neutral.env, **objects}
        changes = _changes(tree, ours, result, env)
        if not changes:
            return Taken([], ["everything was there already"])
        index = Path(folder) / "index"
        _copy_index(tree, index, ours, env)
        env["GIT_INDEX_FILE"] = str(index)
        git.git(tree, "update-index", "-q", "--refresh", env=env, check=False)
        _refuse_overlooked(tree, changes, env)
        _refuse_in_the_way(tree, changes)
        with _uninterrupted():
            words = ("read-tree", "-m", "-u", "--no-sparse-checkout", ours, result)
            done = git.git(tree, *words, env=env, check=False)
        if not done.ok:
            raise NotTaken(_why(done))
        notes = _notes(tree, neutral, changes, "git add them, then: git lfs pull", env)
    links = [c.path for c in changes if _GITLINK in (c.old_mode, c.mode)]
    if links:
        notes.append(f"submodules are not moved: {_some(links)}")
    return Taken([c.path for c in changes], notes)


def _is_ancestor(tree: Path, old: str, new: str) -> bool:
    return git.git(tree, "merge-base", "--is-ancestor", old, new, check=False).ok


def _merge_commit(
    tree: Path, neutral: Neutral, ours: str, theirs: str, branch: str, run_id: str
) -> str:
    """Make the merge in a repository of our own and let it into the user's; its id."""
    name, mail = git.identity(tree)
    where = git.git(tree, "symbolic-ref", "--quiet", "--short", "HEAD", check=False).text.strip()
    into = f" into {where}" if where not in ("", "main", "master") else ""
    who = {
        f"GIT_{role}_{key}": value
        for role in ("AUTHOR", "COMMITTER")
        for key, value in (("NAME", name), ("EMAIL", mail))
    }
    with tempfile.TemporaryDirectory(prefix="plandock-merge-") as folder:
        room = quarantine.build(tree, Path(folder))
        _take_attributes(room, ours)
        result = _merge_trees(room, neutral, ours, theirs)
        words = ("commit-tree", result, "-p", ours, "-p", theirs)
        message = f"Merge branch '{branch}'{into}\n".encode()
        made = room.git(*words, stdin=message, env=who).text.strip()
        with tempfile.TemporaryFile(dir=folder) as pack:
            orders = f"{made}\n^{ours}\n^{theirs}\n".encode()
            room.git("pack-objects", "--revs", "--stdout", "-q", stdin=orders, stdout=pack)
            pack.seek(0)
            try:
                landing.let_in(tree, pack, run_id)
            finally:
                landing.release(tree, run_id)
    return made


def _combine(room: Quarantine, neutral: Neutral, base: str, ours: str, theirs: str) -> str:
    """The tree of ``ours`` with what ``theirs`` changed since ``base``, wherever HEAD has gone."""
    trees = [
        room.git("rev-parse", "--verify", "--end-of-options", f"{x}^{{tree}}").text.strip()
        for x in (base, ours, theirs)
    ]
    if trees[0] == trees[1]:
        return trees[2]
    if trees[0] == trees[2]:
        return trees[1]
    _take_attributes(room, ours)
    # `merge-tree --merge-base` is git 2.40; two commits with one parent say the same.
    who = {f"GIT_{r}_{k}": "plandock" for r in ("AUTHOR", "COMMITTER") for k in ("NAME", "EMAIL")}
    root = room.git("commit-tree", trees[0], env=who).text.strip()
    sides = [room.git("commit-tree", x, "-p", root, env=who).text.strip() for x in trees[1:]]
    return _merge_trees(room, neutral, *sides)


def _merge_trees(room: Quarantine, neutral: Neutral, ours: str, theirs: str) -> str:
    words = ("merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", ours, theirs)
    # The environment makes every driver of the user's a conflict: none is run, none is ignored.
    done = room.git(*words, env=neutral.env, check=False)
    found = git.names(done.stdout)
    if done.returncode == 1 and found:
        raise NotTaken(f"it conflicts with what you have in {_some(sorted(set(found[1:])))}")
    if done.returncode != 0 or not found:
        old = "usage:" in done.stderr.decode("utf-8", "replace")
        raise NotTaken("this needs git 2.38 or newer" if old else one_line(done.complaint))
    return found[0]


def _take_attributes(room: Quarantine, ours: str) -> None:
    """The user's own attributes say what is binary and what is merged by union."""
    found = room.git("cat-file", "blob", f"{ours}:.gitattributes", check=False)
    info = room.path / "info"
    info.mkdir(exist_ok=True)
    (info / "attributes").write_bytes(found.stdout if found.ok else b"")


def _changes(tree: Path, old: str, new: str, env: dict[str, str] | None = None) -> list[_Change]:
    words = ("diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-ext-diff", "--no-textconv")
    found = git.git(tree, *words, "--ignore-submodules=none", old, new, env=env)
    parts = found.stdout.split(b"\0")
    return [
        _Change(meta[1:7], meta[8:14], path.decode("utf-8", "surrogateescape"))
        for meta, path in zip(parts[:-1:2], parts[1::2], strict=True)
    ]


def _copy_index(tree: Path, copy: Path, ours: str, env: dict[str, str]) -> None:
    where = git.git(tree, "rev-parse", "--path-format=absolute", "--git-path", "index")
    index = where.text.removesuffix("\n")
    if os.path.exists(index):
        # With its time: whether an entry may have changed in the same moment depends on it.
        shutil.copy2(index, copy)
    else:
        git.git(tree, "read-tree", ours, env={**env, "GIT_INDEX_FILE": str(copy)})


def _refuse_overlooked(tree: Path, changes: Sequence[_Change], env: dict[str, str]) -> None:
    """Files that git was told not to look at would be overwritten, or passed over, unseen."""
    touched = {c.path for c in changes}
    listed = git.names(git.git(tree, "ls-files", "-v", "-z", env=env).stdout)
    hidden = [x[2:] for x in listed if (x[0].islower() or x[0] == "S") and x[2:] in touched]
    if hidden:
        raise NotTaken(f"git is told to overlook {_some(hidden)} here (sparse checkout?)")


def _refuse_in_the_way(tree: Path, changes: Sequence[_Change]) -> None:
    """Files that git does not track, ignored ones too: `read-tree` would write over those."""
    tracked = {c.path for c in changes if c.old_mode != _ABSENT}
    blocked: list[str] = []
    for change in changes:
        if change.old_mode == _ABSENT:
            blocked += _in_the_way(tree, change.path, tracked)
    if blocked:
        raise NotTaken(f"files that git does not track are in the way: {_some(blocked)}")


def _in_the_way(tree: Path, path: str, tracked: set[str]) -> Iterator[str]:
    for i, c in enumerate(path):
        if c == "/" and path[:i] not in tracked:
            mode = _mode(tree, path[:i])
            if mode is None:
                return
            if not stat.S_ISDIR(mode):
                yield path[:i]
                return
    mode = _mode(tree, path)
    if mode is None:
        return
    if not stat.S_ISDIR(mode):
        yield path
        return
    place = os.fsencode(tree) + b"/"
    for folder, folders, files in os.walk(place + path.encode("utf-8", "surrogateescape")):
        links = [x for x in folders if os.path.islink(os.path.join(folder, x))]
        for name in (*files, *links):
            inside = os.path.join(folder, name).removeprefix(place)
            if (text := inside.decode("utf-8", "surrogateescape")) not in tracked:
                yield text


def _mode(tree: Path, path: str) -> int | None:
    try:
        return os.lstat(os.fsencode(tree) + b"/" + path.encode("utf-8", "surrogateescape")).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None


def _notes(
    tree: Path,
    neutral: Neutral,
    changes: Sequence[_Change],
    way: str,
    env: dict[str, str] | None = None,
) -> list[str]:
    """What the filters that did not run would have done."""
    known = {k[7:].rpartition(".")[0] for k in neutral.settings if re.match(r"filter\..+\.", k)}
    present = [c.path for c in changes if c.mode != _ABSENT]
    if not known or not present:
        return []
    asked = b"".join(x.encode("utf-8", "surrogateescape") + b"\0" for x in present)
    said = git.names(
        git.git(tree, "check-attr", "-z", "--stdin", "filter", stdin=asked, env=env).stdout
    )
    met: dict[str, list[str]] = {}
    for path, value in zip(said[::3], said[2::3], strict=True):
        if value in known:
            met.setdefault(value, []).append(path)
    notes = []
    for name, paths in sorted(met.items()):
        if name == "lfs":
            notes.append(f"Git LFS did not run; pointers may stand in {_some(paths)} ({way})")
        else:
            notes.append(f"the filter {name} did not run for {_some(paths)}")
    return notes


def _why(done: proc.Finished) -> str:
    """The first line that says what is wrong, with the files that git lists below it."""
    lines = [x for x in done.stderr.decode("utf-8", "replace").splitlines() if x.strip()]
    first = next((i for i, x in enumerate(lines) if x.startswith(("error:", "fatal:"))), 0)
    files = [x.strip() for x in lines[first + 1 :] if x.startswith("\t")]
    words = lines[first].partition(": ")[2] or lines[first] if lines else "git gave no reason"
    return one_line(words + (f" {_some(files)}" if files else ""))


def _some(paths: Sequence[str]) -> str:
    shown = ", ".join(one_line(x, limit=200) for x in paths[:5])
    return shown + (f" and {len(paths) - 5} more" if len(paths) > 5 else "")


def _quoted(path: Path) -> str:
    # As in an alternates file: a path may hold the list's separator.
    text = str(path).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{text}"'


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold signals back, here and in the child that inherits the mask, until all is written."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
