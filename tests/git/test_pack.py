"""The pack that goes into the engine."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from plandock.errors import RepositoryError
from plandock.workspace.pack import object_format, open_pack, shallow_boundary
from tests.git.worlds import World


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A repository with two commits, the second made of a small change to a large file."""
    world = World(tmp_path, monkeypatch)
    world.commit(big__txt="".join(f"line {i} {i * 7919 % 10007}\n" for i in range(3000)))
    world.write("big.txt", (world.root / "big.txt").read_text() + "one more\n")
    world.commit(other__txt="x\n")
    return world


def mirror(world: World, name: str = "mirror", *init: str) -> Path:
    """An empty repository to unpack into."""
    target = world.folder / name
    world.git("init", "-q", "--bare", *init, str(target))
    return target


def send(world: World, target: Path, tips: list[str], haves: list[str]) -> bytes:
    """Pack and unpack; the bytes of the pack."""
    with open_pack(world.root, tips, haves) as stream:
        data = stream.stdout.read()
        stream.finish()
    subprocess.run(
        ["git", "index-pack", "--stdin", "--fix-thin"],
        cwd=target,
        input=data,
        check=True,
        capture_output=True,
    )
    return data


def test_everything_reachable_arrives(world):
    """With nothing there yet the whole history is sent, and it is sound."""
    target = mirror(world)
    send(world, target, [world.head()], [])
    world.git("fsck", "--strict", world.head(), at=target)
    assert world.git("rev-list", "--count", world.head(), at=target) == "2"


def test_only_what_is_new_is_sent_as_a_delta(world):
    """With the parent there, the second pack is far smaller than the first (thin deltas)."""
    target = mirror(world)
    first = send(world, target, [world.git("rev-parse", "HEAD~1")], [])
    second = send(world, target, [world.head()], [world.git("rev-parse", "HEAD~1")])
    world.git("fsck", "--strict", world.head(), at=target)
    assert len(second) < len(first) / 10


def test_nothing_new_is_an_empty_pack(world):
    """A tip that is there already gives a pack of no objects (header and trailer only)."""
    with open_pack(world.root, [world.head()], [world.head()]) as stream:
        assert len(stream.stdout.read()) == 32
        stream.finish()


def test_unknown_and_malformed_haves_are_passed_over(world):
    """What the mirror knows and the user's repository does not (or no id) does no harm."""
    target = mirror(world)
    send(world, target, [world.head()], ["1" * 40, "--all", "", "HEAD"])
    assert world.git("rev-list", "--count", world.head(), at=target) == "2"


@pytest.mark.parametrize("tip", ["2" * 40, "HEAD", "--all", "a\nb"])
def test_a_tip_that_is_not_there_is_one_clear_error(world, tip):
    """Before anything is streamed, the missing commit is named."""
    with pytest.raises(RepositoryError, match="does not hold the commit"):
        open_pack(world.root, [tip], [])


def test_a_missing_object_is_a_clear_error(world):
    """A store with a hole fails at the end of the stream, with a hint, never silently."""
    oid = world.git("rev-parse", "HEAD:other.txt")
    (world.root / ".git/objects" / oid[:2] / oid[2:]).unlink()
    with open_pack(world.root, [world.head()], []) as stream:
        stream.stdout.read()
        with pytest.raises(RepositoryError, match="could not be packed") as caught:
            stream.finish()
    assert "fsck" in caught.value.hint


def test_giving_up_early_ends_the_child(world):
    """Leaving the block without reading leaves no process behind."""
    with open_pack(world.root, [world.head()], []) as stream:
        stream.stdout.read(10)
    assert stream._child.returncode is not None


def test_a_shallow_clone_names_its_boundary_and_sends_what_it_has(world):
    """The receiver can use the pack once it has the boundary in its own shallow file."""
    url = f"file://{world.root}"
    world.git("clone", "-q", "--depth", "1", url, str(world.folder / "shallow"))
    assert shallow_boundary(world.root) == []
    head, world.root = world.head(), world.folder / "shallow"
    assert shallow_boundary(world.root) == [head]
    target = mirror(world)
    (target / "shallow").write_text(f"{head}\n")
    send(world, target, [head], [])
    world.git("fsck", "--strict", head, at=target)


def test_a_linked_worktree_has_its_repositorys_boundary(world):
    """The shallow file is shared by all work trees."""
    url = f"file://{world.root}"
    world.git("clone", "-q", "--depth", "1", url, str(world.folder / "shallow"))
    world.git("worktree", "add", "-q", "../tree", at=world.folder / "shallow")
    assert shallow_boundary(world.folder / "tree") == [world.head()]


def test_grafts_and_replacements_do_not_change_what_is_sent(world):
    """The real history goes out even where the user has git show another."""
    first = world.git("rev-parse", "HEAD~1")
    world.git("replace", "--graft", "HEAD")
    (world.root / ".git/info/grafts").write_text(f"{world.head()}\n")
    target = mirror(world)
    send(world, target, [world.head()], [])
    world.git("cat-file", "-e", first, at=target)


def test_objects_of_alternates_are_sent(world):
    """A clone that borrows its objects sends them all the same."""
    world.git("clone", "-q", "--shared", str(world.root), str(world.folder / "borrower"))
    world.root = world.folder / "borrower"
    target = mirror(world)
    send(world, target, [world.head()], [])
    world.git("fsck", "--strict", world.head(), at=target)


def test_both_object_formats(tmp_path, monkeypatch, world):
    """SHA-1 and SHA-256 repositories are told apart, and both can be packed."""
    assert object_format(world.root) == "sha1"
    other = World(tmp_path, monkeypatch, name="wide", init=["--object-format=sha256"])
    other.commit("a")
    assert object_format(other.root) == "sha256"
    target = mirror(other, "mirror256", "--object-format=sha256")
    send(other, target, [other.head()], ["1" * 40])
    other.git("fsck", "--strict", other.head(), at=target)
