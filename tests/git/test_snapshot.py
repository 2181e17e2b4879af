"""The user's tree, frozen without a trace; and nothing of the configuration is run."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from plandock.errors import RepositoryError, UsageError
from plandock.workspace import git, snapshot
from tests.git.worlds import EMAIL, NAME, REF, World, fingerprint


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A repository with three files in one commit."""
    world = World(tmp_path, monkeypatch)
    world.commit("a.txt", "dir/b.txt", "dir/c.txt")
    return world


@contextmanager
def untouched(*roots: Path):
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
    world.write("new dir/deep/ü \"quoted\"\nname.txt", "odd\n")


# -- what is in it ----------------------------------------------------------------------------


def test_a_clean_tree_is_its_head(world):
    """Nothing uncommitted: the snapshot is HEAD itself, kept by the hidden ref."""
    with untouched(world.root):
        taken = world.snapshot()
    assert (taken.commit, taken.dirty, taken.included, taken.left_out) == (
        world.head(), False, [], [],
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
        "a.txt", "dir/b.txt", "dir/c.txt", "dir/moved.txt", "run.sh", "link", ".gitignore",
        "new dir/deep/ü \"quoted\"\nname.txt",
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


# -- only what changed is read ------------------------------------------------------------------


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


# -- nothing of the configuration runs ----------------------------------------------------------


def trap(world: World, name: str) -> tuple[Path, Path]:
    """A program that leaves a mark when run: (the program, the mark)."""
    mark = world.folder / f"{name}.ran"
    program = world.folder / f"{name}.sh"
    program.write_text(f"#!/bin/sh\ntouch '{mark}'\ncat\n")
    program.chmod(0o755)
    return program, mark


@pytest.mark.parametrize("scope", ["--local", "--global"])
@pytest.mark.parametrize(
    "driver", ["plain", "a=b", "q\"u;#o", "a.b.", "UPPER", "ü", "in force = never"]
)
def test_no_clean_filter_runs(world, driver, scope):
    """Whatever its name and wherever configured; a plain `git add` would have run it."""
    program, mark = trap(world, "clean")
    world.git("config", scope, f"filter.{driver}.clean", str(program))
    world.git("config", scope, f"filter.{driver}.smudge", str(program))
    world.git("config", scope, f"filter.{driver}.required", "true")
    # An attribute cannot name every driver; a wildcard cannot either, so some are never in force.
    spelled = driver if " " not in driver else ""
    world.write(".git/info/attributes", f"*.bin filter={spelled}\n" if spelled else "")
    world.write("new.bin")
    world.write("a.txt", "x\n")
    if spelled:
        world.git("add", "-n", "new.bin")
        world.git("hash-object", "--path", "x.bin", "new.bin")
        assert mark.exists(), "the positive control did not run the filter"
        mark.unlink()
    taken = world.snapshot()
    assert not mark.exists()
    assert taken.included == (["a.txt"] if spelled else ["a.txt", "new.bin"])
    assert taken.left_out == ([f"new.bin ({driver}-filtered, untracked)"] if spelled else [])


def test_no_filter_process_runs(world):
    """A long-running filter, required, on a racily clean tracked file."""
    program, mark = trap(world, "process")
    world.commit(x__bin="raw\n")
    wait_out_the_clock(world)
    world.git("config", "filter.p.process", str(program))
    world.git("config", "filter.p.required", "true")
    world.write(".git/info/attributes", "*.bin filter=p\n")
    # The index is as young as the file: git has to look at the content.
    os.utime(world.root / ".git/index", ns=(10**18, 10**18))
    world.git("--no-optional-locks", "status", check=False)
    assert mark.exists(), "the positive control did not run the filter"
    mark.unlink()
    for mode in ("include", "exclude", "refuse"):
        assert world.snapshot(mode).left_out == []
    (world.root / "x.bin").touch()
    for mode in ("include", "exclude"):
        taken = world.snapshot(mode)
        assert taken.commit == world.head()
        assert taken.left_out == ["x.bin (p-filtered, changed or touched)"]
    with pytest.raises(RepositoryError):
        world.snapshot("refuse")
    assert not mark.exists()


def test_no_hook_monitor_or_signing_program_runs(world):
    """Hooks (a reference transaction too), the file-system monitor, gpg, textconv, a pager."""
    marks = []
    hooks = world.root / ".git/hooks"
    hooks.mkdir(exist_ok=True)
    program, mark = trap(world, "hook")
    marks.append(mark)
    for name in ("pre-commit", "post-commit", "reference-transaction", "post-index-change"):
        os.symlink(program, hooks / name)
    monitor, mark = trap(world, "monitor")
    marks.append(mark)
    world.git("config", "core.fsmonitor", str(monitor))
    world.git("config", "core.untrackedCache", "true")
    for key in ("gpg.program", "diff.d.textconv", "core.pager", "diff.external",
                "core.alternateRefsCommand", "credential.helper", "core.editor"):
        program, mark = trap(world, key)
        marks.append(mark)
        world.git("config", key, str(program))
    world.git("config", "commit.gpgSign", "true")
    world.git("config", "log.showSignature", "true")
    world.write(".gitattributes", "*.txt diff=d\n")
    world.write("a.txt", "x\n")
    world.git("update-index", "--fsmonitor")
    world.git("status")
    world.git("update-ref", "refs/heads/control", "HEAD")
    assert marks[0].exists(), "the positive control did not run the hook"
    assert marks[1].exists(), "the positive control did not run the monitor"
    marks[0].unlink()
    marks[1].unlink()
    with untouched(world.root):
        taken = world.snapshot()
    assert set(taken.included) == {"a.txt", ".gitattributes"}
    assert [x for x in marks if x.exists()] == []


def test_a_monitor_that_says_nothing_changed_is_not_believed(world):
    """What a file-system monitor left in the index does not hide a change."""
    quiet = world.folder / "quiet.sh"
    quiet.write_text("#!/bin/sh\nprintf 'token\\0'\n")
    quiet.chmod(0o755)
    world.git("config", "core.fsmonitor", str(quiet))
    world.git("update-index", "--fsmonitor")
    world.git("status")
    world.write("a.txt", "other content\n")
    assert "a.txt" not in world.git("status", "--porcelain"), "the control saw through it"
    assert world.snapshot().included == ["a.txt"]


def test_a_submodules_own_configuration_does_not_run(world):
    """Looking whether a submodule changed runs neither its filters nor its monitor."""
    inner = add_submodule(world)
    program, mark = trap(world, "inner")
    world.git("config", "filter.f.clean", str(program), at=inner)
    world.git("config", "core.fsmonitor", str(program), at=inner)
    (inner / ".gitattributes").write_text("* filter=f\n")
    (inner / "file").write_text("changed\n")
    world.git("status")
    assert mark.exists(), "the positive control ran nothing"
    mark.unlink()
    assert world.snapshot().left_out == ["sub (submodule, with changes of its own)"]
    assert not mark.exists()


# -- filters and conversions --------------------------------------------------------------------


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


def test_a_changed_lfs_file_keeps_its_pointer_and_is_named(world):
    """Its content cannot be hashed without the filter, so HEAD's pointer stays."""
    use_lfs(world)
    pointer = world.tree("HEAD")["big.bin"]
    world.write("big.bin", "changed\n")
    world.write("new.bin", "new\n")
    world.write("a.txt", "x\n")
    with untouched(world.root):
        taken = world.snapshot()
    assert world.tree(taken.commit)["big.bin"] == pointer
    assert taken.included == ["a.txt"]
    assert taken.left_out == [
        "big.bin (lfs-filtered, changed)", "new.bin (lfs-filtered, untracked)",
    ]


@pytest.mark.parametrize("how", ["racy", "touched", "pointer"])
def test_an_unchanged_lfs_file_is_not_misjudged(world, how):
    """Racily clean, touched, or never smudged: nothing is left out, nothing is refused."""
    use_lfs(world)
    place = world.root / "big.bin"
    if how == "racy":
        os.utime(world.root / ".git/index", ns=(0, place.stat().st_mtime_ns))
    elif how == "touched":
        os.utime(place, ns=(5, 5))
    else:
        place.write_text(world.git("cat-file", "blob", "HEAD:big.bin") + "\n")
    for mode in ("include", "refuse", "exclude"):
        taken = world.snapshot(mode)
        assert (taken.commit, taken.left_out) == (world.head(), [])


def test_a_racily_clean_file_of_another_filter_is_not_misjudged(world):
    """Without its filter it would look changed; its stat data say that it is not."""
    world.git("config", "filter.up.clean", "tr a-z A-Z")
    world.commit(__gitattributes="*.up filter=up\n", x__up="lower\n")
    moment = (world.root / "x.up").stat().st_mtime_ns
    os.utime(world.root / ".git/index", ns=(moment, moment))
    assert world.snapshot("refuse").left_out == []


def test_what_was_staged_through_a_filter_is_taken(world):
    """A cleaned version in the index is right as it is, and a deletion needs no filter."""
    use_lfs(world)
    world.commit(two__bin="two\n")
    world.write("big.bin", "staged\n")
    world.git("add", "big.bin")
    (world.root / "two.bin").unlink()
    taken = world.snapshot()
    assert taken.left_out == []
    assert "sha256" in world.content(taken.commit, "big.bin")
    assert world.tree(taken.commit) == world.add_all(taken.base)


def test_a_filter_without_a_command_is_no_filter(world):
    """An attribute for a driver that this machine has not configured changes nothing."""
    world.write(".gitattributes", "*.bin filter=absent\n")
    world.write("x.bin", "raw\n")
    assert world.content(world.snapshot().commit, "x.bin") == "raw\n"


@pytest.mark.parametrize(
    ("key", "value"), [("core.autocrlf", "true"), ("core.autocrlf", "input"), ("core.eol", "crlf")]
)
def test_line_endings_are_converted_as_git_would(world, key, value):
    """eol, autocrlf and working-tree-encoding stay in force, safecrlf does not stop it."""
    world.git("config", key, value)
    world.write(".gitattributes", "*.t text\n*.u working-tree-encoding=UTF-16LE text\n")
    world.write("crlf.txt", "one\r\ntwo\r\n")
    world.write("x.t", "one\r\ntwo\n")
    world.write("x.u", "ü\n".encode("utf-16-le"))
    oracle = world.add_all(world.head())
    world.git("config", "core.safecrlf", "true")
    taken = world.snapshot()
    assert world.tree(taken.commit) == oracle
    assert world.content(taken.commit, "x.t") == "one\ntwo\n"
    assert world.content(taken.commit, "x.u") == "ü\n"


# -- unusual repositories -----------------------------------------------------------------------


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


def test_a_linked_worktree_has_its_own_index_and_head(world):
    """A snapshot of a linked work tree leaves both work trees and the shared folder alone."""
    tree = world.folder / "linked"
    world.git("worktree", "add", "-q", "-b", "other", str(tree))
    world.write("a.txt", "main's change\n")
    main, world.root = world.root, tree
    world.write("a.txt", "linked change\n")
    world.write("new", "n\n")
    with untouched(main, tree):
        taken = world.snapshot()
    assert taken.head_ref == "other"
    assert set(taken.included) == {"a.txt", "new"}
    assert world.content(taken.commit, "a.txt") == "linked change\n"
    assert world.git("rev-parse", REF, at=main) == taken.commit


def test_a_clean_submodule_is_kept_without_a_word(world):
    """The gitlink is what HEAD has."""
    add_submodule(world)
    world.write("a.txt", "x\n")
    with untouched(world.root):
        taken = world.snapshot()
    assert (taken.included, taken.left_out) == (["a.txt"], [])
    assert world.tree(taken.commit)["sub"] == world.tree("HEAD")["sub"]


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("content", "with changes of its own"), ("untracked", "with changes of its own"),
        ("moved", "on another commit"), ("gone", "gone from the work tree"),
        ("broken", "not looked into"), ("replaced", "replaced in the work tree"),
        ("empty .git", "unreadable"),
    ],
)
def test_a_changed_submodule_keeps_its_entry_and_is_named(world, how, why):
    """Its content does not travel; its entry never changes; the reason is said."""
    inner = add_submodule(world)
    if how == "content":
        (inner / "file").write_text("two\n")
    elif how == "untracked":
        (inner / "new").write_text("two\n")
    elif how == "moved":
        world.git("commit", "-q", "--allow-empty", "-m", "two", at=inner)
    elif how == "broken":
        (inner / ".git").write_text("gitdir: /nowhere\n")
    elif how == "empty .git":
        (inner / ".git").unlink()
        (inner / ".git").mkdir()
    else:
        for place in (inner / "file", inner / ".git"):
            place.unlink()
        inner.rmdir()
        if how == "replaced":
            inner.write_text("a file now\n")
    taken = world.snapshot()
    assert taken.left_out == [f"sub (submodule, {why})"]
    assert taken.commit == taken.base


def test_a_submodule_that_was_never_fetched_is_fine(world):
    """An empty folder where a submodule belongs is what a plain clone looks like."""
    add_submodule(world)
    clone = world.folder / "clone"
    world.git("clone", "-q", str(world.root), str(clone))
    world.root = clone
    taken = world.snapshot("refuse")
    assert (taken.commit, taken.left_out) == (world.head(), [])


def test_nested_repositories_are_left_out_and_named(world):
    """`git add` would make a link to a commit that nobody can fetch."""
    for name in ("nested", "no commits", "ignored"):
        world.git("init", "-q", str(world.root / name))
        world.write(f"{name}/file")
    world.git("add", "-A", at=world.root / "nested")
    world.git("commit", "-q", "-m", "inner", at=world.root / "nested")
    world.write(".git/info/exclude", "ignored/\n")
    taken = world.snapshot(carry=["ignored"])
    assert "nested/ (a git repository of its own)" in taken.left_out
    assert "ignored/ (a git repository of its own)" in taken.left_out
    assert not [x for x in world.tree(taken.commit) if x.startswith(("nested", "ignored"))]
    assert "160000" not in {x[:6] for x in world.tree(taken.commit).values()}


def test_a_tracked_file_that_became_a_repository_is_gone(world):
    """The file is deleted, the repository in its place is named, and no link is made."""
    (world.root / "a.txt").unlink()
    world.git("init", "-q", str(world.root / "a.txt"))
    world.git("commit", "-q", "--allow-empty", "-m", "x", at=world.root / "a.txt")
    taken = world.snapshot()
    assert "a.txt" not in world.tree(taken.commit)
    assert taken.left_out == ["a.txt/ (a git repository of its own)"]


@pytest.mark.parametrize("sparse_index", ["false", "true"])
def test_a_sparse_checkout_deletes_nothing(world, sparse_index):
    """Files outside of it are kept as HEAD has them; those inside are as on disk."""
    world.commit("in/x", "out/y", "out/deep/z")
    flag = "--sparse-index" if sparse_index == "true" else "--no-sparse-index"
    world.git("sparse-checkout", "set", "--cone", flag, "in")
    assert not (world.root / "out").exists()
    with untouched(world.root):
        assert world.snapshot("refuse").commit == world.head()
    world.write("in/x", "changed\n")
    world.write("in/new")
    with untouched(world.root):
        taken = world.snapshot()
    assert set(taken.included) == {"in/x", "in/new"}
    assert "out/deep/z" in world.tree(taken.commit)
    world.write("out/y", "back, and changed\n")
    assert "out/y" in world.snapshot().included


def test_a_sparse_checkout_without_an_index_is_refused(world):
    """Nobody could tell a file that was left out from one that was deleted."""
    world.commit("in/x", "out/y")
    world.git("sparse-checkout", "set", "--cone", "in")
    (world.root / ".git/index").unlink()
    with pytest.raises(RepositoryError, match="sparse"):
        world.snapshot()


def test_a_shallow_clone_works(world):
    """The base is there, its parents need not be."""
    world.commit("later")
    clone = world.folder / "clone"
    world.git("clone", "-q", "--depth", "1", f"file://{world.root}", str(clone))
    world.root = clone
    world.write("a.txt", "x\n")
    with untouched(clone):
        assert world.snapshot().included == ["a.txt"]


def test_a_partial_clone_is_refused(world):
    """Objects that only the remote has would be fetched behind the user's back."""
    world.git("config", "uploadpack.allowFilter", "true")
    clone = world.folder / "clone"
    url = f"file://{world.root}"
    world.git("clone", "-q", "--filter=blob:none", "--no-checkout", url, str(clone))
    world.root = clone
    with untouched(clone), pytest.raises(RepositoryError, match="partial clone") as caught:
        world.snapshot()
    assert "full clone" in caught.value.hint


def test_an_unborn_branch_is_refused(tmp_path, monkeypatch):
    """There is nothing to start from; the hint says how to make it."""
    world = World(tmp_path, monkeypatch)
    with pytest.raises(RepositoryError, match="no commit yet"):
        world.snapshot()


@pytest.mark.parametrize("operation", ["merge", "rebase", "cherry-pick"])
def test_unresolved_conflicts_are_refused(world, operation):
    """One clear line names the file; `exclude` takes HEAD all the same."""
    world.git("checkout", "-q", "-b", "side")
    world.commit(a__txt="side\n")
    world.git("checkout", "-q", "main")
    world.commit(a__txt="main\n")
    world.git(operation, "side", check=False)
    with untouched(world.root), pytest.raises(RepositoryError, match=r"conflicts: a\.txt"):
        world.snapshot()
    assert world.snapshot("exclude").commit == world.head()


def test_a_resolved_merge_in_progress_is_taken(world):
    """All conflicts resolved and staged, the merge not committed: it is uncommitted work."""
    world.git("checkout", "-q", "-b", "side")
    world.commit(a__txt="side\n")
    world.git("checkout", "-q", "main")
    world.commit(a__txt="main\n")
    world.git("merge", "side", check=False)
    world.write("a.txt", "both\n")
    world.git("add", "a.txt")
    with untouched(world.root):
        taken = world.snapshot()
    assert world.content(taken.commit, "a.txt") == "both\n"


@pytest.mark.parametrize("configured", [True, False])
def test_a_split_index_stays_split(world, configured):
    """Its shared half is neither rewritten nor joined by another."""
    world.git("update-index", "--split-index")
    if configured:
        world.git("config", "core.splitIndex", "true")
    world.write("a.txt", "x\n")
    world.write("new")
    with untouched(world.root):
        taken = world.snapshot()
    assert set(taken.included) == {"a.txt", "new"}


def test_intent_to_add_is_a_file_like_any_other(world):
    """`git add -N`: with content, empty, and gone again."""
    for name, content in (("full", "x\n"), ("empty", ""), ("gone", "x\n")):
        world.write(name, content)
    world.git("add", "-N", "full", "empty", "gone")
    (world.root / "gone").unlink()
    with untouched(world.root):
        taken = world.snapshot()
    assert set(taken.included) == {"full", "empty"}
    assert world.tree(taken.commit) == world.add_all(taken.base)


@pytest.mark.parametrize("flag", ["assume-unchanged", "skip-worktree"])
def test_files_that_git_is_told_to_overlook_are_left_out_and_named(world, flag):
    """Local settings hidden that way stay on the host; unchanged or absent ones cause no note."""
    world.git("update-index", f"--{flag}", "a.txt", "dir/b.txt", "dir/c.txt")
    world.write("a.txt", "my secret\n")
    (world.root / "dir/b.txt").touch()
    (world.root / "dir/c.txt").unlink()
    with untouched(world.root):
        taken = world.snapshot()
    assert taken.commit == taken.base
    assert taken.left_out == [f"a.txt ({flag}, changed)"]


def test_modes_are_not_trusted_where_git_does_not(world):
    """`core.fileMode=false`: the executable bit on disk means nothing."""
    world.git("config", "core.fileMode", "false")
    (world.root / "a.txt").chmod(0o755)
    world.write("new").chmod(0o755)
    taken = world.snapshot()
    assert taken.included == ["new"]
    assert world.tree(taken.commit)["new"].startswith("100644")


def test_a_rename_in_case_alone_is_not_lost(world):
    """`core.ignoreCase=true` must not turn a rename into a deletion."""
    world.git("config", "core.ignoreCase", "true")
    os.rename(world.root / "a.txt", world.root / "A.txt")
    taken = world.snapshot()
    assert set(taken.included) == {"a.txt", "A.txt"}
    assert world.content(taken.commit, "A.txt") == "a.txt\n"


def test_a_detached_head_has_no_branch(world):
    """`head_ref` is empty, the base is the commit."""
    world.git("checkout", "-q", "--detach")
    with untouched(world.root):
        assert world.snapshot().head_ref == ""


def test_a_branch_name_that_is_also_a_tag_is_whole(world):
    """The branch's own name, not git's shortest unambiguous one."""
    world.git("checkout", "-q", "-b", "feature/x")
    world.git("tag", "feature/x")
    assert world.snapshot().head_ref == "feature/x"


NAMES = [
    b"with space", b"-leading-dash", b"quote'\"", b"new\nline", b"tab\t", "ünï/cödé".encode(),
    b"bytes-\xff\xfe", b"back\\slash", b":(glob)*", b"*", b"trailing ", b"\x1b[31mred", b"#x",
    b"!y", b"e\xcc\x81", b"\xc3\xa9",
]


def test_any_file_name_works(world):
    """Tracked and changed, tracked and deleted, untracked: spaces, quotes, newlines, bad UTF-8."""
    root = os.fsencode(world.root)

    def put(name: bytes, content: bytes) -> None:
        os.makedirs(os.path.dirname(os.path.join(root, name)), exist_ok=True)
        with open(os.path.join(root, name), "wb") as file:
            file.write(content)

    for name in NAMES:
        put(b"changed/" + name, b"1")
        put(b"deleted/" + name, b"1")
    world.commit()
    for name in NAMES:
        put(b"changed/" + name, b"22")
        put(name, b"new")
        os.unlink(os.path.join(root, b"deleted/" + name))
    with untouched(world.root):
        taken = world.snapshot()
    assert len(taken.included) == 3 * len(NAMES)
    assert taken.left_out == []
    assert world.tree(taken.commit) == world.add_all(taken.base)


def test_a_name_that_git_refuses_is_left_out(world):
    """One such file must not cost the user the whole hand-off."""
    for name in ("git~1", "dir/.GIT", ".git ", "new"):
        world.write(name, "x\n")
    taken = world.snapshot()
    assert taken.included == ["new"]
    why = "(not a name that git takes)"
    assert taken.left_out == [f".git  {why}", f"dir/.GIT {why}", f"git~1 {why}"]


@pytest.mark.parametrize("name", ["with space", "ünï", "-dash", "new\nline", "quo'te\"", "$(x)"])
def test_any_repository_folder_works(tmp_path, monkeypatch, name):
    """The path is never read as an option, a pattern or a command."""
    world = World(tmp_path, monkeypatch, name=name)
    world.commit("a")
    world.write("a", "changed\n")
    if "\n" in name:
        assert git.top_level(world.root).name == name
    with untouched(world.root):
        assert world.snapshot().included == ["a"]


def test_borrowed_objects_work(world):
    """A clone with alternates: nothing of the lender is written to."""
    clone = world.folder / "borrower"
    world.git("clone", "-q", "--shared", str(world.root), str(clone))
    lender, world.root = world.root, clone
    world.write("a.txt", "x\n")
    before = world.git("count-objects", at=lender)
    with untouched(lender, clone):
        assert world.snapshot().included == ["a.txt"]
    assert world.git("count-objects", at=lender) == before


def test_sha256_repositories_work(tmp_path, monkeypatch):
    """The other object format, with changes, a note and nothing touched."""
    world = World(tmp_path, monkeypatch, init=["--object-format=sha256"])
    world.commit("a")
    use_lfs(world)
    (world.root / "big.bin").touch()
    world.write("a", "changed\n")
    with untouched(world.root):
        taken = world.snapshot()
    assert (len(taken.commit), taken.included, taken.left_out) == (64, ["a"], [])


@pytest.mark.parametrize("dirty", [False, True])
def test_a_missing_index_is_no_deletion(world, dirty):
    """Without an index the commit's own list is the one to compare with."""
    (world.root / ".git/index").unlink()
    if dirty:
        world.write("a.txt", "x\n")
        (world.root / "dir/b.txt").unlink()
    with untouched(world.root):
        taken = world.snapshot()
    assert set(taken.included) == ({"a.txt", "dir/b.txt"} if dirty else set())
    assert not (world.root / ".git/index").exists()


def test_a_locked_index_does_not_matter(world):
    """Another git at work, or a lock left behind: the index is only read."""
    (world.root / ".git/index.lock").write_text("")
    world.write("a.txt", "x\n")
    with untouched(world.root):
        assert world.snapshot().included == ["a.txt"]


# -- unusual files ------------------------------------------------------------------------------


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


def test_a_commit_made_meanwhile_becomes_the_base(world, monkeypatch):
    """What the user commits during the snapshot is not told as uncommitted work."""
    world.write("a.txt", "committed meanwhile\n")
    world.write("dir/b.txt", "still uncommitted\n")
    plain, calls = snapshot.copied_index, []

    def copied_index(*args):
        calls.append(args)
        if len(calls) == 1:
            world.git("commit", "-q", "-m", "meanwhile", "a.txt")
        return plain(*args)

    monkeypatch.setattr(snapshot, "copied_index", copied_index)
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
