"""The work of a box arrives on one branch, and the user's repository is otherwise as it was."""

from __future__ import annotations

import io
import json
import os
import stat

import pytest

from plandock import git
from plandock.errors import HarvestRefused
from plandock.workspace import branch, harvest, landing
from tests.git.boxes import BRANCH, MOST, Box, get, take
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
    (box.root / "inner").symlink_to("dir/b.txt")
    answer = box.harvest(max_blob_bytes=2000)
    found = take(world, box, answer)
    assert set(world.tree(BRANCH)) == {"a.txt", "dir/b.txt", "dir/c.txt", "good", "inner"}
    assert len(found.notes) == 5
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
    """A filter that fails costs its own files alone."""
    box.git("config", "filter.bad.clean", "false")
    box.git("config", "filter.bad.required", "true")
    box.write(".gitattributes", "*.bad filter=bad\n")
    for i in range(5):
        box.write(f"{i}.bad")
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
    assert done.returncode == 1
    assert "larger than 100000" in json.loads(done.stdout)["error"]


@pytest.mark.parametrize("order", [{"workspace": "/absent"}, {"workspace": 3}, {"snapshot": None}])
def test_every_failure_is_one_line_of_json(box, order):
    """The host reads a reason whatever happened."""
    done = box.run(**order)
    assert done.returncode == 1
    assert list(json.loads(done.stdout)) == ["error"]
    assert done.stderr == b""


# --- receive ---


def test_the_bundle_is_private_and_whole(world, box):
    """0600, no temporary file left, and the header is there for a later call."""
    box.commit({"new": "x"})
    folder = world.folder / "run"
    folder.mkdir()
    header = get(folder, box.harvest())
    bundle = folder / "work.bundle"
    assert stat.S_IMODE(bundle.stat().st_mode) == 0o600
    assert bundle.stat().st_size == header.bundle_bytes
    assert harvest.received(bundle) == header
    assert sorted(x.name for x in folder.iterdir()) == ["work.bundle", "work.bundle.json"]


class Dying(io.BytesIO):
    """A stream whose other end dies."""

    def read(self, size: int | None = -1) -> bytes:
        """A little, then an error."""
        if self.tell() > 2000:
            raise OSError("gone")
        return super().read(500)


def test_a_bundle_cut_off_leaves_the_last_whole_one(world, box):
    """Neither a dead stream nor a short one replaces what was received before."""
    box.commit({"new": "x"})
    folder = world.folder / "run"
    folder.mkdir()
    first = get(folder, box.harvest())
    content = (folder / "work.bundle").read_bytes()
    box.commit({"more": os.urandom(10_000)})
    answer = box.harvest()
    with pytest.raises(OSError, match="gone"):
        harvest.receive(Dying(answer), folder / "work.bundle", max_bytes=MOST)
    for wrong in (answer[:-1], answer + b"x"):
        with pytest.raises(HarvestRefused, match="announced"):
            get(folder, wrong)
    assert (folder / "work.bundle").read_bytes() == content
    assert harvest.received(folder / "work.bundle") == first
    assert len(list(folder.iterdir())) == 2


def test_more_than_asked_for_is_not_written(world, box):
    """The cap holds although the header lies about the size."""
    box.commit({"large": os.urandom(100_000)})
    folder = world.folder / "run"
    folder.mkdir()
    with pytest.raises(HarvestRefused, match="larger than 50000"):
        get(folder, box.answer(bundle_bytes=10), max_bytes=50_000)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"no json\n",
        b"[]\n",
        b"[" * 100_000 + b"\n",
        b"{}\n",
        b'{"head": "HEAD"}\n',
        b'{"head": "' + b"1" * 40 + b'", "others": {"x": 1}}\n',
        b'{"head": "' + b"1" * 40 + b'", "commits": "1"}\n',
        b'{"head": "' + b"1" * 40 + b'", "commits": -1}\n',
        b'{"head": "' + b"1" * 40 + b'", "notes": "x"}\n',
        b'{"head": "' + b"1" * 40 + b'", "empty": 1}\n',
        b'{"head": "' + b"1" * 40 + b'"}',
        b"x" * (1 << 21) + b"\n",
    ],
)
def test_malformed_headers_are_refused(tmp_path, line):
    """The first line is bounded, JSON, and of the right types."""
    with pytest.raises(HarvestRefused):
        get(tmp_path, line)
    assert list(tmp_path.iterdir()) == []


def test_an_error_from_the_container_is_told(tmp_path):
    """Its words come through, without escape sequences."""
    with pytest.raises(HarvestRefused, match="no repository any more"):
        get(tmp_path, b'{"error": "no repository \\u001b[31many more"}\n')


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
