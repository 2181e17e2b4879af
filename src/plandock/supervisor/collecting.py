"""Collects what nobody needs any more; never anything that has not been harvested."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from plandock import paths
from plandock.box import image as box_image
from plandock.box import launch
from plandock.claude import binary
from plandock.engines import detect
from plandock.engines.protocol import Engine
from plandock.errors import PlandockError
from plandock.runs.model import Run
from plandock.runs.store import Store
from plandock.supervisor import dropping

_DAY_S = 86_400.0
_MARKS_DAYS = 7
# A latch stands until a person writes; Claude Code itself forgets a conversation before this.
_LATCH_DAYS = 90


@dataclass(frozen=True)
class Spare:
    """One thing to remove: its kind, its name, and its size in bytes where that is known."""

    kind: str
    name: str
    size_bytes: int = 0

    def to_json(self) -> dict[str, Any]:
        """The keys of `gc --json`."""
        return asdict(self)


def collect(store: Store, *, dry_run: bool, images: bool = True) -> tuple[list[Spare], list[str]]:
    """Remove what is spare, or only list it; returns it, and what could not be removed."""
    gone: list[Spare] = []
    failed: list[str] = []
    runs = store.list()
    found = [*_files(), *_in_engines(runs, images=images, failed=failed)]
    for spare, remove in found:
        try:
            if not dry_run:
                remove()
            gone.append(spare)
        except (PlandockError, OSError) as error:
            failed.append(f"{spare.kind} {spare.name}: {error}")
    return gone, failed


Found = Iterator[tuple[Spare, Callable[[], object]]]


def _files() -> Found:
    folder = dropping.dropped_dir()
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if _age_days(path) > dropping.KEPT_DAYS:
            size = sum(p.lstat().st_size for p in path.rglob("*") if p.is_file())
            yield Spare("dropped run", path.name, size), partial(shutil.rmtree, path)
    for place in (paths.latch_dir(), paths.proposal_dir(), paths.note_dir()):
        days = _LATCH_DAYS if place == paths.latch_dir() else _MARKS_DAYS
        for path in sorted(place.iterdir()) if place.is_dir() else []:
            if _age_days(path) > days:
                spare = Spare("mark", f"{place.name}/{path.name}", path.lstat().st_size)
                yield spare, path.unlink


def _in_engines(runs: list[Run], *, images: bool, failed: list[str]) -> Found:
    for name in detect.NAMES:
        try:
            engine = detect.choose(name)
            engine.ping()
        except PlandockError:
            continue
        try:
            yield from _of_runs(engine, runs)
            yield from _mirrors(engine, runs)
            if images:
                yield from _images(engine, runs)
        except PlandockError as error:
            failed.append(f"{name}: {error.message}")


def _of_runs(engine: Engine, runs: list[Run]) -> Found:
    """What runs that have ended left behind; what no record knows may be another user's."""
    ended = {str(r.id): r for r in runs if r.state.final and r.engine in ("", engine.name)}
    for box in engine.containers("plandock.run"):
        if box.labels.get("plandock.run") in ended:
            yield Spare("container", box.name), partial(engine.remove, box.name)
    for volume in engine.volumes("plandock.run"):
        run = ended.get(volume.labels.get("plandock.run", ""))
        if run is not None and not run.staged and run.exit_code != 23:
            yield Spare("volume", volume.name), partial(engine.remove_volume, volume.name)


def _mirrors(engine: Engine, runs: list[Run]) -> Found:
    """Mirrors of repositories that are gone or were not used for long.

    Only those of repositories that some record names, and none that a kept volume borrows from.
    """
    by_mirror: dict[str, list[Run]] = {}
    for run in runs:
        by_mirror.setdefault(launch.names_of(run).mirror, []).append(run)
    for volume in engine.volumes("plandock.mirror"):
        users = by_mirror.get(volume.name, [])
        if not users or any(r.staged or not r.state.final or r.exit_code == 23 for r in users):
            continue
        gone = not Path(users[0].repo).is_dir()
        last = max(r.ended_at or r.created_at for r in users)
        if gone or last < _days_ago(dropping.KEPT_DAYS):
            yield Spare("mirror", volume.name), partial(engine.remove_volume, volume.name)


def _images(engine: Engine, runs: list[Run]) -> Found:
    """Images that no run needs and that are not for the CLI of this machine."""
    needed = {r.image for r in runs if r.staged or not r.state.final}
    versions = set()
    for program in {r.claude for r in runs if r.claude}:
        try:
            versions.add(binary.version_of(Path(program)))
        except PlandockError:
            continue
    if not versions:
        return  # it is not known which CLI there is
    for image in box_image.list_images(engine):
        if needed.intersection(image.tags) or image.labels.get(box_image.VERSION_LABEL) in versions:
            continue
        for name in image.tags or (image.id,):
            spare = Spare("image", name, image.size_bytes)
            yield spare, partial(engine.remove_image, name)


def _age_days(path: Path) -> float:
    return (time.time() - os.lstat(path).st_mtime) / _DAY_S


def _days_ago(days: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() - days * _DAY_S))
