"""Lays out a run's volumes; runs in a container without network, before the box exists.

Begins as root only to hand the volumes' roots to the agent, then drops to uid 1000 for good.
Speaks with the host over its standard streams: prints ``{"haves": […]}`` (commits that the
repository's mirror has), reads one JSON line that says what is wanted, then the files named there
byte after byte, then a git pack up to the end; prints ``{"ok": true}`` or ``{"error": "…"}``.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

AGENT = 1000
MIRROR = "/plandock/mirror"
WHOLE = "plandock-whole"  # in the mirror, as soon as its repository is
MOST_HAVES = 2000
SAFE = ("-c", "core.hooksPath=/dev/null", "-c", "gc.auto=0", "-c", "maintenance.auto=false")


def become_agent(folders: list[str]) -> None:
    """Hand the volumes' roots over and drop every privilege."""
    for folder in folders:
        os.chown(folder, AGENT, AGENT)
    os.setgroups([])
    os.setresgid(AGENT, AGENT, AGENT)
    os.setresuid(AGENT, AGENT, AGENT)
    os.environ["HOME"] = "/nonexistent"
    os.umask(0o022)


def git(where: str, *args: str, stdin: int | None = None, text: str = "") -> str:
    """Run git there; raises with its last words where it fails."""
    done = subprocess.run(
        ["git", "-C", where, *SAFE, *args],
        stdin=stdin if stdin is not None else (None if text else subprocess.DEVNULL),
        input=None if stdin is not None or not text else text.encode(),
        capture_output=True,
        check=False,
    )
    if done.returncode:
        words = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise RuntimeError(f"git {args[0]}: {words[-1] if words else done.returncode}")
    return done.stdout.decode("utf-8", "surrogateescape")


def read_line() -> bytes:
    """One line of standard input, not a byte more: what follows belongs to somebody else."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            raise RuntimeError("the host went away")
        line += byte
    return line


def receive(path: str, size: int) -> None:
    """Write the next ``size`` bytes of standard input to a file of the conversation volume."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        while size:
            data = os.read(0, min(size, 1 << 20))
            if not data:
                raise RuntimeError("the host went away")
            file.write(data)
            size -= len(data)


@contextmanager
def to_itself(folder: str) -> Iterator[None]:
    """One staging at a time in a folder: runs of one repository begin side by side."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def prepare_mirror(object_format: str) -> list[str]:
    """The mirror repository, made where it is not there whole; the commits that it has."""
    with to_itself(MIRROR):
        if not os.path.exists(f"{MIRROR}/{WHOLE}"):
            make_mirror(object_format)
        try:
            return commits_there()
        except RuntimeError:  # a power cut may take what the mark vouches for, and leave the mark
            make_mirror(object_format)
            return commits_there()


def make_mirror(object_format: str) -> None:
    """Make it over whatever is there: two `git init` at once fail each other, and one that was
    killed leaves half a repository, which the next one would keep.  Objects and refs stay."""
    for name in (WHOLE, "HEAD", "config"):
        with suppress(FileNotFoundError):
            os.unlink(f"{MIRROR}/{name}")
    unlock("config", "HEAD")
    git(MIRROR, "init", "-q", "--bare", f"--object-format={object_format}", ".")
    os.close(os.open(f"{MIRROR}/{WHOLE}", os.O_WRONLY | os.O_CREAT, 0o644))


def commits_there() -> list[str]:
    """Commits that the mirror has."""
    tips = git(MIRROR, "for-each-ref", "--format=%(objectname)").split()
    return sorted(set(tips))[:MOST_HAVES]


def unlock(*names: str) -> None:
    """Take away the locks that a killed staging left on what nobody else writes now."""
    for name in names:
        with suppress(FileNotFoundError):
            os.unlink(f"{MIRROR}/{name}.lock")


def add_boundary(commits: list[str]) -> None:
    """Tell the mirror of commits whose parents it does not get; all of them or none."""
    path = f"{MIRROR}/shallow"
    old = set()
    with suppress(FileNotFoundError), open(path, encoding="ascii") as file:
        old = set(file.read().split())
    with open(f"{path}.new", "w", encoding="ascii") as file:
        file.writelines(f"{x}\n" for x in sorted(old.union(commits)))
    os.replace(f"{path}.new", path)


def lay_out(wish: dict[str, Any]) -> None:
    """Make the workspace: objects borrowed from the mirror, no remote, on the run's branch."""
    work, snapshot = wish["workspace"], wish["snapshot"]
    if wish["pack"]:
        git(MIRROR, "index-pack", "--stdin", "--fix-thin", stdin=0)
    if wish["shallow"]:
        with to_itself(MIRROR):
            add_boundary(wish["shallow"])
    ref = f"refs/plandock/{wish['run']}"
    unlock(ref)
    git(MIRROR, "update-ref", ref, snapshot)
    git(work, "init", "-q", f"--object-format={wish['object_format']}", ".")
    with open(f"{work}/.git/objects/info/alternates", "w", encoding="ascii") as file:
        file.write(f"{MIRROR}/objects\n")
    if wish["shallow"]:
        with open(f"{work}/.git/shallow", "w", encoding="ascii") as file:
            file.writelines(f"{x}\n" for x in wish["shallow"])
    git(work, "config", "user.name", wish["name"])
    git(work, "config", "user.email", wish["email"])
    branch = f"refs/heads/{wish['branch']}"
    git(work, "update-ref", branch, snapshot)
    git(work, "symbolic-ref", "HEAD", branch)
    git(work, "reset", "-q", "--hard", snapshot)


def main() -> None:
    """Serve one staging."""
    try:
        become_agent(json.loads(os.environ["PLANDOCK_VOLUMES"]))
        haves = prepare_mirror(os.environ["PLANDOCK_OBJECT_FORMAT"])
        os.write(1, json.dumps({"haves": haves}).encode() + b"\n")
        wish = json.loads(read_line())
        for file in wish["files"]:
            receive(os.path.join("/plandock/conversation", file["path"]), file["size"])
        lay_out(wish)
        answer: dict[str, Any] = {"ok": True}
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    os.write(1, json.dumps(answer).encode() + b"\n")
    sys.exit(0 if "ok" in answer else 1)


if __name__ == "__main__":
    main()
