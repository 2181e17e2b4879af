"""The user's tree, frozen without a trace: what is in it, and what it costs."""

from __future__ import annotations

import os
import time

import pytest

from plandock.errors import RepositoryError, UsageError
from tests.git.worlds import EMAIL, NAME, REF, make_dirty, untouched, wait_out_the_clock


def test_a_clean_tree_is_its_head(world):
    """Nothing uncommitted: the snapshot is HEAD itself, kept by the hidden ref."""
    with untouched(world.root):
        taken = world.snapshot()
    assert (taken.commit, taken.dirty, taken.included, taken.left_out) == (
        world.head(),
        False,
        [],
        [],
    )
    assert taken.head_ref == "main"
    assert world.git("rev-parse", REF) == world.head()


def test_a_dirty_tree_is_one_commit_on_head(world):
    """Staged, unstaged, deleted, renamed, executable, linked and untracked: as on disk."""
    make_dirty(world)
    with untouched(world.root, world.home):
        taken = world.snapshot()
    assert taken.base == world.head()
    assert world.git("rev-parse", f"{taken.commit}^@") == taken.base
    assert world.tree(taken.commit) == world.add_all(taken.base)
    assert world.content(taken.commit, "a.txt") == "changed after staging\n"
    assert set(taken.included) == {
        "a.txt",
        "dir/b.txt",
        "dir/c.txt",
        "dir/moved.txt",
        "run.sh",
        "link",
        ".gitignore",
        'new dir/deep/ü "quoted"\nname.txt',
    }
    assert taken.dirty
    assert taken.left_out == []
    modes = {p: x[:6] for p, x in world.tree(taken.commit).items()}
    assert (modes["run.sh"], modes["link"]) == ("100755", "120000")


def test_the_commit_is_the_users_and_says_what_it_is(world):
    """Author and committer are the user, with fixed trailers and no signature."""
    world.write("a.txt", "x\n")
    taken = world.snapshot()
    who = world.git("log", "-1", "--format=%an %ae %cn %ce", taken.commit)
    assert who == f"{NAME} {EMAIL} {NAME} {EMAIL}"
    message = world.git("log", "-1", "--format=%B", taken.commit)
    assert message.startswith("plandock: your uncommitted work at hand-off (r7k2)\n\n")
    trailers = world.git("log", "-1", "--format=%(trailers:only)", taken.commit)
    assert trailers.split("\n")[:2] == ["Plandock-Run: r7k2", "Plandock-Snapshot: true"]


def test_taken_twice_it_is_the_same_commit(world):
    """A step that is repeated makes nothing new; a change in between makes a new one."""
    world.write("a.txt", "x\n")
    first = world.snapshot().commit
    time.sleep(1.1)
    assert world.snapshot().commit == first
    world.write("a.txt", "y\n")
    assert world.snapshot().commit != first


def test_the_hidden_ref_keeps_it_from_collection(world):
    """`git gc --prune=now` leaves the snapshot whole."""
    world.write("a.txt", "only here\n")
    taken = world.snapshot()
    world.git("gc", "-q", "--prune=now")
    assert world.content(taken.commit, "a.txt") == "only here\n"


def test_a_dirty_stash_and_reflogs_are_left_alone(world):
    """Stash, reflogs and even `core.logAllRefUpdates=always` see nothing of it."""
    world.write("a.txt", "stashed\n")
    world.git("stash")
    world.git("config", "core.logAllRefUpdates", "always")
    world.write("a.txt", "x\n")
    with untouched(world.root):
        world.snapshot()
    assert not (world.root / ".git/logs/refs/plandock").exists()


def test_exclude_is_head_and_names_what_is_missing(world):
    """`dirty = "exclude"` takes HEAD, writes no object, and lists the uncommitted paths."""
    make_dirty(world)
    before = world.objects()
    with untouched(world.root):
        taken = world.snapshot("exclude", carry=["noise.log"])
    assert taken.commit == taken.base == world.head()
    assert world.objects() == before
    assert taken.dirty
    assert "a.txt (uncommitted)" in taken.left_out
    assert "link (uncommitted)" in taken.left_out


def test_refuse_names_the_changes_and_the_way_out(world):
    """`dirty = "refuse"` stops at any change, writes nothing, and lets a clean tree pass."""
    assert world.snapshot("refuse").commit == world.head()
    world.git("update-ref", "-d", REF)
    (world.root / "a.txt").touch()
    assert world.snapshot("refuse").commit == world.head()
    world.git("update-ref", "-d", REF)
    make_dirty(world)
    before = world.objects()
    with untouched(world.root), pytest.raises(RepositoryError, match="uncommitted") as caught:
        world.snapshot("refuse")
    assert "stash" in caught.value.hint
    assert world.objects() == before
    assert world.git("for-each-ref", "refs/plandock") == ""


@pytest.mark.parametrize("change", ["staged", "unstaged", "untracked", "deleted", "mode"])
def test_each_kind_of_change_alone_is_refused(world, change):
    """Every kind counts by itself for `refuse`, and makes a commit for `include`."""
    if change == "staged":
        world.write("a.txt", "x\n")
        world.git("add", "a.txt")
    elif change == "unstaged":
        world.write("a.txt", "x\n")
    elif change == "untracked":
        world.write("new")
    elif change == "deleted":
        (world.root / "a.txt").unlink()
    else:
        (world.root / "a.txt").chmod(0o755)
    with pytest.raises(RepositoryError, match="new" if change == "untracked" else "a.txt"):
        world.snapshot("refuse")
    assert world.tree(world.snapshot().commit) == world.add_all(world.head())


def test_an_unknown_mode_is_a_usage_error(world):
    """A word that is none of the three is refused before anything is looked at."""
    with pytest.raises(UsageError):
        world.snapshot("maybe")


def test_carry_takes_ignored_files_along(world):
    """Named ignored files and globs are in it, other ignored ones are not."""
    world.commit(__gitignore=".env\n*.log\nbuild/\n")
    world.write(".env", "A=1\n")
    world.write("x.log")
    world.write("build/deep/out.bin")
    world.write("build/deep/out.map")
    taken = world.snapshot(carry=[".env", "build/**/*.bin", "not there"])
    assert set(taken.included) == {".env", "build/deep/out.bin"}
    with pytest.raises(RepositoryError) as caught:
        world.snapshot(carry=["../outside"])
    assert "carry" in caught.value.hint


def test_twenty_thousand_unchanged_files_are_not_hashed(world):
    """Nothing changed: not one new object. One file changed: a blob, a tree and a commit."""
    for i in range(20_000):
        world.write(f"many/{i % 200}/{i}", f"{i}\n")
    world.commit()
    wait_out_the_clock(world)
    before = world.objects()
    with untouched(world.root / ".git"):
        taken = world.snapshot()
    assert taken.commit == world.head()
    assert world.objects() == before
    # Twenty thousand files of the same stat data whose content is another: none was read, or it
    # would have been found. Only the one whose time changed is.
    for i in range(20_000):
        place = world.root / f"many/{i % 200}/{i}"
        place.write_bytes(b"x" * place.stat().st_size)
        os.utime(place, ns=(10**18, 10**18))
    world.git("config", "core.trustctime", "false")
    world.write("a.txt", "x\n")
    taken = world.snapshot()
    assert taken.included == ["a.txt"]
    assert len(world.objects() - before) == 3


def test_a_change_of_the_same_size_in_the_same_moment_is_seen(world):
    """Racily clean: same stat data, other content, index no younger. The copy keeps its time."""
    place = world.write("a.txt", "aaaa\n")
    # Long ago, for git may count whole seconds: all of this test lies within one.
    moment = (10**18, 10**18)
    os.utime(place, ns=moment)
    world.git("commit", "-q", "-a", "-m", "a")
    world.git("config", "core.trustctime", "false")
    with open(place, "r+b") as file:
        file.write(b"bbbb\n")
    os.utime(place, ns=moment)
    os.utime(world.root / ".git/index", ns=moment)
    assert world.content(world.snapshot().commit, "a.txt") == "bbbb\n"
    assert world.snapshot("exclude").left_out == ["a.txt (uncommitted)"]
