"""Throwaway repositories for the tests of the workspace, built with real git.

Each has a home folder of its own, so that "global" configuration can be tested and the user's
is out of reach.
"""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from plandock.workspace.snapshot import Snapshot, take_snapshot

NAME, EMAIL = "Ada Lovelace", "ada@example.invalid"
RUN = "r7k2"
REF = f"refs/plandock/runs/{RUN}/snapshot"


class World:
    """One repository with a first commit of ``files``, and what a user does in it."""

    def __init__(
        self,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        *,
        name: str = "repo",
        init: Sequence[str] = (),
    ) -> None:
        home = folder / "home"
        home.mkdir(exist_ok=True)
        monkeypatch.setenv("HOME", str(home))
        for variable in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
            monkeypatch.delenv(variable, raising=False)
        for variable in [x for x in os.environ if x.startswith("GIT_")]:
            monkeypatch.delenv(variable)
        self.folder = folder
        self.home = home
        self.root = folder / name
        self.root.mkdir(parents=True)
        (home / ".gitconfig").write_text(
            f"[user]\n\tname = {NAME}\n\temail = {EMAIL}\n"
            '[init]\n\tdefaultBranch = main\n[protocol "file"]\n\tallow = always\n'
            "[maintenance]\n\tauto = false\n"  # so that a commit starts no second process
        )
        self.git("init", "-q", *init)

    def git(
        self,
        *args: str | bytes,
        at: Path | None = None,
        check: bool = True,
        data: bytes = b"",
        env: dict[str, str] | None = None,
    ) -> str:
        """Run the user's plain git and return what it said."""
        done = subprocess.run(
            ["git", *args],
            cwd=at or self.root,
            input=data,
            capture_output=True,
            check=False,
            env={**os.environ, **(env or {})},
        )
        if check and done.returncode:
            raise AssertionError(f"git {args}: {done.stderr.decode(errors='replace')}")
        return done.stdout.decode("utf-8", "surrogateescape").removesuffix("\n")

    def write(self, path: str, content: str | bytes = "text\n") -> Path:
        """Put a file into the work tree."""
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content if isinstance(content, bytes) else content.encode())
        return place

    def commit(self, *paths: str, **files: str) -> str:
        """Write files (dots spelled as two underscores), add everything, commit; its id."""
        for path in paths:
            self.write(path, f"{path}\n")
        for path, content in files.items():
            self.write(path.replace("__", "."), content)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "work")
        return self.head()

    def head(self) -> str:
        """The commit that HEAD stands on."""
        return self.git("rev-parse", "HEAD")

    def snapshot(self, dirty: str = "include", carry: Sequence[str] = ()) -> Snapshot:
        """Take a snapshot, as the supervisor would."""
        return take_snapshot(
            self.root, run_id=RUN, dirty=dirty, carry=carry, name=NAME, email=EMAIL
        )

    def tree(self, commit: str) -> dict[str, str]:
        """Path → "mode id" of everything in a commit."""
        found = {}
        for entry in self.git("ls-tree", "-r", "-z", commit).split("\0"):
            if entry:
                meta, _, path = entry.partition("\t")
                mode, _, oid = meta.split(" ")
                found[path] = f"{mode} {oid}"
        return found

    def content(self, commit: str, path: str) -> str:
        """What a file holds in a commit."""
        return self.git("cat-file", "blob", f"{commit}:{path}") + "\n"

    def objects(self) -> set[str]:
        """Every object in the store."""
        listed = self.git("cat-file", "--batch-all-objects", "--batch-check=%(objectname)")
        return set(listed.split())

    def add_all(self, base: str) -> dict[str, str]:
        """What the user's own `git add -A` would make of the tree, in a clone of the index."""
        index = self.folder / "oracle"
        real = self.root / self.git("rev-parse", "--git-path", "index")
        if real.exists():
            index.write_bytes(real.read_bytes())
        env = {"GIT_INDEX_FILE": str(index)}
        # Twice, for what the first one frees; racy entries are read again at the price of time.
        os.utime(index, ns=(0, 10**9)) if index.exists() else self.git("read-tree", base, env=env)
        self.git("add", "-A", env=env)
        return self.tree(self.git("write-tree", env=env))


def fingerprint(*roots: Path) -> dict[str, tuple[object, ...]]:
    """Everything below ``roots``, less git's objects and plandock's refs: content, mode, mtime.

    Folders are compared by their entries; their own times change when git makes a lock beside.
    """
    seen: dict[str, tuple[object, ...]] = {}
    for root in roots:
        for folder, folders, files in os.walk(os.fsencode(root)):
            _without_ours(folder, folders)
            for name in [*files, *folders]:
                place = os.path.join(folder, name)
                state = os.lstat(place)
                kind = stat.S_IFMT(state.st_mode)
                content: object = None
                if stat.S_ISREG(kind):
                    with open(place, "rb") as file:
                        content = hashlib.sha256(file.read()).hexdigest()
                elif stat.S_ISLNK(kind):
                    content = os.readlink(place)
                moment = None if stat.S_ISDIR(kind) else state.st_mtime_ns
                # Reading a split index renews the shared half's time, `git status` does too.
                if name.startswith(b"sharedindex."):
                    moment = None
                seen[os.fsdecode(place)] = (state.st_mode, content, moment)
    return seen


def _without_ours(folder: bytes, folders: list[bytes]) -> None:
    if b"refs" in folders and b"objects" in folders:
        folders.remove(b"objects")
    if os.path.basename(folder) == b"refs" and b"plandock" in folders:
        folders.remove(b"plandock")


@contextmanager
def untouched(*roots: Path) -> Iterator[None]:
    """What lies in ``roots`` is byte for byte, and second for second, what it was."""
    before = fingerprint(*roots)
    yield
    after = fingerprint(*roots)
    changed = {x for x in before.keys() | after.keys() if before.get(x) != after.get(x)}
    assert not changed


def wait_out_the_clock(world: World) -> None:
    """Make every entry of the index older than the index (nothing racily clean)."""
    for path in world.git("ls-files", "-z").split("\0"):
        place = world.root / path
        if path and place.is_file():
            os.utime(place, ns=(10**18, 10**18))
    world.git("update-index", "-q", "--refresh", check=False)


def make_dirty(world: World) -> None:
    """Every ordinary kind of change at once."""
    world.write("a.txt", "staged\n")
    world.git("add", "a.txt")
    world.write("a.txt", "changed after staging\n")
    (world.root / "dir/b.txt").unlink()
    os.rename(world.root / "dir/c.txt", world.root / "dir/moved.txt")
    world.write("run.sh", "#!/bin/sh\n").chmod(0o755)
    os.symlink("nowhere at all", world.root / "link")
    world.write(".gitignore", "*.log\n")
    world.write("noise.log")
    world.write('new dir/deep/ü "quoted"\nname.txt', "odd\n")


def trap(world: World, name: str) -> tuple[Path, Path]:
    """A program that leaves a mark when run: (the program, the mark)."""
    mark = world.folder / f"{name}.ran"
    program = world.folder / f"{name}.sh"
    program.write_text(f"#!/bin/sh\ntouch '{mark}'\ncat\n")
    program.chmod(0o755)
    return program, mark


def use_lfs(world: World) -> None:
    """A stand-in for Git LFS: the clean filter writes a pointer, the smudge filter the content."""
    store = world.folder / "lfs"
    store.mkdir()
    clean = world.folder / "lfs-clean.sh"
    clean.write_text(
        f"#!/bin/sh\ncat > '{store}/new'\n"
        f"h=$(sha256sum < '{store}/new' | cut -c1-64); s=$(wc -c < '{store}/new' | tr -d ' ')\n"
        f"cp '{store}/new' '{store}/'$h\n"
        "printf 'version https://lfs.invalid/v1\\noid sha256:%s\\nsize %s\\n' $h $s\n"
    )
    clean.chmod(0o755)
    world.git("config", "--global", "filter.lfs.clean", str(clean))
    world.git("config", "--global", "filter.lfs.required", "true")
    world.commit(__gitattributes="*.bin filter=lfs -text\n", big__bin="content\n" * 50)


def add_submodule(world: World) -> Path:
    """A submodule `sub` with one commit, committed."""
    other = world.folder / "other"
    world.git("init", "-q", str(other))
    (other / "file").write_text("one\n")
    world.git("add", "-A", at=other)
    world.git("commit", "-q", "-m", "one", at=other)
    world.git("submodule", "--quiet", "add", str(other), "sub")
    world.git("commit", "-q", "-m", "sub")
    wait_out_the_clock(world)
    return world.root / "sub"
