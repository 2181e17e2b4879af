"""What the agent left uncommitted, made into one commit: the other half of harvest.py.

Lies beside it in the image and runs in the same container; standard library only.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

TRAILER = "Plandock-Leftovers: true"
OPTIONS = (
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "core.fsmonitor=false"),
    *("-c", "core.commitGraph=false"),
    *("-c", "core.multiPackIndex=false"),
    *("-c", "core.untrackedCache=false"),
    *("-c", "core.excludesFile="),
    *("-c", "core.attributesFile=/dev/null"),
    *("-c", "log.showSignature=false"),
    *("-c", "core.bare=false"),
    *("-c", "core.quotePath=false"),
    *("-c", "core.editor=false"),
    *("-c", "commit.gpgSign=false"),
    *("-c", "gc.auto=0"),
    *("-c", "maintenance.auto=false"),
    *("-c", "safe.directory=*"),
    *("-c", "advice.addEmbeddedRepo=false"),
    *("-c", "pack.useBitmaps=false"),
    *("-c", "status.relativePaths=false"),
)
# Untracked folders of this many files are a package client's, not the agent's.
BULK_FILES = 500
BULK_FOLDERS = {"node_modules", "__pycache__", "bower_components"}
MOST_LEFTOVERS = 50_000
MOST_TREES = 50
MOST_FOLDERS = 200  # in each other; the host refuses more than 256


class Failed(Exception):
    """One line for the host."""


class NoRoom(Failed):
    """The disk below the volume is full; what failed for it can be done later."""


@dataclass
class Order:
    """What the host asks for; sizes in bytes."""

    workspace: str
    snapshot: str
    branch: str
    name: str = "plandock"
    email: str = "plandock@localhost"
    message: str = "Keep what was left uncommitted"
    max_bytes: int = 512 << 20
    max_blob_bytes: int = 100 << 20
    seconds: int = 1800


@dataclass
class Outcome:
    """The header line, as it is filled in."""

    head: str = ""
    commits: int = 0
    leftovers: bool = False
    others: dict[str, str] = field(default_factory=dict)
    descends: bool = True
    empty: bool = True
    tree_dirty_files: int = 0
    notes: list[str] = field(default_factory=list)
    bundle_bytes: int = 0

    def note(self, text: str, paths: Sequence[str] = ()) -> None:
        """Remember a sentence for the receipt, with the first few paths it is about."""
        shown = ", ".join(paths[:5]) + (f" and {len(paths) - 5} more" if len(paths) > 5 else "")
        if len(self.notes) < 100:
            self.notes.append((f"{text}: {shown}" if shown else text)[:1000])


class Git:
    """Calls git on one repository, by its own addresses, with nothing of any configuration file
    that could run code on the way."""

    def __init__(self, git_dir: str, work_tree: str | None = None) -> None:
        self.met_full_disk = False
        self.cwd = work_tree or git_dir
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith("GIT_")},
            "GIT_DIR": git_dir,
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_GRAFT_FILE": "/dev/null",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_NO_LAZY_FETCH": "1",
            # Also where the configuration allows `ext::` and the like, for objects of a promisor.
            "GIT_ALLOW_PROTOCOL": "none",
            "GIT_LITERAL_PATHSPECS": "1",
            "LC_ALL": "C",
        }
        if work_tree:
            self.env["GIT_WORK_TREE"] = work_tree

    def silence(self) -> None:
        """Switch off the content filters and drivers that the repository's configuration names.

        Names may hold ``=``, so they cannot be given as ``-c name=value``.
        """
        listed = os.fsdecode(self.run("config", "--list", "-z", "--name-only").stdout)
        pairs: list[tuple[str, str]] = []
        for key in sorted(set(listed.split("\0"))):
            if re.fullmatch(r"filter\..+\.(clean|smudge|process)", key, re.S):
                pairs.append((key, ""))
            elif re.fullmatch(r"filter\..+\.required", key, re.S):
                pairs.append((key, "false"))
        pairs = pairs[:5000]
        self.env["GIT_CONFIG_COUNT"] = str(len(pairs))
        for n, (key, value) in enumerate(pairs):
            self.env[f"GIT_CONFIG_KEY_{n}"] = key
            self.env[f"GIT_CONFIG_VALUE_{n}"] = value

    def run(
        self, *args: str, stdin: bytes = b"", env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Run to the end; the exit code is the caller's to judge."""
        done = subprocess.run(
            ["git", *OPTIONS, *args],
            input=stdin,
            capture_output=True,
            cwd=self.cwd,
            env={**self.env, **(env or {})},
            check=False,
        )
        self.met_full_disk |= done.returncode != 0 and says_full(done.stderr)
        return done

    def out(self, *args: str, stdin: bytes = b"", env: dict[str, str] | None = None) -> str:
        """What it prints; raises :class:`Failed` when it fails."""
        done = self.run(*args, stdin=stdin, env=env)
        if done.returncode != 0:
            raise Failed(f"git {args[0]}: {complaint(done.stderr)}")
        return os.fsdecode(done.stdout)

    def commit(self, name: str) -> str:
        """The commit that a name stands for; "" when there is none."""
        done = self.run("rev-parse", "--verify", "--quiet", "--end-of-options", name + "^{commit}")
        return os.fsdecode(done.stdout).strip() if done.returncode == 0 else ""


def says_full(stderr: bytes) -> bool:
    """Whether git fails for want of room; file names stand within a line, never at its end."""
    words = rb"(: No space left on device|: Disk quota exceeded|write error\. Out of diskspace)$"
    return re.search(words, stderr, re.M) is not None


def complaint(stderr: bytes) -> str:
    """The line of standard error that says why: what ended git, or else the last one."""
    lines = [x for x in stderr.decode("utf-8", "replace").splitlines() if x.strip()]
    why = next((x for x in lines if x.startswith("fatal: ")), lines[-1] if lines else "")
    return why[:300] or "failed without a word"


@dataclass
class Dirty:
    """What `git status` found, paths relative to the work tree."""

    tracked: list[str] = field(default_factory=list)
    untracked: list[str] = field(default_factory=list)
    unmerged: list[str] = field(default_factory=list)
    staged: set[str] = field(default_factory=set)
    nested: list[str] = field(default_factory=list)


def look(git: Git) -> Dirty:
    """Changed, untracked and unmerged files; submodules and nested repositories set apart."""
    text = git.out(
        *("status", "--porcelain=v2", "-z", "--untracked-files=all"),
        *("--ignore-submodules=all", "--no-renames"),
    )
    found = Dirty()
    for entry in text.split("\0"):
        kind = entry[:2]
        if kind == "1 ":
            found.tracked.append(entry.split(" ", 8)[8])
            if entry[3] == ".":  # the index holds it as it is, or no more
                found.staged.add(found.tracked[-1])
        elif kind == "u ":
            found.unmerged.append(entry.split(" ", 10)[10])
        elif kind == "? ":
            # A trailing slash under --untracked-files=all is a repository of its own.
            (found.nested if entry.endswith("/") else found.untracked).append(entry[2:])
    return found


def linked_trees(git: Git) -> list[Path]:
    """The linked work trees that lie below this one and are there, at most so many."""
    listed = os.fsdecode(git.run("worktree", "list", "--porcelain", "-z").stdout).split("\0")
    places = [Path(x.removeprefix("worktree ")) for x in listed if x.startswith("worktree /")]
    below = [p for p in places if Path(git.cwd) in p.parents and (p / ".git").is_file()]
    return sorted(below)[:MOST_TREES]


def leave_out(order: Order, paths: list[str], outcome: Outcome) -> list[str]:
    """The untracked paths that belong on a branch: neither bulk nor what the host would refuse."""
    top = order.workspace
    reasons: dict[str, list[str]] = {}
    folders: dict[str, int] = {}
    for path in paths:
        for folder in above(path):
            if os.path.basename(folder) in BULK_FOLDERS:
                folders[folder] = folders.get(folder, 0) + 1
            elif folder not in folders:
                venv = os.path.isfile(os.path.join(top, folder, "pyvenv.cfg"))
                folders[folder] = BULK_FILES if venv else 0
    bulk = {folder for folder, files in folders.items() if files >= BULK_FILES}
    kept = []
    for path in paths:
        inside = next((x for x in above(path) if x in bulk), "")
        why = "downloaded packages were left behind" if inside else refused(order, path)
        if why:
            listed = reasons.setdefault(why, [])
            if (inside or path) not in listed[-50:]:
                listed.append(inside or path)
        else:
            kept.append(path)
    for why, listed in reasons.items():
        outcome.note(why, sorted(set(listed)))
    while len(kept) > MOST_LEFTOVERS:
        sizes: dict[str, int] = {}
        for path in kept:
            root = path.split("/", 1)[0]
            sizes[root] = sizes.get(root, 0) + 1
        largest = max(sizes, key=lambda x: sizes[x])
        kept = [x for x in kept if x.split("/", 1)[0] != largest]
        outcome.note(f"{sizes[largest]} untracked files are too many; left behind", [largest])
    return kept


def above(path: str) -> Iterator[str]:
    """The folders that a path lies in, outermost first."""
    for i, c in enumerate(path):
        if c == "/":
            yield path[:i]


def refused(order: Order, path: str) -> str:
    """Why the host would refuse an untracked file; "" when it would not.

    One such file would keep everything else from arriving, so it stays in the volume.
    """
    if re.search(r"[\x00-\x1f\x7f-\x9f\\]", path):
        return "file names with control characters or backslashes were left behind"
    if path.count("/") >= MOST_FOLDERS:
        return f"folders over {MOST_FOLDERS} deep were left behind"
    full = os.path.join(order.workspace, path)
    try:
        if os.path.islink(full):
            target = os.readlink(full)
            depth = path.count("/")
            parts = [x for x in target.split("/") if x not in ("", ".")]
            climbs = next((i for i, x in enumerate(parts) if x != ".."), len(parts))
            if target.startswith("/") or climbs > depth or ".." in parts[climbs:]:
                return "symbolic links that leave the repository were left behind"
            if any(x.lower().startswith((".git", "git~")) for x in parts):
                return "symbolic links to git's own files were left behind"
            if os.path.basename(path).lower().startswith(".git"):
                return "git's own files as symbolic links were left behind"
        elif os.path.getsize(full) > order.max_blob_bytes:
            return f"files over {order.max_blob_bytes >> 20} MiB were left behind"
    except OSError:
        return "files that cannot be read were left behind"
    return ""


def left(order: Order, path: str, outcome: Outcome) -> bool:
    """Whether a tracked file is now one that the host would refuse; then with a word."""
    if not os.path.lexists(os.path.join(order.workspace, path)):
        return False  # removed, and that is to come along
    why = refused(order, path)
    if why:
        outcome.note(why, [path])
    return bool(why)


def add(git: Git, paths: list[str]) -> list[str]:
    """Stage what can be staged; returns what could not (unreadable, a filter that fails …)."""
    if not paths:
        return []
    data = b"\0".join(os.fsencode(x) for x in paths)
    done = git.run(
        *("add", "-A", "-f", "--ignore-errors", "--sparse"),
        *("--pathspec-from-file=-", "--pathspec-file-nul"),
        stdin=data,
    )
    if done.returncode == 0:
        return []
    if len(paths) == 1:
        return paths
    half = len(paths) // 2
    return add(git, paths[:half]) + add(git, paths[half:])


def commit_leftovers(git: Git, order: Order, outcome: Outcome, head: str) -> str:
    """One commit with everything left uncommitted, on top of ``head``; returns the new HEAD."""
    try:
        found = look(git)
    except Failed:
        # A torn index, as a killed git leaves it: start from what HEAD holds.
        git.out("rev-parse", "--git-dir")
        index = Path(git.env["GIT_DIR"]) / "index"
        index.unlink(missing_ok=True)
        git.out("read-tree", head or "--empty")
        outcome.note("the workspace's index was damaged and was made anew")
        found = look(git)
    outcome.tree_dirty_files = len(found.tracked) + len(found.untracked) + len(found.unmerged)
    linked = {str(x) for x in linked_trees(git)}
    nested = [x for x in found.nested if os.path.join(git.cwd, x[:-1]) not in linked]
    if nested:
        outcome.note("repositories inside the repository were left behind", nested)
    if found.unmerged:
        outcome.note("files with unresolved conflicts came as they stood", found.unmerged)
    changed = [x for x in found.tracked + found.unmerged if not left(order, x, outcome)]
    if barred := sorted(found.staged - set(changed)):
        # In the index already: there, too, it is as HEAD has it.
        ways = ("reset", "-q", "--pathspec-from-file=-", "--pathspec-file-nul")
        ways = ways if head else ("update-index", "--force-remove", "-z", "--stdin")
        git.run(*ways, stdin=b"".join(os.fsencode(x) + b"\0" for x in barred))
    wanted = changed + leave_out(order, found.untracked, outcome)
    if not wanted:
        return head
    # A file that was removed from the index as well is one that `git add` knows nothing of: each
    # would fail by itself, after all that it was asked for with.
    failed = add(git, [x for x in wanted if x not in found.staged])
    if failed:
        outcome.note("files that git could not add were left behind", failed)
        for path in set(failed) & set(found.unmerged):
            git.run("reset", "-q", "--", path)
    tree = git.out("write-tree").strip()
    if tree == (git.out("rev-parse", head + "^{tree}").strip() if head else ""):
        return head
    who = {
        "GIT_AUTHOR_NAME": order.name or "plandock",
        "GIT_AUTHOR_EMAIL": order.email,
        "GIT_COMMITTER_NAME": order.name or "plandock",
        "GIT_COMMITTER_EMAIL": order.email,
    }
    text = f"{order.message.strip()}\n\n{TRAILER}\n"
    parents = ("-p", head) if head else ()
    made = git.out("commit-tree", tree, *parents, stdin=text.encode(), env=who).strip()
    git.out("update-ref", "-m", "plandock: leftovers", "HEAD", made)
    return made
