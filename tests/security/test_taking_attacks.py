"""What a hostile branch can do once it is the user's: merge, apply and diff run nothing of it.

The user's configuration names programs that lie in the work tree, as `.husky`, lint wrappers and
lock-file drivers do; the branch has changed those programs.  Each attack fires with plain git.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from plandock.workspace import taking
from plandock.workspace.taking import NotTaken
from tests.git.worlds import World, fingerprint

RUN = "r7k2"


class Story:
    """A repository whose tools lie in the work tree, and a branch that has changed them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.mark = world.folder / "evil.ran"
        world.write("data.bin", "one\n")
        world.write("lock.txt", "a\nb\nc\n")
        for name in ("tool", "hooks/post-merge", *(f"hooks/{x}" for x in HOOKS)):
            # Harmless as the user knows it; an empty answer does for a hook and for a monitor.
            world.write(name, "#!/bin/sh\ncat 2>/dev/null </dev/null\n").chmod(0o755)
        world.commit(__gitattributes="*.bin filter=t diff=t\nlock.txt merge=t\n")
        self.base = world.head()

    def branch(self, *, lock: str = "a\nb\nC\n") -> str:
        """The agent's commit: every tool leaves a mark now."""
        world = self.world
        world.git("switch", "-q", "-c", "feature/auto")
        for path in ("tool", *(f"hooks/{x}" for x in HOOKS)):
            world.write(path, f"#!/bin/sh\ntouch '{self.mark}'\ncat 2>/dev/null </dev/null\n")
        world.write(".gitconfig", f'[core]\n\tfsmonitor = "touch {self.mark}; false"\n')
        world.write("data.bin", "two\n")
        world.write("lock.txt", lock)
        world.write("zz.bin", "new\n")
        world.commit()
        head = world.head()
        world.git("switch", "-q", "main")
        return head

    def moved_on(self, lock: str = "A\nb\nc\n") -> None:
        """The user's own commit meanwhile, in another line of the same file."""
        self.world.write("lock.txt", lock)
        self.world.commit()

    def configure(self, *pairs: tuple[str, str]) -> None:
        for key, value in pairs:
            self.world.git("config", key, value)


HOOKS = (
    "pre-merge-commit", "prepare-commit-msg", "commit-msg", "post-merge", "post-checkout",
    "reference-transaction", "post-index-change",
)  # fmt: skip
# The user's configuration, and the plain command by which it runs the branch's program.
PLAIN_MERGE = ("merge", "--no-edit", "feature/auto")
PLAIN_CHECKOUT = ("checkout", "-q", "feature/auto")
PLAIN_DIFF = ("diff", "main", "feature/auto")
FROM_BRANCH = ("checkout", "feature/auto", "--", "tool", "hooks", ".gitconfig")
CONFIGURED: dict[str, tuple[tuple[tuple[str, str], ...], tuple[str, ...]]] = {
    **{
        f"hook-{x}": (
            (("core.hooksPath", "hooks"),),
            PLAIN_CHECKOUT if x == "post-checkout" else PLAIN_MERGE,
        )
        for x in HOOKS
    },
    "filter-smudge": ((("filter.t.smudge", "./tool"),), PLAIN_CHECKOUT),
    "filter-clean": ((("filter.t.clean", "./tool"),), ("add", "--renormalize", "data.bin")),
    "filter-process": ((("filter.t.process", "./tool"),), PLAIN_CHECKOUT),
    "filter-required": (
        (("filter.t.smudge", "./tool"), ("filter.t.required", "true")),
        PLAIN_CHECKOUT,
    ),
    "merge-driver": ((("merge.t.driver", "./tool %A %B"),), PLAIN_MERGE),
    "textconv": ((("diff.t.textconv", "./tool"),), PLAIN_DIFF),
    "external-diff": ((("diff.external", "./tool"),), PLAIN_DIFF),
    "external-diff-driver": ((("diff.t.command", "./tool"),), PLAIN_DIFF),
    "fsmonitor": ((("core.fsmonitor", "./tool"),), ("status",)),
    "included-configuration": ((("include.path", "../.gitconfig"),), ("status",)),
    "signing-program": (
        (("gpg.program", "./tool"), ("commit.gpgSign", "true")),
        ("commit", "--allow-empty", "-m", "x"),
    ),
    "pager": ((("core.pager", "./tool"), ("pager.diff", "./tool")), PLAIN_DIFF),
    "editor": ((("core.editor", "./tool"),), ("commit", "--allow-empty")),
}  # fmt: skip


@pytest.fixture
def story(world: World) -> Story:
    """A repository with tools in it."""
    return Story(world)


def _only(story: Story, name: str) -> None:
    """Of all hooks leave the one that is asked about."""
    if name.startswith("hook-"):
        for other in HOOKS:
            if f"hook-{other}" != name:
                (story.world.root / "hooks" / other).unlink(missing_ok=True)


@pytest.mark.parametrize("name", CONFIGURED)
def test_the_attack_is_real_plain_git_runs_the_branchs_program(story, name):
    """The positive control of every claim below: with the branch's tools in the work tree, the
    user's plain command leaves the mark."""
    pairs, command = CONFIGURED[name]
    story.branch()
    story.moved_on()
    world = story.world
    world.git(*FROM_BRANCH)
    world.git("commit", "-q", "-m", "tools of the branch")
    _only(story, name)
    story.configure(*pairs)
    words = ("script", "-qec", f"git {' '.join(command)}", "/dev/null") if name == "pager" else (
        "git", *command)  # fmt: skip
    if name == "filter-required":
        world.write("zz.bin", "x")
        words = ("git", "checkout", "-q", "-f", "feature/auto")
    subprocess.run(words, cwd=world.root, capture_output=True, check=False, timeout=600)
    assert story.mark.exists()


@pytest.mark.parametrize("take", ["merge", "apply"])
@pytest.mark.parametrize("name", CONFIGURED)
def test_taking_the_branch_runs_nothing_of_it(story, name, take):
    """Neither in a merge of two sides nor when applied, whatever the configuration names; the
    files of the branch arrive all the same."""
    pairs, _ = CONFIGURED[name]
    head = story.branch(lock="a\nb\nc\n" if name == "merge-driver" else "a\nb\nC\n")
    story.moved_on()
    # The tools of the branch stand in the work tree already: the worst case.
    story.world.git(*FROM_BRANCH)
    story.world.git("commit", "-q", "-m", "tools of the branch")
    story.configure(*pairs)
    _take(story, take, head)
    assert not story.mark.exists()
    assert (story.world.root / "zz.bin").read_text() == "new\n"
    assert (story.world.root / "data.bin").read_text() == "two\n"


@pytest.mark.parametrize("name", CONFIGURED)
def test_a_fast_forward_runs_nothing_of_it(story, name):
    """The branch's own tools come into the work tree by this very merge."""
    head = story.branch()
    story.configure(*CONFIGURED[name][0])
    taking.merge(story.world.root, head=head, branch="feature/auto", run_id=RUN)
    assert not story.mark.exists()
    assert story.world.head() == head


@pytest.mark.parametrize("take", ["merge", "apply"])
def test_a_merge_driver_of_the_user_is_a_conflict_and_is_not_run(story, take):
    """Neither run nor passed over: where both sides changed such a file, nothing is changed."""
    head = story.branch()
    story.moved_on()
    story.configure(("merge.t.driver", "./tool %A %B"))
    before = fingerprint(story.world.root)
    with pytest.raises(NotTaken, match=r"lock\.txt"):
        _take(story, take, head)
    assert fingerprint(story.world.root) == before
    assert not story.mark.exists()


def _take(story: Story, how: str, head: str) -> taking.Taken:
    tree = story.world.root
    if how == "merge":
        return taking.merge(tree, head=head, branch="feature/auto", run_id=RUN)
    return taking.apply(tree, snapshot=story.base, head=head)


def _blocked(world: World, how: str) -> None:
    match how:
        case "dirty":
            world.write("lock.txt", "mine\n")
        case "staged":
            world.write("lock.txt", "mine\n")
            world.git("add", "lock.txt")
        case "untracked":
            world.write("zz.bin", "mine\n")
        case "ignored":
            world.write(".git/info/exclude", "zz.bin\n")
            world.write("zz.bin", "mine\n")
        case "untracked-link":
            os.symlink("/nonexistent", world.root / "zz.bin")
        case "untracked-folder":
            world.write("zz.bin/deep/mine", "mine\n")
        case "conflict":
            world.write("lock.txt", "a\nb\nmine\n")
            world.commit()
        case "removed":
            world.git("rm", "-q", "lock.txt")
            world.git("commit", "-q", "-m", "gone")
        case "overlooked":
            world.git("update-index", "--assume-unchanged", "lock.txt")
            world.write("lock.txt", "mine\n")


BLOCKS = ("dirty", "staged", "untracked", "ignored", "untracked-link", "untracked-folder",
          "conflict", "removed")  # fmt: skip


@pytest.mark.parametrize(
    ("take", "how"),
    [*((t, h) for t in ("merge", "apply") for h in BLOCKS), ("apply", "overlooked")],
)
def test_what_the_user_has_not_committed_is_never_written_over(story, take, how):
    """One line that names the file, and not a byte, time or ref is another."""
    head = story.branch()
    _blocked(story.world, how)
    before = fingerprint(story.world.root)
    with pytest.raises(NotTaken, match=r"lock\.txt|zz\.bin"):
        _take(story, take, head)
    assert fingerprint(story.world.root) == before


@pytest.mark.parametrize("moved", [False, True], ids=["as-it-was", "moved-on"])
def test_apply_leaves_index_head_and_refs_alone(story, moved):
    """Only files change: contents, modes, removals, renames and binary ones; the user's dirty
    file that the branch did not touch stays."""
    world = story.world
    world.write("gone.txt", "x\n")
    world.write("old name.txt", "".join(f"{i}\n" for i in range(50)))
    world.commit()
    story.base = world.head()
    world.git("switch", "-q", "-c", "feature/auto")
    (world.root / "gone.txt").unlink()
    (world.root / "old name.txt").rename(world.root / "new name ü.txt")
    world.write("binary", bytes(range(256)))
    (world.root / "a.txt").chmod(0o755)
    os.symlink("a.txt", world.root / "link")
    world.commit()
    head = world.head()
    world.git("switch", "-q", "main")
    if moved:
        world.commit(other="the user's own\n")
    world.write("dir/b.txt", "dirty\n")
    git_files = fingerprint(world.root / ".git")
    wanted = world.tree(head)
    taken = taking.apply(world.root, snapshot=story.base, head=head)
    assert fingerprint(world.root / ".git") == git_files
    assert not (world.root / "gone.txt").exists()
    assert not (world.root / "old name.txt").exists()
    assert (world.root / "binary").read_bytes() == bytes(range(256))
    assert os.readlink(world.root / "link") == "a.txt"
    assert (world.root / "a.txt").stat().st_mode & 0o111
    assert (world.root / "dir/b.txt").read_text() == "dirty\n"
    assert set(taken.paths) == {
        "a.txt", "binary", "gone.txt", "link", "new name ü.txt", "old name.txt",
    }  # fmt: skip
    world.git("checkout", "-q", "--", "dir/b.txt")
    world.git("add", "-A")
    made = world.tree(world.git("write-tree"))
    assert {k: v for k, v in made.items() if k != "other"} == wanted


def test_apply_goes_into_the_work_tree_that_the_user_stands_in(story, tmp_path):
    """From a folder below, and in a linked work tree; a stranger's repository is not taken."""
    head = story.branch()
    linked = tmp_path / "linked"
    story.world.git("worktree", "add", "-q", str(linked), "-b", "beside", "main")
    below = linked / "dir"
    assert taking.work_tree(story.world.root, below) == linked
    assert taking.work_tree(story.world.root, story.world.root / "dir") == story.world.root
    stranger = tmp_path / "stranger"
    story.world.git("init", "-q", str(stranger))
    assert taking.work_tree(story.world.root, stranger) == story.world.root
    taking.apply(linked, snapshot=story.base, head=head)
    assert (linked / "zz.bin").exists()
    assert not (story.world.root / "zz.bin").exists()


def test_a_merge_that_is_interrupted_is_whole_or_not_at_all(story):
    """Ctrl-C while git writes waits until all is written; nothing is left half done."""
    head = story.branch()
    code = (
        # Where this suite was started in the background, the signal would be ignored.
        "import os,sys,signal\nsignal.signal(signal.SIGINT,signal.default_int_handler)\n"
        "from pathlib import Path\nfrom plandock.workspace import taking\n"
        "from plandock import git\nplain=git.git\n"
        "def slow(tree,*words,**rest):\n"
        "    if words[0]=='merge': os.killpg(0,signal.SIGINT)\n"
        "    return plain(tree,*words,**rest)\n"
        "git.git=slow\n"
        f"taking.merge(Path({str(story.world.root)!r}),head={head!r},branch='x',run_id='r')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=False,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(Path(taking.__file__).parents[2])},
    )
    assert done.returncode in (-signal.SIGINT, 1, 130)
    assert b"KeyboardInterrupt" in done.stderr
    assert story.world.head() == head
    assert story.world.git("status", "--porcelain") == ""


def test_union_and_binary_of_the_users_attributes_hold(world):
    """What git can do without a program it does: both sides' lines stay."""
    world.commit(__gitattributes="log.txt merge=union\n", log__txt="1\n")
    world.git("switch", "-q", "-c", "feature/auto")
    head = world.commit(log__txt="1\ntheirs\n")
    world.git("switch", "-q", "main")
    world.commit(log__txt="1\nmine\n")
    taking.merge(world.root, head=head, branch="feature/auto", run_id=RUN)
    assert sorted((world.root / "log.txt").read_text().split()) == ["1", "mine", "theirs"]
    assert world.git("log", "-1", "--format=%s %P").count(" ") == 4
