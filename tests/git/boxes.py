"""The other side of a harvest, without a container: what an agent may leave in its workspace."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plandock.workspace import harvest
from plandock.workspace.bundle import Limits
from plandock.workspace.harvest import Harvested, Header
from plandock.workspace.inside import harvest as inside
from tests.git.worlds import EMAIL, NAME, RUN, World

BRANCH = "feature/auto"
MOST = 64 << 20
ENTRY = Path(inside.__file__)


class Box:
    """A workspace repository that borrows the user's objects and stands on the snapshot."""

    def __init__(self, world: World, snapshot: str = "", *, name: str = "box") -> None:
        self.world = world
        self.snapshot = snapshot or world.head()
        self.root = world.folder / name
        self.dot_git = self.root / ".git"
        found = world.git("rev-parse", "--show-object-format")
        world.git("init", "-q", f"--object-format={found}", str(self.root), at=world.folder)
        objects = world.git("rev-parse", "--path-format=absolute", "--git-path", "objects")
        shallow = Path(world.git("rev-parse", "--path-format=absolute", "--git-path", "shallow"))
        (self.dot_git / "objects/info/alternates").write_text(objects + "\n")
        if shallow.exists():
            (self.dot_git / "shallow").write_bytes(shallow.read_bytes())
        self.git("update-ref", f"refs/heads/{BRANCH}", self.snapshot)
        self.git("symbolic-ref", "HEAD", f"refs/heads/{BRANCH}")
        self.git("reset", "-q", "--hard")

    def git(self, *args: str | bytes, data: bytes = b"", check: bool = True) -> str:
        """Run git as the agent would."""
        return self.world.git(*args, at=self.root, data=data, check=check)

    def write(self, path: str, content: str | bytes = "text\n") -> Path:
        """Put a file into the workspace."""
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content if isinstance(content, bytes) else content.encode())
        return place

    def commit(self, files: Mapping[str, str | bytes] | None = None, message: str = "work") -> str:
        """Write files, commit everything; the new HEAD."""
        for path, content in (files or {}).items():
            self.write(path, content)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def blob(self, content: str | bytes) -> str:
        """Store a file's content."""
        data = content if isinstance(content, bytes) else content.encode()
        return self.git("hash-object", "-w", "--stdin", data=data)

    def tree(self, *entries: tuple[str, bytes | str, str]) -> str:
        """Store a tree of (mode, name, id) exactly as given: no order, no rule is applied."""
        data = b""
        for mode, name, oid in entries:
            raw = name if isinstance(name, bytes) else name.encode()
            data += mode.encode() + b" " + raw + b"\0" + bytes.fromhex(oid)
        return self.git("hash-object", "-t", "tree", "-w", "--literally", "--stdin", data=data)

    def adopt(self, tree: str, *, message: str = "made by hand") -> str:
        """Commit a tree onto HEAD, whatever it holds, without a look at the work tree."""
        made = self.git("commit-tree", tree, "-p", "HEAD", "-m", message)
        self.git("update-ref", "HEAD", made)
        return made

    def graft(self, *entries: tuple[str, bytes | str, str]) -> str:
        """Commit the snapshot's root entries and further ones, in git's own order."""
        listed = [
            (meta.split(" ")[0].removeprefix("0"), name, meta.split(" ")[2])
            for meta, _, name in (
                x.partition("\t") for x in self.git("ls-tree", "-z", "HEAD").split("\0") if x
            )
        ]
        names = [x[1] for x in entries]
        rows: list[tuple[str, bytes | str, str]] = [x for x in listed if x[1] not in names]
        rows += entries

        def order(row: tuple[str, bytes | str, str]) -> bytes:
            name = row[1] if isinstance(row[1], bytes) else row[1].encode()
            return name + (b"/" if row[0] == "40000" else b"")

        return self.adopt(self.tree(*sorted(rows, key=order)))

    def answer(self, others: Mapping[str, str] | None = None, **claims: Any) -> bytes:
        """A header and a bundle as a hostile container would send them: nothing is checked."""
        head = self.git("rev-parse", "HEAD")
        self.git("update-ref", "refs/plandock/head", head)
        refs = ["refs/plandock/head"]
        for name, oid in (others or {}).items():
            self.git("update-ref", f"refs/plandock/others/{name}", oid)
            refs.append(f"refs/plandock/others/{name}")
        data = subprocess.run(
            ["git", "bundle", "create", "-q", "-", *refs, f"^{self.snapshot}"],
            cwd=self.root,
            capture_output=True,
            check=True,
        ).stdout
        return self.wrap(data, others=dict(others or {}), **claims)

    def answer_by_hand(self, *, less: tuple[str, ...] = ()) -> bytes:
        """The same from the box's loose objects, for what git itself would not bundle."""
        loose = [x.parent.name + x.name for x in self.dot_git.glob("objects/??/*")]
        listed = "".join(f"{x}\n" for x in loose if x not in less).encode()
        self.git("pack-objects", "-q", str(self.world.folder / "pack"), data=listed)
        data = next(self.world.folder.glob("pack-*.pack")).read_bytes()
        head = self.git("rev-parse", "HEAD")
        return self.wrap(
            f"# v2 git bundle\n-{self.snapshot} x\n{head} refs/plandock/head\n\n".encode() + data
        )

    def wrap(self, bundle: bytes, **claims: Any) -> bytes:
        """A bundle of any kind with an honest header."""
        header = {
            "head": self.git("rev-parse", "HEAD"), "commits": 1, "leftovers": False, "others": {},
            "descends": True, "empty": False, "tree_dirty_files": 0, "notes": [],
            "bundle_bytes": len(bundle), **claims,
        }  # fmt: skip
        return json.dumps(header).encode() + b"\n" + bundle

    def harvest(self, **order: Any) -> bytes:
        """What ``inside/harvest.py`` sends, run as in its container."""
        done = self.run(**order)
        assert done.returncode == 0, (done.stdout[:500], done.stderr)
        return done.stdout

    def run(self, **order: Any) -> subprocess.CompletedProcess[bytes]:
        """Run ``inside/harvest.py`` with its own isolated Python and no environment."""
        wish = {
            "workspace": str(self.root), "snapshot": self.snapshot, "branch": BRANCH,
            "name": NAME, "email": EMAIL, "message": "What was left", "max_bytes": MOST, **order,
        }  # fmt: skip
        return subprocess.run(
            [sys.executable, "-I", str(ENTRY)],
            input=json.dumps(wish).encode() + b"\n",
            capture_output=True,
            env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
            check=False,
        )

    def report(self, **order: Any) -> dict[str, Any]:
        """The header line of :meth:`harvest`."""
        found: dict[str, Any] = json.loads(self.harvest(**order).split(b"\n", 1)[0])
        return found

    def plain_fetch(self) -> None:
        """The positive control: a plain `git fetch` into a clone takes HEAD as it is."""
        clone = self.world.folder / "victim"
        self.world.git("clone", "-q", "--bare", str(self.world.root), str(clone))
        self.world.git("fetch", "-q", str(self.root), "HEAD", at=clone)
        assert self.world.git("rev-parse", "FETCH_HEAD", at=clone) == self.git("rev-parse", "HEAD")


def take(world: World, box: Box, answer: bytes, **options: Any) -> Harvested:
    """Receive an answer and import it, as the supervisor does."""
    folder = world.folder / "run"
    folder.mkdir(exist_ok=True)
    header = get(folder, answer)
    wish: dict[str, Any] = {"run_id": RUN, "branch": BRANCH, "limits": Limits(), **options}
    return harvest.import_bundle(
        wish.pop("repo", world.root),
        folder / "work.bundle",
        header,
        snapshot=box.snapshot,
        quarantine_dir=folder / "quarantine",
        **wish,
    )


def get(folder: Path, answer: bytes, max_bytes: int = MOST) -> Header:
    """Receive an answer into ``folder``."""
    return harvest.receive(io.BytesIO(answer), folder / "work.bundle", max_bytes=max_bytes)
