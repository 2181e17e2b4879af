"""Attacks: what a branch that was let in does in the hands of the user's own git, later.

What the harvest refuses never gets here (``tests/git/test_quarantine.py``).  The rest is looked
at with plain git, in the configuration that git has by itself: checked out, merged, shown,
archived.  Every program that git starts on the way is known from its own trace.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.git.boxes import BRANCH, Box, take
from tests.git.worlds import World

EVIL = "#!/bin/sh\ntouch '{mark}'\n"
CONFIG = (
    '[core]\n\tfsmonitor = "touch {mark}"\n\thooksPath = hooks\n[alias]\n\tst = "!touch {mark}"\n'
)
HOOKS = ("post-checkout", "post-merge", "pre-commit", "post-index-change", "reference-transaction")


@dataclass(frozen=True)
class Trait:
    """What the agent commits; ``flagged``: a path that has to be named to the user before."""

    make: Callable[[Box, str], None]
    flagged: str = ""


def _files(*paths: str, text: str = EVIL) -> Callable[[Box, str], None]:
    def make(box: Box, mark: str) -> None:
        for path in paths:
            box.write(path, text.replace("{mark}", mark)).chmod(0o755)
        box.commit()

    return make


def _swap(box: Box, _: str) -> None:
    """A folder becomes a link to another, and then one of its files a link to a third."""
    box.git("rm", "-rq", "dir")
    box.write("other/b.txt", "through the link\n")
    (box.root / "dir").symlink_to("other")
    box.commit()
    (box.root / "other/b.txt").unlink()
    (box.root / "other/b.txt").symlink_to("../a.txt")
    box.commit()


def _swap_back(box: Box, _: str) -> None:
    """A link, and in the next commit a folder with files where it was: written through or not?"""
    (box.root / "place").symlink_to("dir")
    box.commit()
    (box.root / "place").unlink()
    box.write("place/b.txt", "through the link\n")
    box.commit()


def _two_cases(box: Box, _: str) -> None:
    box.graft(("100644", "A.txt", box.blob("x")), ("100644", "a.TXT", box.blob("y")))


def _submodule(box: Box, _: str) -> None:
    text = '[submodule "s"]\n\tpath = s\n\turl = https://example.invalid/s.git\n'
    box.graft(
        ("100644", ".gitmodules", box.blob(text)), ("160000", "s", box.git("rev-parse", "HEAD"))
    )


def _encoding(box: Box, _: str) -> None:
    rule = box.blob("*.md working-tree-encoding=UTF-32LE eol=crlf\n")
    box.graft(("100644", ".gitattributes", rule), ("100644", "x.md", box.blob("x\n" * 5000)))


def _message(box: Box, mark: str) -> None:
    box.commit({"x": "x"}, message=f"--exec=touch {mark}\n\n$(touch {mark})\n\nfixup! -c core.x=y")


TRAITS = {
    "hooks-in-a-folder-of-that-name": Trait(_files(*(f"hooks/{x}" for x in HOOKS)), "hooks/"),
    "hooks-in-githooks": Trait(_files(*(f".githooks/{x}" for x in HOOKS)), ".githooks/"),
    "hooks-of-husky": Trait(_files(*(f".husky/{x}" for x in HOOKS)), ".husky/"),
    "configuration-in-the-tree": Trait(_files(".gitconfig", "config", text=CONFIG), ".gitconfig"),
    "a-bare-repository-in-the-tree": Trait(
        _files("bare/HEAD", "bare/config", "bare/objects/x", "bare/refs/x", text=CONFIG)
    ),
    "attributes-that-name-filters": Trait(
        _files(".gitattributes", text="* filter=evil diff=evil merge=evil export-subst ident\n"),
        ".gitattributes",
    ),
    "attributes-of-an-encoding": Trait(_encoding, ".gitattributes"),
    "environment-files": Trait(_files(".envrc", ".env", ".git-blame-ignore-revs"), ".envrc"),
    "names-that-look-like-options": Trait(
        _files("--upload-pack=touch {mark}".replace("{mark}", "x"), "-rf", "--exec", "--help")
    ),
    "names-that-look-like-refs": Trait(_files("HEAD", "refs/heads/main", "FETCH_HEAD", "main")),
    "programs-with-names-of-gits": Trait(_files("git", "git-merge", "sh", "less", "ssh")),
    "a-folder-that-becomes-a-link": Trait(_swap),
    "a-link-that-becomes-a-folder": Trait(_swap_back),
    "names-in-two-cases": Trait(_two_cases, "A.txt"),
    "a-submodule": Trait(_submodule, ".gitmodules"),
    "a-message-of-options": Trait(_message),
}


@pytest.fixture
def box(world: World) -> Box:
    """The user's repository has two files, and the box stands on it."""
    world.write("a.txt", "one\n")
    world.write("dir/b.txt", "two\n")
    world.commit()
    return Box(world)


COMMANDS: tuple[tuple[str, ...], ...] = (
    ("status",),
    ("log", "-p", "--stat", f"main..{BRANCH}"),
    ("diff", f"main...{BRANCH}"),
    ("checkout", BRANCH),
    ("status",),
    ("add", "-A"),
    ("stash",),
    ("archive", "--format=tar", "HEAD"),
    ("checkout", "main"),
    ("merge", "--no-ff", "-m", "Take it", BRANCH),
    ("fsck",),
)


def started(trace: Path) -> list[str]:
    """The programs that git started which are not git, from its own trace (trace2, events)."""
    found = []
    for line in trace.read_text().splitlines():
        event = json.loads(line)
        if event["event"] == "child_start":
            argv = event["argv"]
            own = os.path.basename(argv[0]) == "git" and event["child_class"] != "hook"
            if not own or event.get("use_shell"):
                found.append(" ".join(argv))
    return found


def outside(world: World) -> dict[str, str]:
    """Every file beside the repository and what the harvest itself keeps."""
    seen = {}
    for path in sorted(world.folder.rglob("*")):
        first = path.relative_to(world.folder).parts[0]
        if first not in (world.root.name, "box", "run", "trace") and path.is_file():
            seen[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return seen


def use(world: World) -> list[str]:
    """Do with the branch what people do; the programs beside git that were started by it."""
    trace = world.folder / "trace"
    for words in COMMANDS:
        subprocess.run(
            ["git", *words],
            cwd=world.root,
            env={**os.environ, "GIT_TRACE2_EVENT": str(trace), "GIT_EDITOR": "true"},
            capture_output=True,
            timeout=600,
            check=False,
        )
    return started(trace)


@pytest.mark.parametrize("name", TRAITS)
def test_a_branch_that_was_let_in_runs_nothing_and_writes_nowhere_else(world, box, name):
    """Checked out, merged, shown and archived by plain git: no program, no file outside; and what
    could run elsewhere was named to the user before."""
    mark = world.folder / "mark"
    TRAITS[name].make(box, str(mark))
    found = take(world, box, box.answer())
    wanted = TRAITS[name].flagged
    assert not wanted or any(x.startswith(wanted) for x in found.flagged), found.flagged
    before = outside(world)
    assert use(world) == []
    assert not mark.exists()
    assert outside(world) == before
    assert world.git("rev-parse", "HEAD^2") == found.head  # the branch was merged


def test_positive_control_a_user_who_trusts_the_trees_hooks_runs_them(world, box):
    """The trace and the mark are no blind judges: one line of the user's own makes the attack."""
    mark = world.folder / "mark"
    TRAITS["hooks-in-githooks"].make(box, str(mark))
    take(world, box, box.answer())
    world.git("config", "core.hooksPath", ".githooks")
    assert any("post-checkout" in x for x in use(world))
    assert mark.exists()


def test_positive_control_a_configuration_that_is_trusted_runs_its_monitor(world, box):
    """The same for what a configuration names."""
    mark = world.folder / "mark"
    TRAITS["configuration-in-the-tree"].make(box, str(mark))
    take(world, box, box.answer())
    world.git("config", "include.path", "../.gitconfig")
    use(world)
    assert mark.exists()
