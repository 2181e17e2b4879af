"""Bring the work out of a workspace volume: runs in a network-less container, as uid 1000.

Called as ``python3 -I harvest.py`` with one JSON line on stdin (see leftovers.Order); writes one
JSON header line to stdout and, unless nothing new was made, the bytes of a git bundle after it.
Whatever goes wrong is ``{"error": "…"}`` and exit code 1, or 28 (ENOSPC) where the disk is full.

Standard library only; Python 3.11 and git 2.39 or newer.  The agent could write anything into
the workspace's ``.git``.  Here that can only cost the agent its own work, since nothing but this
volume is in reach; the host trusts no word of the header and checks every object for itself.
Still hooks, monitors, replacement objects, grafts and stored graphs are left out of play, and the
bundle is made from a fresh bare repository that borrows the workspace's objects.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plandock.workspace.inside.leftovers import (
        OPTIONS,
        TRAILER,
        Failed,
        Git,
        NoRoom,
        Order,
        Outcome,
        commit_leftovers,
        complaint,
        linked_trees,
        says_full,
    )
else:
    # A folder of scripts in the image; `python3 -I` does not look beside the script by itself.
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    from leftovers import (
        OPTIONS,
        TRAILER,
        Failed,
        Git,
        NoRoom,
        Order,
        Outcome,
        commit_leftovers,
        complaint,
        linked_trees,
        says_full,
    )

MOST_OTHERS = 50


def open_workspace(order: Order, outcome: Outcome) -> Git:
    """The agent's repository, its configuration set aside when git cannot even read it."""
    top = Path(order.workspace)
    git_dir = top / ".git"
    if git_dir.is_file():
        # A linked worktree or `git init --separate-git-dir`.
        with git_dir.open("rb") as handle:
            words = os.fsdecode(handle.read(8192)).strip()
        git_dir = top / words.removeprefix("gitdir: ")
    if not git_dir.is_dir():
        raise Failed("the workspace has no repository any more")
    remove_specials(top, git_dir)
    git = Git(str(git_dir), str(top))
    found = git.run("rev-parse", "--git-common-dir")
    if found.returncode != 0 and branch_file(git_dir / "HEAD") == "":
        # Torn or gone, as a crash leaves it; the branches are there all the same.
        (git_dir / "HEAD").unlink(missing_ok=True)
        (git_dir / "HEAD").write_text(f"ref: refs/heads/{order.branch}\n")
        outcome.note("the workspace's HEAD could not be read; the run's branch was taken")
        found = git.run("rev-parse", "--git-common-dir")
    if found.returncode != 0:
        config = git_dir / "config"
        if config.exists():
            config.replace(git_dir / "config.set-aside")
        sha256 = len(order.snapshot) == 64
        extension = "[extensions]\n\tobjectFormat = sha256\n" if sha256 else ""
        config.write_text(f"[core]\n\trepositoryformatversion = {int(sha256)}\n{extension}")
        found = git.run("rev-parse", "--git-common-dir")
        if found.returncode != 0:
            raise Failed(f"git cannot open the workspace: {complaint(found.stderr)}")
        outcome.note("the workspace's git configuration could not be read and was set aside")
    common = (top / os.fsdecode(found.stdout).rstrip("\n")).resolve()
    for folder in {git_dir, common}:
        remove_locks(folder)
    git.silence()
    return git


def branch_file(path: Path) -> str:
    """What a HEAD file says, "" where it says nothing that git understands."""
    try:
        with path.open("rb") as handle:
            words = handle.read(1000).decode("utf-8", "replace").strip()
    except OSError:
        return ""
    return words if re.fullmatch(r"ref: ?refs/.+|[0-9a-f]{40}|[0-9a-f]{64}", words) else ""


READ_BY_NAME = (".gitignore", ".gitattributes", ".gitmodules", ".mailmap")


def remove_specials(top: Path, git_dir: Path) -> None:
    """Remove pipes, devices and, where git follows them, links to such: it would wait for ever.

    Pipes everywhere, since a setting or a list of alternates may name any of them; no branch
    could hold one.  Links in git's own folder, and where a file is read for its name alone.
    """
    for root in {str(top), str(git_dir)}:
        for folder, folders, names in os.walk(root):
            ours = Path(folder) == git_dir or git_dir in Path(folder).parents
            for name in (*names, *folders):
                path = os.path.join(folder, name)
                try:
                    mode = os.lstat(path).st_mode
                    if stat.S_ISLNK(mode) and (ours or name in READ_BY_NAME):
                        mode = os.stat(path).st_mode
                    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
                        os.unlink(path)
                except OSError:
                    pass  # a link to nothing, which git takes for an absent file


def remove_locks(git_dir: Path) -> None:
    """Remove the locks of git processes that were killed; none is alive in this container."""
    for where in (git_dir, git_dir / "refs"):
        walk = os.walk(where) if where.name == "refs" else [(str(where), [], os.listdir(where))]
        for folder, _, names in walk:
            for name in names:
                if name.endswith(".lock"):
                    try:
                        os.unlink(os.path.join(folder, name))
                    except OSError:
                        pass  # then git says so where it matters


def free_locks(cwd: str) -> None:
    """Remove the locks of git processes that ended with an earlier box: none is at work here yet,
    and the agent would meet them at its next commit."""
    folder = Path(cwd)
    while not (folder / ".git").is_dir():
        if folder == folder.parent:
            return
        folder = folder.parent
    remove_locks(folder / ".git")


def name_unfinished(git: Git, outcome: Outcome) -> dict[str, str]:
    """Commits that only an operation in progress or the stash holds, by the name to give them."""
    git_dir = Path(git.env["GIT_DIR"])
    found: dict[str, str] = {}
    for file, name, words in (
        ("MERGE_HEAD", "unfinished-merge", "merge"),
        ("CHERRY_PICK_HEAD", "unfinished-cherry-pick", "cherry-pick"),
        ("REVERT_HEAD", "", "revert"),
        ("rebase-merge/orig-head", "unfinished-rebase", "rebase"),
        ("rebase-apply/orig-head", "unfinished-rebase", "rebase"),
        ("rebase-merge/autostash", "autostash", ""),
        ("rebase-apply/autostash", "autostash", ""),
        ("MERGE_AUTOSTASH", "autostash", ""),
    ):
        try:
            # Not more than a name: it may be a link to something without an end.
            with (git_dir / file).open("rb") as handle:
                sha = handle.read(100).decode("ascii", "replace").split()[0]
        except (OSError, IndexError):
            continue
        if words:
            outcome.note(f"a {words} was not finished; what stood in the files came along")
        if name and (commit := git.commit(sha)):
            found[name] = commit
    listed = git.run("log", "-g", "-n20", "--format=%H", "refs/stash", "--")
    for n, sha in enumerate(os.fsdecode(listed.stdout).split()):
        found[f"stash-{n}"] = sha
    return found


def commit_in_linked_trees(git: Git, order: Order, outcome: Outcome) -> dict[str, str]:
    """One commit with what was left in each linked work tree, by the name to give it.

    They lie in the repository where Claude Code makes them for the agent and its subagents; most
    are on a branch, which then goes on.
    """
    found: dict[str, str] = {}
    for place in linked_trees(git):
        try:
            pointer = (place / ".git").read_text("utf-8", "surrogateescape")
            tree = Git(pointer.removeprefix("gitdir: ").rstrip("\n"), str(place))
            remove_locks(Path(tree.env["GIT_DIR"]))
            tree.silence()
            inside = replace(order, workspace=str(place))
            if made := commit_leftovers(tree, inside, outcome, tree.commit("HEAD")):
                found[f"worktree-{len(found) + 1}"] = made
            git.met_full_disk |= tree.met_full_disk
        except (Failed, OSError) as error:
            outcome.note(
                f"a linked work tree was left behind, as git failed: {error}", [str(place)]
            )
    return found


def branches(git: Git) -> dict[str, str]:
    """Local branches and what they stand on."""
    done = git.run("for-each-ref", "--format=%(refname:lstrip=2) %(objectname)", "refs/heads")
    pairs = (x.rpartition(" ") for x in os.fsdecode(done.stdout).split("\n"))
    return {name: sha for name, space, sha in pairs if space}


def clean_room(git: Git, order: Order, folder: Path) -> Git:
    """A bare repository of our own that borrows the workspace's objects and no configuration."""
    git_dir = folder / "room.git"
    objects = git.out("rev-parse", "--path-format=absolute", "--git-path", "objects").rstrip("\n")
    shallow = git.out("rev-parse", "--path-format=absolute", "--git-path", "shallow").rstrip("\n")
    room = Git(str(git_dir))
    room.cwd = str(folder)
    format_ = "sha256" if len(order.snapshot) == 64 else "sha1"
    room.out("init", "-q", "--bare", "--template=", f"--object-format={format_}", str(git_dir))
    quoted = '"' + objects.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    (git_dir / "objects/info").mkdir(exist_ok=True)
    (git_dir / "objects/info/alternates").write_bytes(os.fsencode(quoted) + b"\n")
    if os.path.isfile(shallow):
        shutil.copyfile(shallow, git_dir / "shallow")
    return room


def write_bundle(room: Git, names: list[str], snapshot: str, spool: IO[bytes], most: int) -> int:
    """Bundle the refs less the snapshot into ``spool``; its size, or -1 when over ``most``."""
    words = [*names, *(["^" + snapshot] if snapshot else [])]
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(
            ["git", *OPTIONS, "bundle", "create", "-q", "-", "--stdin"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            cwd=room.cwd,
            env=room.env,
        )
        if child.stdin is None or child.stdout is None:
            raise Failed("git bundle could not be started")
        child.stdin.write(os.fsencode("\n".join(words) + "\n"))
        child.stdin.close()
        size = 0
        while chunk := child.stdout.read(1 << 20):
            size += len(chunk)
            if size > most:
                child.kill()
                child.wait()
                return -1
            spool.write(chunk)
        if child.wait() != 0:
            said.seek(0)
            raise Failed(f"git bundle: {complaint(said.read())}")
    return size


def odd(name: str) -> bool:
    """Whether the host would refuse the name of a branch; one such would keep all from arriving."""
    parts = name.split("/")
    return (
        not name.isprintable()
        or name.startswith("-")
        or name.upper() in ("HEAD", "@")
        or len(os.fsencode(name)) > 400
        or any(x.lower().endswith(".lock") or len(os.fsencode(x)) > 240 for x in parts)
    )


def gather(room: Git, order: Order, head: str, found: dict[str, str], outcome: Outcome) -> str:
    """Count what is new, set the refs to bundle; returns the snapshot, "" when it is unknown."""
    snapshot = room.commit(order.snapshot)
    if not snapshot:
        outcome.note("the snapshot is not among the workspace's objects any more")
    outcome.head = head
    less = [f"^{snapshot}"] if snapshot else []
    outcome.commits = int(room.out("rev-list", "--count", head, *less))
    base = room.run("merge-base", "--is-ancestor", snapshot, head) if snapshot else None
    outcome.descends = base is not None and base.returncode == 0
    room.out("update-ref", "refs/plandock/head", head)
    seen = {head}
    for name, sha in found.items():
        if sha in seen or not room.commit(sha):
            continue
        if int(room.out("rev-list", "--count", "-n1", sha, *less, f"^{head}")) == 0:
            continue
        if len(outcome.others) >= MOST_OTHERS:
            outcome.note("more branches than come along; left behind", [name])
            continue
        given = f"branch-{len(outcome.others) + 1}" if odd(name) else name
        done = room.run("update-ref", f"refs/plandock/others/{given}", sha)
        if done.returncode == 0:
            seen.add(sha)
            outcome.others[given] = sha
        if done.returncode != 0:
            outcome.note("a branch could not come along; left behind", [name])
        elif given != name:
            outcome.note(f"a branch of an impossible name came along as {given}", [name])
    outcome.empty = outcome.commits == 0 and not outcome.others
    return snapshot


def harvest(order: Order, out: IO[bytes]) -> None:
    """Do all of it: tidy up, commit leftovers, bundle, report."""
    outcome = Outcome()
    git = open_workspace(order, outcome)
    unfinished = name_unfinished(git, outcome)
    before = git.commit("HEAD")
    if not before and (rescued := git.commit(f"refs/heads/{order.branch}")):
        outcome.note("HEAD stood on nothing; the run's branch was taken")
        git.run("symbolic-ref", "HEAD", f"refs/heads/{order.branch}")
        before = rescued
    head = before
    try:
        unfinished |= commit_in_linked_trees(git, order, outcome)
        head = commit_leftovers(git, order, outcome, before)
    except (Failed, OSError) as error:
        git.met_full_disk |= isinstance(error, OSError) and error.errno in NO_ROOM
        outcome.note(f"what was left uncommitted was left behind, as git failed: {error}")
    if git.met_full_disk:
        # Not left behind: with room again, all of it comes along.
        raise NoRoom("there is no room to commit what was left uncommitted")
    head = head or git.commit(order.snapshot)
    if not head:
        raise Failed("the workspace holds no commit")
    with tempfile.TemporaryDirectory(prefix="plandock-") as scratch:
        room = clean_room(git, order, Path(scratch))
        while True:
            snapshot = gather(room, order, head, {**branches(git), **unfinished}, outcome)
            message = room.out("log", "-1", "--format=%B", head)
            outcome.leftovers = TRAILER in message.splitlines() and outcome.commits > 0
            spool = open_spool(git)
            with spool:
                if not outcome.empty:
                    names = [f"refs/plandock/others/{x}" for x in outcome.others]
                    names += ["refs/plandock/head"] if outcome.commits else []
                    size = write_bundle(room, names, snapshot, spool, order.max_bytes)
                    if size < 0 and head != before and before:
                        outcome.note("what was left uncommitted is too large; left behind")
                        git.run("update-ref", "HEAD", before)
                        head, outcome.others = before, {}
                        continue
                    if size < 0:
                        raise Failed(f"the work is larger than {order.max_bytes} bytes")
                    outcome.bundle_bytes = size
                out.write(json.dumps(vars(outcome)).encode() + b"\n")
                spool.seek(0)
                shutil.copyfileobj(spool, out, 1 << 20)
                out.flush()
                return


NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def open_spool(git: Git) -> IO[bytes]:
    """A nameless file for the bundle: on the volume, since /tmp is memory, unless that is full."""
    try:
        room = os.statvfs(git.env["GIT_DIR"])
        if room.f_bavail * room.f_frsize > 64 << 20:
            return tempfile.TemporaryFile(dir=git.env["GIT_DIR"])
    except OSError:
        pass
    return tempfile.TemporaryFile()


def out_of_time(*_: object) -> None:
    """End what is going on, whatever it waits for."""
    raise Failed("the harvest took longer than it may")


# What the workspace is like, and will be the next time; any other failure may pass.
REFUSED = 3


def main() -> int:
    """Read the order, write the answer; the exit code says which kind it is."""
    try:
        given: dict[str, Any] = json.loads(sys.stdin.buffer.readline())
        order = Order(**{k: v for k, v in given.items() if k in Order.__dataclass_fields__})
        # A pipe where git expects a file, or a file without an end, would hold us for ever.
        signal.signal(signal.SIGALRM, out_of_time)
        signal.alarm(order.seconds)
        harvest(order, sys.stdout.buffer)
    except Exception as error:  # the host must get a line whatever happened in here
        ours = isinstance(error, Failed)
        words = str(error) if ours else f"{type(error).__name__}: {error}"
        sys.stdout.buffer.write(json.dumps({"error": words[:500]}).encode() + b"\n")
        full = isinstance(error, NoRoom) or (isinstance(error, OSError) and error.errno in NO_ROOM)
        if full or says_full(words.encode()):
            return errno.ENOSPC
        return REFUSED if ours else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
