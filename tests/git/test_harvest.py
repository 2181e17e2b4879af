"""The work of a box arrives on one branch, and the user's repository is otherwise as it was."""

from __future__ import annotations

import pytest

from plandock import git
from plandock.errors import HarvestRefused
from plandock.workspace import branch, landing
from tests.git.boxes import BRANCH, Box, take
from tests.git.worlds import NAME, RUN, World, fingerprint, make_dirty, untouched

HIDDEN = f"refs/plandock/runs/{RUN}"


@pytest.fixture
def box(world):
    """A box on the world's only commit."""
    return Box(world)


def refs(world: World) -> dict[str, str]:
    """Every ref of the repository and what it stands on."""
    lines = world.git("for-each-ref", "--format=%(refname) %(objectname)").split("\n")
    return dict(x.split(" ") for x in lines if x)


# --- the whole way ---


def test_commits_and_leftovers_arrive_on_one_branch(world, box):
    """Committed work comes as it is, uncommitted work as one more commit, marked as such."""
    first = box.commit({"new.txt": "one\ntwo\n"}, "the agent's own")
    box.write("a.txt", "changed\n")
    box.write("left/over ü.txt", "x\n")
    (box.root / "dir/b.txt").unlink()
    found = take(world, box, box.harvest())
    assert (found.branch, found.commits, found.leftovers) == (BRANCH, 2, True)
    assert (found.files_changed, found.insertions, found.deletions) == (4, 4, 2)
    assert world.git("rev-parse", f"{BRANCH}~1") == first
    assert world.git("log", "-1", "--format=%an|%s|%(trailers:only)", BRANCH).strip() == (
        f"{NAME}|What was left|Plandock-Leftovers: true"
    )
    assert set(world.tree(BRANCH)) == {"a.txt", "dir/c.txt", "new.txt", "left/over ü.txt"}
    assert found.others == {}
    assert found.notes == []


def test_the_repository_gains_one_branch_and_hidden_refs_and_nothing_else(world, box):
    """Index, HEAD, config, hooks, stash and work tree are byte for byte what they were."""
    make_dirty(world)
    world.git("stash", "push", "-q", "-u")
    make_dirty(world)
    for hook in ("reference-transaction", "post-checkout", "pre-auto-gc", "post-merge"):
        path = world.write(f".git/hooks/{hook}", f"#!/bin/sh\ntouch {world.folder}/ran\n")
        path.chmod(0o755)
    world.git("config", "core.fsmonitor", f"touch {world.folder}/ran")
    world.git("config", "core.logAllRefUpdates", "always")
    box.commit({"new": "x"})
    answer = box.harvest()
    before, stood = fingerprint(world.root), refs(world)
    found = take(world, box, answer)
    after = fingerprint(world.root)
    gained = {x.removeprefix(f"{world.root}/.git/") for x in after.keys() - before.keys()}
    assert gained == {
        "refs/heads/feature", f"refs/heads/{BRANCH}",
        "logs/refs/heads/feature", f"logs/refs/heads/{BRANCH}",
    }  # fmt: skip
    assert {x: after.get(x) for x in before} == before
    assert refs(world) == {
        **stood,
        f"refs/heads/{BRANCH}": found.head,
        f"{HIDDEN}/head": found.head,
    }
    assert not (world.folder / "ran").exists()
    assert not list(world.root.glob(".git/objects/pack/*.keep"))
    assert not list(world.root.glob(".git/objects/**/tmp_*"))


def test_only_what_the_branch_reaches_is_imported(world, box):
    """Objects that the pack holds beside do not enter the user's store."""
    stray = box.blob("nothing points here")
    box.commit({"new": "x"})
    take(world, box, box.answer_by_hand())
    assert box.git("cat-file", "-t", stray) == "blob"
    assert stray not in world.objects()
    world.git("fsck", "--strict", "--no-dangling")


def test_nothing_new_makes_no_branch(world, box):
    """A run without a change ends without a branch, and says so."""
    with untouched(world.root):
        found = take(world, box, box.harvest())
    assert (found.head, found.branch, found.commits) == (box.snapshot, "", 0)
    assert any("no new commit" in x for x in found.notes)


def test_moving_back_makes_no_branch(world):
    """HEAD on an ancestor of the snapshot holds nothing new."""
    world.commit("later")
    box = Box(world)
    box.git("reset", "-q", "--hard", "HEAD~1")
    found = take(world, box, box.harvest())
    assert (found.branch, found.commits) == ("", 0)


def test_done_again_after_a_crash_nothing_is_doubled(world, box):
    """The second call answers as the first did, and adds neither branch nor object."""
    box.commit({"new": "x"})
    answer = box.harvest()
    first = take(world, box, answer)
    with untouched(world.root):
        objects = world.objects()
        packs = list(world.root.glob(".git/objects/pack/*.pack"))
        assert take(world, box, answer) == first
        assert world.objects() == objects
        assert list(world.root.glob(".git/objects/pack/*.pack")) == packs


def test_a_call_cut_off_at_any_step_is_completed_by_the_next(world, box, monkeypatch):
    """Killed between any two steps of the import, the next call brings everything to its end."""
    box.commit({"new": "x"})
    answer = box.harvest()
    for step in ("let_in", "write_hidden_refs", "create_branch", "release"):
        real = getattr(landing, step)

        def cut_off(*args, _real=real, **options):
            _real(*args, **options)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(landing, step, cut_off)
            if step == "let_in":
                patch.setattr(landing, "release", lambda *_: None)
            with pytest.raises(KeyboardInterrupt):
                take(world, box, answer)
        found = take(world, box, answer)
        assert (found.branch, world.git("rev-parse", BRANCH)) == (BRANCH, found.head)
        assert set(world.git("branch", "--format=%(refname:short)").split()) == {"main", BRANCH}
        assert not list(world.root.glob(".git/objects/pack/*.keep"))
        world.git("branch", "-q", "-D", BRANCH)
        world.git("update-ref", "-d", f"{HIDDEN}/head")


# --- the branch ---


def test_a_branch_that_exists_is_never_moved(world, box):
    """A taken name leads to the next free one."""
    world.git("branch", BRANCH)
    world.git("branch", "Feature/Auto-2")
    box.commit({"new": "x"})
    found = take(world, box, box.harvest())
    assert found.branch == "feature/auto-3"
    assert world.git("rev-parse", BRANCH) == world.head()
    assert any("taken" in x for x in found.notes)


@pytest.mark.parametrize(
    ("there", "made"), [("feature", "feature-auto"), (f"{BRANCH}/deeper", "feature/auto-2")]
)
def test_a_branch_in_the_way_as_a_folder_would_be(world, box, there, made):
    """Refs are like files and folders; neither of the two is lost."""
    world.git("branch", there)
    box.commit({"new": "x"})
    assert take(world, box, box.harvest()).branch == made


def test_what_another_run_was_promised_is_left_to_it(world, box):
    """The user took this run's name meanwhile: it goes past the others', and theirs stay free."""
    world.git("branch", BRANCH)
    box.commit({"new": "x"})
    held = {BRANCH, f"{BRANCH}-2", f"{BRANCH}-3"}
    assert take(world, box, box.harvest(), others=held).branch == f"{BRANCH}-4"
    assert f"{BRANCH}-2" not in world.git("branch", "--format=%(refname:short)").split()


def test_another_runs_branch_on_the_very_same_commit_is_not_taken_for_ones_own(world, box):
    """Two runs that do the same in one second make one commit; each has a branch all the same."""
    head = box.commit({"new": "x"})
    answer = box.harvest()
    other = take(world, box, answer, run_id="r333", branch=f"{BRANCH}-2", others={BRANCH})
    assert (other.branch, other.head) == (f"{BRANCH}-2", head)
    mine = take(world, box, answer, others={f"{BRANCH}-2"})
    assert (mine.branch, mine.head) == (BRANCH, head)


def test_a_branch_made_meanwhile_is_not_taken(world, box, monkeypatch):
    """Between the look and the creation somebody else may have been quicker."""
    box.commit({"new": "x"})
    real = branch.free_name

    def slow(name, taken):
        chosen = real(name, taken)
        if chosen == BRANCH:
            world.git("branch", chosen)
        return chosen

    monkeypatch.setattr(landing, "free_name", slow)
    assert take(world, box, box.harvest()).branch == "feature/auto-2"
    assert world.git("rev-parse", BRANCH) == world.head()


def test_the_unborn_branch_that_head_names_is_not_made(world, box):
    """Creating it would put the user's HEAD onto the agent's work."""
    world.git("symbolic-ref", "HEAD", f"refs/heads/{BRANCH}")
    box.commit({"new": "x"})
    assert take(world, box, box.harvest()).branch == "feature/auto-2"
    assert world.git("rev-parse", "--verify", "-q", "HEAD", check=False) == ""


# --- repositories of every kind ---


def test_a_linked_worktree_takes_the_work(world):
    """The objects are borrowed from and land in the common folder; both HEADs stay."""
    side = world.folder / "side"
    world.git("worktree", "add", "-q", "-b", "side", str(side))
    box = Box(world)
    box.commit({"new": "x"})
    with untouched(side):
        found = take(world, box, box.harvest(), repo=side)
    assert world.git("rev-parse", BRANCH) == found.head
    assert world.git("symbolic-ref", "HEAD") == "refs/heads/main"


def test_a_repository_with_alternates_of_its_own_takes_the_work(world):
    """A clone that borrows from another is borrowed from in turn."""
    clone = World.__new__(World)
    clone.folder, clone.home, clone.root = world.folder, world.home, world.folder / "clone"
    world.git("clone", "-q", "--shared", str(world.root), str(clone.root))
    box = Box(clone)
    box.commit({"new": "x", "a.txt": "changed"})
    assert take(clone, box, box.harvest()).commits == 1
    clone.git("fsck")


def test_a_shallow_clone_takes_the_work(world):
    """History that is cut off at a boundary is no missing object."""
    world.commit("two")
    world.commit("three")
    clone = World.__new__(World)
    clone.folder, clone.home, clone.root = world.folder, world.home, world.folder / "clone"
    world.git("clone", "-q", "--depth=1", f"file://{world.root}", str(clone.root))
    box = Box(clone)
    box.commit({"new": "x"})
    assert take(clone, box, box.harvest()).commits == 1
    assert clone.git("rev-list", "--count", BRANCH) == "2"


def test_a_sha256_repository_takes_the_work(tmp_path, monkeypatch):
    """The longer object names go the same way, and are checked the same."""
    world = World(tmp_path, monkeypatch, init=("--object-format=sha256",))
    world.commit("a.txt")
    box = Box(world)
    box.commit({"new": "x"})
    found = take(world, box, box.harvest())
    assert len(found.head) == 64
    box.graft(("120000", "evil", box.blob("/etc/passwd")))
    with pytest.raises(HarvestRefused, match="absolute"):
        take(world, box, box.answer())


def test_a_repository_with_an_odd_path_takes_the_work(tmp_path, monkeypatch):
    """Quotes, spaces, newlines and a leading hash in the path are no trouble."""
    world = World(tmp_path, monkeypatch, name='#odd "name"\nü')
    world.commit("a.txt")
    box = Box.__new__(Box)
    box.world, box.snapshot, box.root = world, world.head(), tmp_path / "box"
    box.dot_git = box.root / ".git"
    world.git("clone", "-q", str(world.root), str(box.root))
    box.git("checkout", "-q", "-b", BRANCH)
    box.commit({"new": "x"})
    assert take(world, box, box.harvest()).commits == 1


# --- what is flagged and counted ---


def test_files_that_run_elsewhere_are_flagged(world, box):
    """Workflows, package scripts and new executables are named; what was undone is a note."""
    box.commit({".github/workflows/ci.yml": "on: push\n", "package.json": "{}", "src/x.py": "x"})
    box.commit({"Makefile": "all:\n"})
    (box.root / "Makefile").unlink()
    (box.root / "a.txt").chmod(0o755)
    box.commit()
    found = take(world, box, box.harvest())
    assert found.flagged == [".github/workflows/ci.yml", "a.txt", "package.json"]
    assert "changed on the way, not in the end: Makefile" in found.notes


def test_a_flagged_file_that_was_removed_is_flagged(world):
    """Taking a workflow away changes CI too."""
    world.commit(".github/workflows/ci.yml")
    box = Box(world)
    (box.root / ".github/workflows/ci.yml").unlink()
    assert take(world, box, box.harvest()).flagged == [".github/workflows/ci.yml"]


def test_claims_of_the_header_are_counted_anew(world, box):
    """Commits, lines and notes are the host's own; the header only says what to look for."""
    box.commit({"new": "x\n"})
    answer = box.answer(commits=99, descends=False, notes=["\x1b[2Jhello\nworld"])
    found = take(world, box, answer)
    assert (found.commits, found.insertions) == (1, 1)
    assert found.notes == ["hello world"]


def test_identical_history_with_git_calls_of_the_user_around(world, box):
    """What arrived is an ordinary branch: it can be merged and passes fsck."""
    box.commit({"new": "x\n"})
    take(world, box, box.harvest())
    world.git("merge", "-q", "--ff-only", BRANCH)
    assert (world.root / "new").read_text() == "x\n"
    world.git("gc", "-q", "--prune=now")
    assert git.git(world.root, "fsck", "--strict").ok
