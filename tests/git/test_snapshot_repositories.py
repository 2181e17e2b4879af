"""Unusual repositories: a snapshot works, or is refused with one clear line."""

from __future__ import annotations

import os

import pytest

from plandock import git
from plandock.errors import RepositoryError
from tests.git.worlds import REF, World, add_submodule, untouched, use_lfs


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
        ("content", "with changes of its own"),
        ("untracked", "with changes of its own"),
        ("moved", "on another commit"),
        ("gone", "gone from the work tree"),
        ("broken", "not looked into"),
        ("replaced", "replaced in the work tree"),
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
    b"with space",
    b"-leading-dash",
    b"quote'\"",
    b"new\nline",
    b"tab\t",
    "ünï/cödé".encode(),
    b"bytes-\xff\xfe",
    b"back\\slash",
    b":(glob)*",
    b"*",
    b"trailing ",
    b"\x1b[31mred",
    b"#x",
    b"!y",
    b"e\xcc\x81",
    b"\xc3\xa9",
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
