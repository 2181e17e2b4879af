"""A run that was resumed: its second harvest goes on on the branch that the first one made."""

from __future__ import annotations

import pytest

from tests.git.boxes import BRANCH, Box, take


@pytest.fixture
def grown(world):
    """A box, the head of its first harvest, and the answer with one commit more."""
    box = Box(world)
    old = box.commit({"one.txt": "1\n"})
    assert take(world, box, box.harvest()).branch == BRANCH
    new = box.commit({"two.txt": "2\n"})
    return box, old, new


def at(world, name: str) -> str:
    """Where a branch stands."""
    return str(world.git("rev-parse", f"refs/heads/{name}"))


def test_the_second_harvest_arrives_on_the_same_branch(world, grown):
    """The branch goes on; commits count from the snapshot; done again it is the same."""
    box, old, new = grown
    for _ in range(2):
        taken = take(world, box, box.harvest(), grown_from=old)
        assert (taken.branch, taken.head, taken.commits) == (BRANCH, new, 2)
    assert at(world, BRANCH) == new


def test_a_branch_is_not_moved_unless_the_run_is_known_to_have_made_it(world, grown):
    """The control: without the old head the work gets a name of its own, and a note says so."""
    box, old, new = grown
    taken = take(world, box, box.harvest())
    assert taken.branch == f"{BRANCH}-2"
    assert any("is taken" in note for note in taken.notes)
    assert (at(world, BRANCH), at(world, f"{BRANCH}-2")) == (old, new)


def test_a_branch_that_the_user_went_on_with_stays(world, grown):
    """A commit of the user's on it is not lost."""
    box, old, new = grown
    tree = world.git("rev-parse", f"{old}^{{tree}}")
    mine = world.git("commit-tree", tree, "-p", old, "-m", "mine")
    world.git("update-ref", f"refs/heads/{BRANCH}", mine)
    taken = take(world, box, box.harvest(), grown_from=old)
    assert (at(world, BRANCH), at(world, taken.branch)) == (mine, new)


def test_a_branch_that_is_checked_out_stays(world, grown):
    """In a linked work tree as well: files and HEAD would no longer agree."""
    box, old, new = grown
    world.git("worktree", "add", "-q", str(world.folder / "linked"), BRANCH)
    taken = take(world, box, box.harvest(), grown_from=old)
    assert (at(world, BRANCH), at(world, taken.branch)) == (old, new)


def test_a_history_that_was_written_anew_gets_a_branch_of_its_own(world, grown):
    """The agent amended what had arrived: the first work is not taken away."""
    box, old, _ = grown
    box.git("reset", "-q", "--hard", box.snapshot)
    other = box.commit({"three.txt": "3\n"})
    taken = take(world, box, box.harvest(), grown_from=old)
    assert (at(world, BRANCH), at(world, taken.branch)) == (old, other)
