"""What runs have left on the machine and in the engine, by kind."""

from __future__ import annotations

import fcntl
import os
import re
import stat
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from plandock.box import image as box_image
from plandock.engines import detect
from plandock.engines.protocol import Image
from plandock.runs.model import Run
from tests.crash.crashing import processes_of
from tests.support.laptop import Laptop

_SESSION = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_LISTED = {
    "containers": ("ps", "-a", "--format", "{{.Names}}"),
    "volumes": ("volume", "ls", "--format", "{{.Name}}"),
    "networks": ("network", "ls", "--format", "{{.Name}}"),
}
KINDS = (
    "processes", *_LISTED, "images", "sockets", "temporary_files", "quarantines", "unknown_files",
    "locks", "folders",
)  # fmt: skip
"""What is looked for: the keys of an answer of `Ground.leaks`."""


class Ground:
    """The ground that a soak's runs go on, as it is before them."""

    def __init__(self, laptop: Laptop, repositories: Sequence[Path], temporary: Path) -> None:
        self.laptop, self.repositories, self.temporary = laptop, repositories, temporary
        self.state = laptop.home / ".local/state/plandock"
        self._temporary_before = set(os.listdir(temporary))
        self._images_before = {image.id for image in self._images()}
        self._image = ""
        self._known_files: set[str] = set()

    def learn(self, run: Run) -> None:
        """Take a run that ended well for what each of them may leave: files, and its image."""
        self._image = run.image
        self._known_files |= set(self.files(run.id))

    def files(self, run_id: str) -> list[str]:
        """The files and folders of a run's folder; what names a session is written alike."""
        folder = self.state / "runs" / run_id
        return [
            _SESSION.sub("SESSION", str(path.relative_to(folder))) for path in folder.rglob("*")
        ]

    def leaks(self, runs: Sequence[Run], *, patience_s: float) -> dict[str, list[str]]:
        """What is there and should not be, once every run has ended; for processes it waits."""
        ids = [str(run.id) for run in runs]
        found = {"processes": processes_of(self.laptop, patience_s)}
        for kind in _LISTED:
            found[kind] = self.in_engine(kind, ids)
        found["images"] = sorted({run.image for run in runs} - {self._image, ""})
        found["images"] += [i.id for i in self._images() if self._is_loose(i.id, i.tags)]
        found["sockets"] = [str(p) for p in self._everything() if _is_socket(p)]
        found["temporary_files"] = sorted(self._temporary(ids))
        found["quarantines"] = [str(p) for p in self.state.glob("runs/*/quarantine-*")]
        found["unknown_files"] = [
            f"{x}/{name}"
            for x in ids
            for name in self.files(x)
            if name not in self._known_files and not name.startswith("quarantine-")
        ]
        found["locks"] = [*self._held(ids), *map(str, self._git_leftovers())]
        found["folders"] = sorted(set(os.listdir(self.state / "runs")) - set(ids))
        return found

    def in_engine(self, kind: str, ids: Iterable[str]) -> list[str]:
        """What the engine has of these runs, by name and by label."""
        names = set(self._said(*_LISTED[kind]))
        prefixes = tuple(f"plandock-{x}-" for x in ids)
        found = {name for name in names if name.startswith(prefixes)}
        engine = detect.choose(self.laptop.engine)
        if kind == "networks":
            found |= set(self._said(*_LISTED[kind], "--filter", "label=plandock.run"))
        else:
            listed = engine.containers if kind == "containers" else engine.volumes
            known = set(ids)
            for thing in listed("plandock.run"):
                if thing.labels.get("plandock.run") in known:
                    found.add(thing.name)
        return sorted(found)

    def remove(self, ids: Sequence[str], mirrors: Iterable[str] = ()) -> None:
        """Take out of the engine what it has of these runs, and these mirrors."""
        for kind, words in (
            ("containers", ("rm", "-f")),
            ("volumes", ("volume", "rm", "-f")),
            ("networks", ("network", "rm")),
        ):
            if names := self.in_engine(kind, ids):
                self._run(*words, *names)
        for name in mirrors:
            self._run("volume", "rm", "-f", name)

    def _said(self, *words: str) -> list[str]:
        return self._run(*words).stdout.split()

    def _run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.laptop.engine, *words], capture_output=True, text=True, check=True
        )

    def _images(self) -> Sequence[Image]:
        return box_image.list_images(detect.choose(self.laptop.engine))

    def _is_loose(self, image: str, tags: Sequence[str]) -> bool:
        return not tags and image not in self._images_before

    def _everything(self) -> Iterator[Path]:
        for root in {self.laptop.home, *self.repositories, self.temporary}:
            yield from root.rglob("*")

    def _temporary(self, ids: Sequence[str]) -> Iterator[str]:
        """New in the folder that the runs have for this; in the machine's own, what names one."""
        yield from set(os.listdir(self.temporary)) - self._temporary_before
        named = re.compile(rf"(?<![a-z0-9])({'|'.join(ids)})(?![a-z0-9])")
        for name in os.listdir(tempfile.gettempdir()):
            if named.search(name):
                yield name

    def _held(self, ids: Sequence[str]) -> Iterator[str]:
        for run_id in ids:
            path = self.state / "runs" / run_id / "lock"
            with open(path, "r+b") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    yield f"held {path}"

    def _git_leftovers(self) -> Iterator[Path]:
        for repository in self.repositories:
            for pattern in ("**/*.lock", "objects/**/tmp_*", "objects/pack/*.keep"):
                yield from (repository / ".git").glob(pattern)


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.lstat().st_mode)
    except FileNotFoundError:
        return False
