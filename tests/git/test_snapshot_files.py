"""Unusual files, and a tree that does not hold still."""

from __future__ import annotations

import os
import signal
import socket
import stat
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from plandock import git
from plandock.errors import RepositoryError
from plandock.proc import Finished
from plandock.workspace import changes
from tests.git.worlds import World, fingerprint, untouched


def test_sockets_and_fifos_are_skipped(world):
    """Untracked ones are passed over as git does; one in place of a file is named; no hang."""
    os.mkfifo(world.root / "fifo")
    (world.root / "a.txt").unlink()
    os.mkfifo(world.root / "a.txt")
    here = Path.cwd()
    os.chdir(world.root)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("sock")
    os.chdir(here)
    taken = world.snapshot()
    assert taken.commit == taken.base
    assert taken.left_out == ["a.txt (neither a file nor a link)"]


def test_files_folders_and_links_change_places(world):
    """File to folder, folder to file, folder to link, file to link, dangling and looping links."""
    world.commit("f", "d/x", "e/x", "l")
    (world.root / "f").unlink()
    world.write("f/inside")
    (world.root / "d/x").unlink()
    (world.root / "d").rmdir()
    world.write("d", "now a file\n")
    os.rename(world.root / "e", world.root / "real")
    os.symlink("real", world.root / "e")
    (world.root / "l").unlink()
    os.symlink("l", world.root / "l")
    with untouched(world.root):
        taken = world.snapshot()
    assert world.tree(taken.commit) == world.add_all(taken.base)
    assert world.tree(taken.commit)["e"].startswith("120000")
    assert "e/x" not in world.tree(taken.commit)


@contextmanager
def as_somebody_else(world: World):
    """Run as an ordinary user, since root may read everything."""
    if os.geteuid() != 0:
        yield
        return
    for folder, folders, files in os.walk(world.folder):
        for name in [*folders, *files]:
            os.chown(os.path.join(folder, name), 65534, 65534, follow_symlinks=False)
    os.chown(world.folder, 65534, 65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_world(monkeypatch):
    """A repository in a folder that an ordinary user can reach."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o711)  # noqa: S103 - somebody else has to get in
        world = World(Path(folder), monkeypatch)
        world.commit("a.txt", "b.txt")
        yield world


def test_an_unreadable_file_is_a_clear_error(open_world):
    """The message names the file, the hint says what to do; `exclude` goes on without it."""
    world = open_world
    world.write("a.txt", "x\n")
    world.write("secret").chmod(0)
    with as_somebody_else(world):
        with pytest.raises(RepositoryError, match="'secret' cannot be read") as caught:
            world.snapshot()
        taken = world.snapshot("exclude")
    assert "exclude" in caught.value.hint
    assert taken.left_out == ["a.txt (uncommitted)", "secret (uncommitted)"]


def test_an_unreadable_folder_is_left_out_and_named(open_world):
    """A database's files that belong to somebody else: git passes them over, we say so."""
    world = open_world
    world.write("data/file")
    (world.root / "data").chmod(0)
    with as_somebody_else(world):
        taken = world.snapshot()
    (world.root / "data").chmod(0o755)
    assert taken.commit == taken.base
    assert taken.left_out == ["data/ (Permission denied)"]


def test_files_that_change_meanwhile_cost_nothing_but_a_retry(world):
    """Files that grow, shrink, come and go during the snapshot: it ends, and it is whole."""
    stop = threading.Event()

    def busy() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            world.write("busy.txt", "x" * (turn * 7919 % 200_000))
            place = world.write(f"flicker-{turn % 5}")
            place.unlink(missing_ok=True)
            stop.wait(0.002)

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        for _ in range(8):
            taken = world.snapshot()
            assert "busy.txt" in world.tree(taken.commit)
    finally:
        stop.set()
        thread.join()
    world.git("fsck", "--strict", taken.commit)


@pytest.mark.parametrize("command", ["write-tree", "update-index", "ls-files"])
def test_git_that_a_shrinking_file_ends_is_run_again(world, monkeypatch, command):
    """A file shrinks while git has it mapped: SIGBUS, and a lock that is left behind."""
    world.write("a.txt", "uncommitted\n")
    plain = git.git
    ended: list[tuple[str, ...]] = []

    def shrinking(directory, *args, **more):
        if command in args and len(ended) < 3:
            lock = Path(f"{more['env']['GIT_INDEX_FILE']}.lock")
            assert not lock.exists()
            lock.touch()
            ended.append(args)
            return Finished(("git", *args), -signal.SIGBUS, b"", b"")
        return plain(directory, *args, **more)

    monkeypatch.setattr(git, "git", shrinking)
    assert world.snapshot().included == ["a.txt"]
    assert len(ended) == 3


def test_a_commit_made_meanwhile_becomes_the_base(world, monkeypatch):
    """What the user commits during the snapshot is not told as uncommitted work."""
    world.write("a.txt", "committed meanwhile\n")
    world.write("dir/b.txt", "still uncommitted\n")
    plain, calls = changes.copied_index, []

    def copied_index(*args):
        calls.append(args)
        if len(calls) == 1:
            world.git("commit", "-q", "-m", "meanwhile", "a.txt")
        return plain(*args)

    monkeypatch.setattr("plandock.workspace.snapshot.copied_index", copied_index)
    taken = world.snapshot()
    assert (taken.base, taken.included) == (world.head(), ["dir/b.txt"])
    assert len(calls) == 2


def test_plandocks_own_files_are_never_taken(world, monkeypatch):
    """A home folder under version control: the store and the temporary index stay out of it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(world.root / "state"))
    (world.root / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(world.root / "tmp"))
    world.write("state/plandock/plandock.db", "private")
    world.write("new")
    taken = world.snapshot()
    assert taken.included == ["new"]
    assert list((world.root / "tmp").iterdir()) == []


@pytest.mark.parametrize("place", ["", "mine/claude", "mine/home"])
def test_logins_and_an_untracked_home_folder_are_never_taken(world, monkeypatch, place):
    """Where Claude Code's folder or the home folder lies in the repository, or is it: a login,
    conversations and keys that git was never told of stay here, though `carry` names them."""
    world.write("mine/claude/settings.json", "{}\n")
    world.commit(".gitignore")
    world.write("mine/claude/settings.json", '{"model": "opus"}\n')
    world.write("mine/home/.claude/.credentials.json", "a made-up login\n")
    world.write("mine/home/id_ed25519", "a made-up key\n")
    world.write("mine/claude/.credentials.json", "a made-up login\n")
    world.write("mine/claude/projects/x/y.jsonl", "a conversation\n")
    world.write("work.txt")
    if place == "mine/home":
        monkeypatch.setenv("HOME", str(world.root / place))
        taken = world.snapshot()
        assert {x for x in taken.included if not x.startswith("mine/claude/")} == {"work.txt"}
        assert [x.partition(" ")[0] for x in taken.left_out] == [
            "mine/home/.claude/", "mine/home/",
        ]  # fmt: skip
        return
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(world.root / place))
    (world.root / ".git/info").mkdir(exist_ok=True)
    (world.root / ".git/info/exclude").write_text("*.jsonl\n")
    taken = world.snapshot(carry=["mine"])
    # What git knows of goes as it is; of what it does not, nothing.
    rest = {"mine/home/.claude/.credentials.json", "mine/home/id_ed25519", "work.txt"}
    assert set(taken.included) == {"mine/claude/settings.json", *(rest if place else ())}
    assert taken.left_out == [f"{place or '.'}/ (Claude Code's own folder)"]


def test_called_from_below_the_root_the_whole_tree_is_taken(world):
    """A folder inside the work tree stands for its repository."""
    world.write("a.txt", "x\n")
    world.root = world.root / "dir"
    assert world.snapshot().included == ["a.txt"]


def test_large_changes_pass_through_pipes(world):
    """Thousands of changed, deleted and new files: no limit of a command line is met."""
    for i in range(6000):
        world.write(f"{'long name ' * 6}/{i}", f"{i}\n")
    world.commit()
    for i in range(3000):
        (world.root / f"{'long name ' * 6}/{i}").unlink()
        world.write(f"{'long name ' * 6}/new {i}", f"new {i}\n")
    taken = world.snapshot()
    assert len(taken.included) == 6000


def test_fingerprints_would_notice(world):
    """The comparison that most of these tests rely on sees what git status and git add do."""
    seen = fingerprint(world.root)
    (world.root / "a.txt").touch()
    os.utime(world.root / ".git/index", ns=(1, 1))
    world.git("status")
    later = fingerprint(world.root)
    changed = {os.path.relpath(x, world.root) for x in seen if seen[x] != later[x]}
    assert changed == {"a.txt", ".git/index"}
    assert stat.S_ISREG(os.stat(world.root / ".git/index").st_mode)
