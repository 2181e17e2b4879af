"""What differs between HEAD and the work tree, found and staged in a *copy* of the index.

The copy keeps the original's time of change: git takes an entry for unchanged by its stat data
unless it is as young as the index itself ("racily clean", git's technical/racy-git).  With the
stat data and the time copied, only files whose stat changed are read; and the user's index, which
``git add`` or ``git status`` would rewrite, is only ever read.

No content filter runs (see :mod:`plandock.workspace.neutral`), so a file that goes through one
cannot be hashed rightly: it keeps its entry and is named among what was left out.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from plandock import git, paths, proc
from plandock.errors import PlandockError, RepositoryError
from plandock.printable import one_line
from plandock.workspace import lfs
from plandock.workspace.neutral import Neutral, neutralise

_UNOPENED = re.compile(rb"could not open directory '(.*?)': ([^\n]*)\n", re.DOTALL)
_GITLINK = "160000"
_ATTEMPTS = 8


@dataclass(frozen=True)
class Entry:
    """One entry of the index that needs thought: its ``ls-files -v`` tag, mode, id and path."""

    tag: str
    mode: str
    oid: str
    path: str


@dataclass(frozen=True)
class Difference:
    """One line of ``diff-files``: the entry's mode and id, the status letter, the path."""

    mode: str
    oid: str
    status: str
    path: str


@dataclass(frozen=True)
class Tracked:
    """Index entries that the work tree disagrees with, by what has to become of them."""

    removed: list[str]
    written: list[str]
    left_out: list[str]


@contextmanager
def copied_index(repo: Path, neutral: Neutral, base: str) -> Iterator[Changes]:
    """A private copy of the repository's index in a temporary folder, removed at the end.

    Where the repository has no index (``git init`` and a ``reset --soft``), the copy starts from
    the commit ``base``.  Raises :class:`RepositoryError` when that would lose a sparse checkout.
    """
    found = git.git(repo, "rev-parse", "--git-path", "index").text.removesuffix("\n")
    with TemporaryDirectory(prefix="plandock-index-") as folder:
        changes = Changes(repo, neutral, Path(folder))
        if not copy_index(repo / found, changes.index):
            if neutral.truth("core.sparsecheckout"):
                raise RepositoryError(
                    "a sparse checkout without an index: nobody knows which files are left out",
                    hint="run `git sparse-checkout reapply`",
                )
            changes.git("read-tree", base)
        yield changes


def copy_index(source: Path, target: Path) -> bool:
    """Copy an index with its time of change; False when there is none."""
    try:
        with open(source, "rb") as old, open(target, "wb") as new:
            # git replaces an index by renaming, so what is open here stays as it is.
            known = os.fstat(old.fileno())
            shutil.copyfileobj(old, new, 1 << 20)
    except FileNotFoundError:
        target.unlink(missing_ok=True)
        return False
    os.utime(target, ns=(known.st_atime_ns, known.st_mtime_ns))
    return True


class Changes:
    """The work tree compared with a copy of the index, and the copy brought up to date."""

    def __init__(self, repo: Path, neutral: Neutral, folder: Path) -> None:
        self.repo = repo
        self.neutral = neutral
        self.folder = folder
        self.index = folder / "index"
        self._root = os.fsencode(repo)

    def git(
        self,
        *args: str,
        stdin: Iterable[str] | None = None,
        check: bool = True,
        index: Path | None = None,
    ) -> proc.Finished:
        """Run git on the copy with every filter off; ``stdin`` is sent NUL-separated.

        Whatever writes an index looks into files that are as young as it, and git maps files into
        memory: one that shrinks meanwhile ends it by SIGBUS.  The next time the file may rest.
        """
        data = None if stdin is None else b"".join(_bytes(x) + b"\0" for x in stdin)
        place = index or self.index
        env = {**self.neutral.env, "GIT_INDEX_FILE": os.fspath(place)}
        for attempt in range(1, _ATTEMPTS + 1):
            done = git.git(self.repo, *args, stdin=data, env=env, check=False, timeout_s=3600.0)
            if done.returncode != -signal.SIGBUS or attempt == _ATTEMPTS:
                break
            place.with_name(f"{place.name}.lock").unlink(missing_ok=True)
            time.sleep(0.02 * attempt)
        if check and not done.ok:
            raise proc.ProcessFailed(f"git failed: {done.complaint}", finished=done)
        return done

    # -- reading -----------------------------------------------------------------------------

    def special_entries(self) -> list[Entry]:
        """Entries with a flag, with conflicts, or that stand for a submodule."""
        found = []
        for raw in self.git("ls-files", "-v", "--stage", "-z").stdout.split(b"\0"):
            if raw and (raw[:1] != b"H" or raw[2:8] == b"160000"):
                meta, _, path = raw.partition(b"\t")
                tag, mode, oid, _stage = meta.decode().split(" ")
                found.append(Entry(tag, mode, oid, path.decode("utf-8", "surrogateescape")))
        return found

    def tracked(self) -> Tracked:
        """Compare every entry with its file.  To be called before the copy is changed."""
        removed: list[str] = []
        candidates: dict[str, Difference] = {}
        left_out: list[str] = []
        for change in self._differences():
            mode = self._mode(change.path)
            # By the letter first: a file "below" a symbolic link is gone, yet lstat finds one.
            if change.status == "D" or mode is None or stat.S_ISDIR(mode):
                removed.append(change.path)
            elif stat.S_ISREG(mode) or stat.S_ISLNK(mode):
                candidates[change.path] = change
            else:
                left_out.append(f"{change.path} (neither a file nor a link)")
        filtered = self.filtered(candidates)
        if filtered:
            stale = self._stat_changed() & filtered.keys()
            same = lfs.unchanged(self.repo, {p: candidates[p].oid for p in stale}, self._mode)
            for path in sorted(stale - same):
                verb = "changed" if filtered[path] == "lfs" else "changed or touched"
                left_out.append(f"{path} ({filtered[path]}-filtered, {verb})")
        return Tracked(removed, [p for p in candidates if p not in filtered], left_out)

    def untracked(
        self, carry: Sequence[str] = (), config_dir: Path | None = None
    ) -> tuple[list[str], list[str]]:
        """Files to add, and what to leave out: unignored ones, and ignored ones of ``carry``.

        Nothing of the folders in which Claude Code (``config_dir``, default: this process's) and
        plandock keep logins is added; of a home folder that is a repository only what ``carry``
        names.
        """
        calls: list[tuple[str, ...]] = [()]
        if carry:
            calls.append(("--ignored", "--", *carry))
        wanted: dict[str, bool] = {}  # whether `carry` names it
        left_out: list[str] = []
        for extra in calls:
            found = self.git(
                "ls-files", "--others", "--exclude-standard", "-z", *extra, check=False
            )
            if not found.ok:
                raise RepositoryError(
                    f"git could not list the work tree's files: {one_line(found.complaint)}",
                    hint="see the setting `carry`" if extra else "see `git status`",
                )
            for folder, why in _UNOPENED.findall(found.stderr):
                left_out.append(f"{_text(folder)} ({_text(why)})")
            wanted.update(dict.fromkeys(git.names(found.stdout), bool(extra)))
        ours = [x for x in map(self._inside, (paths.state_dir(), self.folder)) if x]
        secret = [(paths.config_dir(), "plandock's own folder")]
        secret += [(config_dir or paths.claude_config_dir(), "Claude Code's own folder")]
        private = [(self._inside(folder), why) for folder, why in secret]
        home = self._inside(paths.home())
        added = []
        for path in wanted:
            if any(_is_below(path, x) for x in ours):
                continue
            why = next((f"{x} ({why})" for x, why in private if _is_below(path, x)), "")
            if not why and not wanted[path] and _is_below(path, home):
                why = f"{home} (untracked files of your home folder: `git add` what is to go along)"
            if why or path.endswith("/"):
                left_out.append(why or f"{path} (a git repository of its own)")
            else:
                added.append(path)
        filtered = self.filtered(added)
        left_out += [f"{p} ({d}-filtered, untracked)" for p, d in filtered.items()]
        return [x for x in added if x not in filtered], list(dict.fromkeys(left_out))

    def filtered(self, candidates: Iterable[str]) -> dict[str, str]:
        """Which of these regular files go through a configured content filter, and its name."""
        if not self.neutral.drivers:
            return {}
        files = [p for p in candidates if stat.S_ISREG(self._mode(p) or 0)]
        if not files:
            return {}
        fields = self.git("check-attr", "-z", "--stdin", "filter", stdin=files).stdout.split(b"\0")
        pairs = zip(fields[0::3], fields[2::3], strict=False)
        return {_text(p): _text(d) for p, d in pairs if _text(d) in self.neutral.drivers}

    def hidden(self, entries: Iterable[Entry]) -> list[str]:
        """Changed files that git was told not to look at (assume-unchanged, skip-worktree).

        In a sparse checkout git itself lifts skip-worktree from files that are there.
        """
        sparse = self.neutral.truth("core.sparsecheckout")
        flagged: dict[str, str] = {}
        for entry in entries:
            flag = "assume-unchanged" if entry.tag.islower() else "skip-worktree"
            skip = entry.tag in "Ss"
            if entry.mode == _GITLINK or not (entry.tag.islower() or (skip and not sparse)):
                continue
            if self._mode(entry.path) is not None:
                flagged[entry.path] = flag
        if not flagged:
            return []
        second = self.folder / "unhidden"
        copy_index(self.index, second)
        for option in ("--no-assume-unchanged", "--no-skip-worktree"):
            self.git("update-index", option, "-z", "--stdin", stdin=flagged, index=second)
        changed = self._really_changed(second)
        return [f"{p} ({flag}, changed)" for p, flag in flagged.items() if p in changed]

    def submodules(self, entries: Iterable[Entry]) -> list[str]:
        """Submodules that are not as the index says; their entries stay as they are."""
        notes = []
        for entry in entries:
            if entry.mode != _GITLINK or entry.tag != "H":
                continue
            why = self._submodule(entry)
            if why:
                notes.append(f"{entry.path} (submodule, {why})")
        return notes

    def uncommitted(self, base: str) -> tuple[list[str], list[str]]:
        """Every path that differs from ``base``, and what a snapshot would leave out anyway.

        Writes no object; the copy is refreshed, so nothing is to be staged in it afterwards.
        """
        entries = self.special_entries()
        tracked = self.tracked()
        notes = self.hidden(entries) + self.submodules(entries)
        added, others = self.untracked()
        staged = git.names(
            self.git("diff-index", "--cached", "--name-only", "--no-renames", "-z", base).stdout
        )
        written = self._really_changed(self.index) & set(tracked.written) if tracked.written else ()
        changed = sorted({*staged, *tracked.removed, *written, *added})
        return changed, tracked.left_out + notes + others

    # -- writing to the copy -----------------------------------------------------------------

    def remove(self, gone: Sequence[str]) -> None:
        """Take paths out of the copied index."""
        if gone:
            self.git("update-index", "--force-remove", "-z", "--stdin", stdin=gone)

    def write(self, wanted: Sequence[str]) -> list[str]:
        """Hash files into the repository's object store and enter them into the copied index.

        Returns what was left out: names that git takes for its own.  Raises
        :class:`RepositoryError` when a file cannot be read.
        """
        if not wanted:
            return []
        for attempt in range(1, _ATTEMPTS + 1):
            done = self.git(
                "update-index",
                "--add",
                "--remove",
                "--replace",
                "-z",
                "--stdin",
                stdin=wanted,
                check=False,
            )
            if done.ok:
                break
            if failure := self._unreadable(wanted):
                raise failure
            if attempt == _ATTEMPTS:
                raise RepositoryError(
                    f"the work tree could not be frozen: {one_line(done.complaint)}",
                    hint="see whether something is writing to it, then hand off again",
                )
            # git maps files into memory: one that shrinks is an error, or even a SIGBUS, which
            # leaves the lock of our copy behind.  The next time the file may rest.
            self.index.with_name("index.lock").unlink(missing_ok=True)
            time.sleep(0.02 * attempt)
        if not done.stderr:
            return []
        # It passes over names like `.GIT` or `git~1` with a word on stderr.
        there = set(git.names(self.git("ls-files", "-z").stdout))
        skipped = [x for x in wanted if x not in there and self._mode(x) is not None]
        return [f"{x} (not a name that git takes)" for x in skipped]

    # -- parts -------------------------------------------------------------------------------

    def _differences(self, index: Path | None = None) -> Iterator[Difference]:
        fields = self.git(
            "diff-files",
            "--raw",
            "--no-renames",
            "--no-abbrev",
            "--ignore-submodules=all",
            "--ita-invisible-in-index",
            "-z",
            index=index,
        ).stdout.split(b"\0")
        for meta, path in zip(fields[0::2], fields[1::2], strict=False):
            mode, _, oid, _, status = meta.decode().lstrip(":").split(" ")
            yield Difference(mode, oid, status[0], _text(path))

    def _stat_changed(self) -> set[str]:
        """Paths whose stat data differ, no content looked at.

        Without its filter a racily clean file would look changed.  An index that is younger
        than everything has no racy entries.
        """
        known = os.stat(self.index)
        tomorrow = time.time_ns() + 86_400 * 10**9
        os.utime(self.index, ns=(tomorrow, tomorrow))
        try:
            return {x.path for x in self._differences()}
        finally:
            os.utime(self.index, ns=(known.st_atime_ns, known.st_mtime_ns))

    def _really_changed(self, index: Path) -> set[str]:
        self.git("update-index", "-q", "--ignore-submodules", "--refresh", check=False, index=index)
        return {x.path for x in self._differences(index)}

    def _submodule(self, entry: Entry) -> str:
        place = self.repo / entry.path
        mode = self._mode(entry.path)
        if mode is None or not stat.S_ISDIR(mode):
            return "gone from the work tree" if mode is None else "replaced in the work tree"
        if not os.path.lexists(place / ".git"):
            return ""
        try:
            # A broken .git would make git find the repository around it.
            if git.top_level(place).resolve() != place.resolve():
                return "unreadable"
            head = git.head_commit(place)
            if head != entry.oid:
                return "on another commit"
            with copied_index(place, neutralise(place), head) as inner:
                changed, notes = inner.uncommitted(head)
                return "with changes of its own" if changed or notes else ""
        except PlandockError:
            return "not looked into"

    def _unreadable(self, wanted: Sequence[str]) -> RepositoryError | None:
        for path in wanted:
            if not stat.S_ISREG(self._mode(path) or 0):
                continue
            try:
                os.close(os.open(self._place(path), os.O_RDONLY | os.O_NONBLOCK))
            except FileNotFoundError:
                continue
            except OSError as error:
                return RepositoryError(
                    f"{one_line(path)!r} cannot be read: {error.strerror}",
                    hint='make it readable, have git ignore it, or set dirty = "exclude"',
                )
        return None

    def _place(self, path: str) -> bytes:
        return os.path.join(self._root, _bytes(path))

    def _mode(self, path: str) -> int | None:
        try:
            return os.lstat(self._place(path)).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _inside(self, folder: Path) -> str:
        """``folder`` as a prefix of paths in the repository, "./" for its top; "" elsewhere."""
        try:
            return os.fspath(folder.resolve().relative_to(self.repo.resolve())) + "/"
        except ValueError:
            return ""


def _is_below(path: str, prefix: str) -> bool:
    """Whether a path in the repository is that file or folder, or lies in it; "" is none."""
    return prefix == "./" or (bool(prefix) and f"{path}/".startswith(prefix))


def _bytes(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
