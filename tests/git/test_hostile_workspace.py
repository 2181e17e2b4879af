"""Workspaces left so that git would wait for ever, or so that one oddity would hold all back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.git.boxes import BRANCH, Box, take

# Far below the ten minutes and more that a git waiting at a pipe would take.
PATIENCE = 300


@pytest.fixture
def box(world):
    """A box with one commit and one file that was left uncommitted."""
    box = Box(world)
    box.commit({"done.txt": "x\n"})
    box.write("left.txt")
    return box


def replace_by_pipe(path: Path) -> None:
    """A pipe in a file's place: whoever opens it waits for a writer."""
    path.unlink(missing_ok=True)
    os.mkfifo(path)


@pytest.mark.parametrize(
    "name",
    [
        "config", "HEAD", "index", "packed-refs", "shallow", "MERGE_HEAD", "info/exclude",
        "info/attributes", "refs/heads/pipe", "refs/stash", "logs/HEAD", "commondir",
    ],
)  # fmt: skip
def test_a_pipe_in_gits_folder_holds_nothing_up(world, box, name):
    """Commit and leftovers arrive at once; the alarm of the harvest is not waited for."""
    replace_by_pipe(box.dot_git / name)
    found = take(world, box, box.harvest(seconds=PATIENCE))
    assert (found.branch, found.commits, found.leftovers) == (BRANCH, 2, True)
    assert world.git("show", f"{BRANCH}:left.txt") == "text"


@pytest.mark.parametrize("name", ["packed-refs", "shallow", "info/exclude", "MERGE_HEAD", "config"])
def test_a_file_without_an_end_in_gits_folder_holds_nothing_up(world, box, name):
    """A link to a device is removed, like a pipe."""
    place = box.dot_git / name
    place.unlink(missing_ok=True)
    place.symlink_to("/dev/zero")
    assert take(world, box, box.harvest(seconds=PATIENCE)).commits == 2


@pytest.mark.parametrize("name", [".gitignore", ".gitattributes", "dir/.gitignore", "new/.mailmap"])
def test_a_pipe_that_git_reads_for_its_name_holds_nothing_up(world, box, name):
    """It is taken away; the rest arrives."""
    (box.root / name).parent.mkdir(exist_ok=True)
    replace_by_pipe(box.root / name)
    found = take(world, box, box.harvest(seconds=PATIENCE))
    assert (found.commits, found.leftovers) == (2, True)


@pytest.mark.parametrize(
    "setting",
    [
        ("include.path", "../pipe"),
        ("core.attributesFile", "{root}/pipe"),
        ("core.attributesFile", "/dev/zero"),
        ("core.excludesFile", "/dev/zero"),
    ],
)
def test_a_setting_that_names_a_file_without_an_end_holds_nothing_up(world, box, setting):
    """Whether it lies in the workspace or is a device of every container."""
    replace_by_pipe(box.root / "pipe")
    key, value = setting
    section, name = key.split(".")
    with (box.dot_git / "config").open("a") as config:
        config.write(f"[{section}]\n\t{name} = {value.format(root=box.root)}\n")
    found = take(world, box, box.harvest(seconds=PATIENCE))
    assert (found.commits, found.leftovers) == (2, True)


def test_borrowed_objects_behind_a_pipe_hold_nothing_up(world, box):
    """git reads the alternates of an alternate."""
    (box.root / "store/info").mkdir(parents=True)
    replace_by_pipe(box.root / "store/info/alternates")
    with (box.dot_git / "objects/info/alternates").open("a") as alternates:
        alternates.write(f"{box.root}/store\n")
    assert take(world, box, box.harvest(seconds=PATIENCE)).commits == 2


def test_a_head_that_says_nothing_falls_back_to_the_runs_branch(world, box):
    """Its commits and its leftovers arrive, with a word."""
    (box.dot_git / "HEAD").write_bytes(b"\0" * 41)
    found = take(world, box, box.harvest())
    assert (found.commits, found.leftovers) == (2, True)
    assert any("HEAD could not be read" in note for note in found.notes)


@pytest.mark.parametrize("name", ["-dash", "HEAD", "x\u202ey", "a/b.LOCK", "y" * 245])
def test_a_branch_of_an_impossible_name_comes_along_under_another(world, box, name):
    """One careless `git branch` in the box does not keep the run's work from arriving."""
    side = box.git("commit-tree", "HEAD^{tree}", "-p", "HEAD", "-m", "side")
    # As a packed ref: as a file of its own, some names would not fit.
    (box.dot_git / "packed-refs").write_text(f"{side} refs/heads/{name}\n")
    found = take(world, box, box.harvest())
    assert (found.branch, found.commits) == (BRANCH, 2)
    assert found.others == {"branch-1": side}
    assert any("impossible name" in note for note in found.notes)


def test_leftovers_that_git_cannot_commit_are_said_to_be_left_behind(world, box):
    """The word on which the run's volume is kept: it holds their only copy."""
    (box.dot_git / "index").unlink()
    (box.dot_git / "index").mkdir()
    found = take(world, box, box.harvest())
    assert (found.commits, found.leftovers) == (1, False)
    assert any("left behind" in note for note in found.notes)


def test_files_removed_from_the_index_are_no_trouble(world, box):
    """They are gone on the branch, nothing is said to be left behind, and git is asked once."""
    box.commit({f"many/{n}": "x" for n in range(300)})
    box.git("rm", "-q", "-r", "many", "a.txt")
    found = take(world, box, box.harvest(seconds=PATIENCE))
    assert found.leftovers
    assert found.notes == []
    listed = world.git("ls-tree", "-r", "--name-only", BRANCH).split()
    assert "a.txt" not in listed
    assert not [x for x in listed if x.startswith("many/")]


def test_a_staged_link_out_of_the_tree_is_left_behind_like_any_other(world, box):
    """It does not keep the rest from arriving because it was added and not committed."""
    (box.root / "evil").symlink_to("/etc/passwd")
    box.git("add", "evil", "left.txt")
    found = take(world, box, box.harvest())
    assert found.leftovers
    assert "evil" not in world.git("ls-tree", "--name-only", BRANCH).split()
    assert world.git("show", f"{BRANCH}:left.txt") == "text"
    assert any("left behind: evil" in note for note in found.notes)


def test_a_repository_committed_as_files_is_flagged(world, box):
    """git would take such a folder for a repository, with programs in its configuration."""
    fake = {"HEAD": "ref: refs/heads/main\n", "config": "[core]\n\tfsmonitor = ./x\n"}
    box.commit({f"docs/x/{k}": v for k, v in {**fake, "refs/y": "", "objects/y": ""}.items()})
    box.commit({"vendor/lib.git/config": "[core]\n\tfsmonitor = ./x\n"})
    found = take(world, box, box.harvest())
    assert {"docs/x/HEAD", "vendor/lib.git/config"} <= set(found.flagged)


def test_words_of_a_commit_aimed_at_a_terminal_are_noted(world, box):
    """They arrive as they are, for the objects are the agent's; the receipt says so."""
    box.commit({"more.txt": "x"}, "\x1b]0;title\x07\x1b[2J")
    found = take(world, box, box.harvest())
    assert any("control characters" in note for note in found.notes)


def test_ordinary_words_of_a_commit_are_not_noted(world, box):
    """Tabs, other alphabets and Windows' line ends are nothing odd."""
    box.commit({"more.txt": "x"}, "Größe\tändern\r\n\r\n日本語 – ok")
    found = take(world, box, box.harvest())
    assert not [note for note in found.notes if "control characters" in note]
