"""What an agent may leave in its workspace, and what comes out of it all the same."""

from __future__ import annotations

import json
import os

import pytest

from plandock.errors import HarvestRefused
from plandock.workspace.inside.harvest import REFUSED
from tests.git.boxes import BRANCH, Box, take
from tests.git.test_harvest import HIDDEN, refs
from tests.git.worlds import untouched


@pytest.fixture
def box(world):
    """A box on the world's only commit."""
    return Box(world)


# --- where HEAD may end ---


def test_a_detached_head_is_what_comes_back(world, box):
    """Commits without a branch are the run's work all the same."""
    box.git("checkout", "-q", "--detach")
    head = box.commit({"new": "x"})
    found = take(world, box, box.harvest())
    assert (found.head, found.branch, found.others) == (head, BRANCH, {})


def test_other_branches_come_along_as_hidden_refs(world, box):
    """The branch HEAD ends on is the run's; the others are kept under their names."""
    one = box.commit({"one": "x"})
    box.git("checkout", "-q", "-b", "other/side", box.snapshot)
    two = box.commit({"two": "x"})
    found = take(world, box, box.harvest())
    assert (found.head, found.branch) == (two, BRANCH)
    assert found.others == {BRANCH: one}
    assert refs(world)[f"{HIDDEN}/others/{BRANCH}"] == one
    assert "refs/heads/other/side" not in refs(world)


def test_other_branches_come_although_head_has_nothing_new(world, box):
    """Work that lies on another branch alone is kept; there is no branch for HEAD."""
    box.git("checkout", "-q", "-b", "side")
    head = box.commit({"new": "x"})
    box.git("checkout", "-q", BRANCH)
    found = take(world, box, box.harvest())
    assert (found.branch, found.commits, found.others) == ("", 0, {"side": head})
    assert refs(world)[f"{HIDDEN}/others/side"] == head


def test_evil_on_another_branch_is_refused(world, box):
    """Hidden refs are checked like the branch."""
    box.graft(("120000", "evil", box.blob("/etc/passwd")))
    evil = box.git("rev-parse", "HEAD")
    box.git("reset", "-q", "--hard", box.snapshot)
    box.commit({"fine": "x"})
    with untouched(world.root), pytest.raises(HarvestRefused, match="absolute"):
        take(world, box, box.answer({"side": evil}))


@pytest.mark.parametrize(
    "name", ["-x", "a..b", "../../heads/main", "a.lock", "x y", "HEAD", ".a", "a\x1b"]
)
def test_other_branches_with_bad_names_are_refused(world, box, name):
    """A name from the box becomes part of a ref of the user's, so git's rules hold for it."""
    head = box.commit({"fine": "x"})
    answer = box.answer(others=None, head=head)
    header, _, data = answer.partition(b"\n")
    said = {**json.loads(header), "others": {name: head}}
    with untouched(world.root), pytest.raises(HarvestRefused):
        take(world, box, json.dumps(said).encode() + b"\n" + data)


def test_an_unrelated_history_comes_out_and_is_noted(world, box):
    """An agent that began anew is not refused, but the receipt says so."""
    box.git("checkout", "-q", "--orphan", "anew")
    box.commit({"new": "x"})
    assert box.report()["descends"] is False
    found = take(world, box, box.harvest())
    assert found.commits == 1
    assert any("another" in x for x in found.notes)


# --- what an agent may leave behind: inside/harvest.py ---


def test_locks_of_killed_git_processes_do_not_matter(world, box):
    """An index, HEAD or ref lock that nobody holds is removed."""
    box.write("left", "x")
    for lock in ("index.lock", "HEAD.lock", "refs/heads/feature/auto.lock", "packed-refs.lock"):
        (box.dot_git / lock).touch()
    assert take(world, box, box.harvest()).leftovers


def test_a_torn_index_is_made_anew(world, box):
    """What lies in the files counts, not what a killed git wrote."""
    box.write("left", "x")
    (box.dot_git / "index").write_bytes(b"DIRC torn")
    found = take(world, box, box.harvest())
    assert set(world.tree(BRANCH)) == {"a.txt", "dir/b.txt", "dir/c.txt", "left"}
    assert any("index was damaged" in x for x in found.notes)


def test_an_unreadable_configuration_is_set_aside(world, box):
    """A configuration that git cannot parse keeps no work from coming home."""
    box.write("left", "x")
    (box.dot_git / "config").write_text("[broken\n")
    assert take(world, box, box.harvest()).leftovers


def test_an_unfinished_merge_comes_as_it_stands(world, box):
    """Conflict markers come along, and so does the other side."""
    box.git("checkout", "-q", "-b", "side")
    side = box.commit({"a.txt": "theirs\n"})
    box.git("checkout", "-q", BRANCH)
    box.commit({"a.txt": "ours\n"})
    box.git("merge", "side", check=False)
    found = take(world, box, box.harvest())
    assert found.others == {"side": side}
    assert "<<<<<<<" in world.content(BRANCH, "a.txt")
    assert len(world.git("rev-list", "--parents", "-n1", BRANCH).split()) == 2
    assert {"a merge was not finished; what stood in the files came along"} <= set(found.notes)


def test_an_unfinished_rebase_loses_neither_side(world, box):
    """HEAD is where the rebase stopped; the branch that was rebased comes along."""
    mine = box.commit({"a.txt": "mine\n"})
    box.git("checkout", "-q", "-b", "base", box.snapshot)
    base = box.commit({"a.txt": "base\n"})
    box.git("checkout", "-q", BRANCH)
    box.git("rebase", "base", check=False)
    found = take(world, box, box.harvest())
    assert found.others == {BRANCH: mine}
    assert world.git("rev-parse", f"{BRANCH}~1") == base
    assert any("rebase was not finished" in x for x in found.notes)


def test_the_stash_comes_along(world, box):
    """What the agent put aside is nowhere else."""
    box.write("a.txt", "put aside\n")
    box.git("stash", "-q")
    box.commit({"new": "x"})
    found = take(world, box, box.harvest())
    assert list(found.others) == ["stash-0"]
    assert world.content(found.others["stash-0"], "a.txt") == "put aside\n"


def test_leftovers_of_an_orphan_branch_come_out(world, box):
    """Files on a branch that has no commit yet are brought home on top of the run's branch."""
    head = box.commit({"new": "x"})
    box.git("checkout", "-q", "--orphan", "anew")
    box.write("left")
    found = take(world, box, box.harvest())
    assert world.git("rev-parse", f"{BRANCH}~1") == head
    assert {"new", "left"} <= set(world.tree(found.head))


def test_a_broken_head_falls_back_to_the_runs_branch(world, box):
    """Work on the run's branch is found although HEAD is garbage."""
    head = box.commit({"new": "x"})
    (box.dot_git / "HEAD").write_text("ref: refs/heads/gone\n")
    found = take(world, box, box.harvest())
    assert found.head == head
    assert any("HEAD stood on nothing" in x for x in found.notes)


def test_what_the_host_would_refuse_is_left_behind_with_a_word(world, box):
    """One odd leftover does not keep the rest from arriving."""
    (box.root / "evil").symlink_to("/etc/passwd")
    (box.root / "up").symlink_to("../x")
    (box.root / ".gitattributes").symlink_to("a.txt")
    (box.root / "git").symlink_to(".git/config")
    box.write("back\\slash")
    box.write("new\nline")
    box.write("large", b"\0" * 3000)
    box.write("good")
    box.write("/".join(["deep"] * 300))
    (box.root / "inner").symlink_to("dir/b.txt")
    answer = box.harvest(max_blob_bytes=2000)
    found = take(world, box, answer)
    assert set(world.tree(BRANCH)) == {"a.txt", "dir/b.txt", "dir/c.txt", "good", "inner"}
    assert len(found.notes) == 6
    assert all(x.isprintable() for x in found.notes)


def test_repositories_in_the_repository_are_left_behind(world, box):
    """A clone the agent made is no submodule of the user's."""
    box.git("init", "-q", "clone")
    box.write("clone/x")
    box.git("init", "-q", "deep/er")
    box.write("left")
    found = take(world, box, box.harvest())
    assert "left" in world.tree(BRANCH)
    assert not any(x.startswith(("160000", "clone")) for x in world.tree(BRANCH).values())
    assert any("clone/" in x and "deep/er/" in x for x in found.notes)


def test_what_was_left_in_linked_work_trees_comes_along(world, box):
    """Claude Code makes them for agent and subagents: ignored or not, on a branch or not."""
    box.write(".gitignore", "ignored/\n")
    for place, words in (("trees/one", ["-b", "one"]), ("ignored/two", ["--detach"])):
        box.git("worktree", "add", "-q", *words, place)
        box.write(f"{place}/kept.txt", place)
    box.git("worktree", "add", "-q", "-b", "clean", "trees/clean")
    box.git("init", "-q", "trees/clone")
    found = take(world, box, box.harvest())
    assert set(world.tree(BRANCH)) == {".gitignore", "a.txt", "dir/b.txt", "dir/c.txt"}
    assert set(found.others) == {"one", "worktree-1"}
    for name, place in (("one", "trees/one"), ("worktree-1", "ignored/two")):
        assert world.git("show", f"{found.others[name]}:kept.txt") == place
    assert [x for x in found.notes if "trees/one" in x or "two" in x] == []
    assert any("left behind: trees/clone/" in x for x in found.notes)


def test_downloaded_packages_are_left_behind(world, box):
    """A package client's folder and a virtual environment belong on no branch."""
    for i in range(501):
        box.write(f"web/node_modules/p{i}/index.js")
    box.write("env/pyvenv.cfg")
    box.write("env/lib/x.py")
    box.write("small/node_modules/fixture.js")
    found = take(world, box, box.harvest())
    assert set(world.tree(BRANCH)) - set(world.tree(box.snapshot)) == {
        "small/node_modules/fixture.js"
    }
    assert any("env, web/node_modules" in x for x in found.notes)


def test_ignored_files_stay_in_the_box(world, box):
    """Git's own ignore rules decide; a tracked file counts although a rule names it."""
    box.commit({".gitignore": "*.log\na.txt\n"})
    box.write("x.log")
    box.write("a.txt", "changed")
    take(world, box, box.harvest())
    assert "x.log" not in world.tree(BRANCH)
    assert world.content(BRANCH, "a.txt") == "changed\n"


def test_a_file_that_git_cannot_add_does_not_stop_the_others(world, box):
    """An encoding that does not fit costs its own files alone."""
    box.write(".gitattributes", "*.bad working-tree-encoding=no-such-encoding\n")
    for i in range(5):
        box.write(f"{i}.bad", b"no such encoding")
        box.write(f"{i}.good")
    found = take(world, box, box.harvest())
    assert {x for x in world.tree(BRANCH) if x.endswith(("good", "bad"))} == {
        f"{i}.good" for i in range(5)
    }
    assert any("could not add" in x for x in found.notes)


def test_hooks_and_replacements_of_the_box_have_no_say(world, box):
    """Neither hooks nor replacement objects nor grafts change what comes out."""
    evil = box.commit({"evil": "x"})
    box.git("reset", "-q", "--hard", box.snapshot)
    good = box.commit({"good": "x"})
    box.git("replace", good, evil)
    for hook in ("pre-commit", "commit-msg", "reference-transaction", "post-index-change"):
        box.write(f".git/hooks/{hook}", f"#!/bin/sh\ntouch {world.folder}/ran\nexit 1\n").chmod(
            0o755
        )
    box.git("config", "core.fsmonitor", f"touch {world.folder}/ran")
    box.write("left")
    found = take(world, box, box.harvest())
    assert found.commits == 2
    assert "good" in world.tree(BRANCH)
    assert not (world.folder / "ran").exists()


def test_harvested_twice_the_same_comes_out(world, box):
    """After a crash the container runs again; the leftovers are committed once."""
    box.write("left")
    first, second = box.report(), box.report()
    assert {**second, "tree_dirty_files": 1} == first
    assert first["leftovers"] is True
    assert first["commits"] == 1


def test_leftovers_that_are_too_large_do_not_keep_commits_from_coming(world, box):
    """What was committed arrives without them, and the receipt says so."""
    head = box.commit({"new": "x"})
    box.write("large", os.urandom(200_000))
    found = take(world, box, box.harvest(max_bytes=100_000))
    assert (found.head, found.leftovers) == (head, False)
    assert any("too large" in x for x in found.notes)
    assert take(world, box, box.harvest()).leftovers


def test_work_larger_than_asked_for_is_an_error(world, box):
    """Nothing but an error line comes out then."""
    box.commit({"large": os.urandom(200_000)})
    done = box.run(max_bytes=100_000)
    assert done.returncode == REFUSED
    assert "larger than 100000" in json.loads(done.stdout)["error"]


@pytest.mark.parametrize(
    ("order", "code"),
    [({"workspace": "/absent"}, REFUSED), ({"workspace": 3}, 1), ({"snapshot": None}, 1)],
)
def test_every_failure_is_one_line_of_json(box, order, code):
    """The host reads a reason whatever happened, and by the code whether it may pass."""
    done = box.run(**order)
    assert done.returncode == code
    assert list(json.loads(done.stdout)) == ["error"]
    assert done.stderr == b""
