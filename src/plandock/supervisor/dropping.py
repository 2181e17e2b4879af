"""Forgetting a run; what would be lost with it is kept for a while as git bundles."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from pathlib import Path

from plandock import git, paths
from plandock.box import launch
from plandock.engines import detect
from plandock.engines.protocol import EngineDown
from plandock.errors import Busy, HarvestRefused, PlandockError
from plandock.runs.model import Run, State
from plandock.runs.store import Store
from plandock.supervisor import harvesting, held
from plandock.supervisor.receipt import receipt_of

KEPT_DAYS = 30
_PATIENCE_S = 10.0
_TRIES = 5


def dropped_dir(run_id: str = "") -> Path:
    """Where dropped runs are kept for :data:`KEPT_DAYS` days, or one of them."""
    return paths.state_dir() / "dropped" / run_id


def branch_there(run: Run) -> bool:
    """Whether the run's branch is in the repository (which may be gone itself)."""
    with contextlib.suppress(PlandockError):
        git.check_there(run.git_place)
        return bool(run.branch) and run.branch in git.branches(run.git_place)
    return False


def losses(run: Run) -> list[str]:
    """What is nowhere but in what a drop removes, in words."""
    found = []
    if _unharvested(run):
        found.append("its work has not arrived in the repository")
    elif run.staged:
        found.append("files that could not come along are in its volume alone")
    if run.commits and not branch_there(run):
        found.append(f"the branch {run.branch} is gone")
    return found


def keep(run: Run) -> Path:
    """Keep what the run has brought: bundles, receipt and record; returns the folder.

    ``refs.bundle`` holds its hidden refs since the commit that it began at, ``work.bundle`` what
    came out of the box and was not (or not yet) let in.  Raises :class:`PlandockError` where
    that cannot be had; then nothing has been removed.
    """
    folder = dropped_dir(run.id)
    paths.make_private(folder.parent)
    if any(folder.glob("*.bundle")):
        # Of a drop that was cut off: what it holds may be nowhere else by now.
        number = next(n for n in range(2, 10_000) if not Path(f"{folder}-{n}").exists())
        folder.rename(f"{folder}-{number}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    work = paths.run_dir(run.id) / "work.bundle"
    if run.staged and _unharvested(run):
        _fetch(run, work)
    refs = _hidden_refs(run)
    if (_unharvested(run) or not refs) and work.is_file():
        shutil.copyfile(work, folder / "work.bundle")
    if refs:
        base = [f"^{run.base}"] if run.base else []
        new = git.line(Path(run.git_place), "rev-list", "--count", *refs, *base)
        if new != "0":
            place = str(folder / "refs.bundle")
            git.git(run.git_place, "bundle", "create", "-q", place, *refs, *base)
    for name, data in (("receipt.json", receipt_of(run)), ("run.json", run.to_record())):
        handle = os.open(folder / name, os.O_WRONLY | os.O_CREAT, 0o600)
        with os.fdopen(handle, "w") as file:
            json.dump(data, file, indent=2)
    return folder


def _fetch(run: Run, work: Path) -> None:
    """What is in the volume, also where a bundle lies there: it may be of an earlier end."""
    try:
        harvesting.fetch_bundle(detect.choose(run.engine), run)
    except PlandockError:
        # What was refused lies there as it came.
        if not (run.exit_code == HarvestRefused.exit_code and work.is_file()):
            raise


def remove(store: Store, run: Run) -> None:
    """Remove everything of a run but its branch, the record last.

    A supervisor that is still writing the receipt is waited for.  Raises :class:`Busy`.
    """
    with held.alone(run.id, _PATIENCE_S) as free:
        if not free:
            raise Busy(f"{run.id} is being driven", hint=f"plandock wait {run.id}")
        if run.engine:
            _empty_engine(run)
        for ref in _hidden_refs(run):
            git.git(run.git_place, "update-ref", "-d", ref)
        _remove_folder(paths.run_dir(run.id))
        store.delete(run.id)


def _empty_engine(run: Run) -> None:
    try:
        engine = detect.choose(run.engine)
        launch.remove_containers(engine, run)
        launch.remove_volumes(engine, run)
    except EngineDown:
        # A run that is done and came home whole has nothing there any more.
        if run.state is not State.DONE or run.staged:
            raise


def _remove_folder(folder: Path) -> None:
    """Also where somebody who tells of the run just now puts its record there once more."""
    for _ in range(_TRIES):
        with contextlib.suppress(FileNotFoundError):
            try:
                shutil.rmtree(folder)
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:
                    raise
                continue
        return


def _unharvested(run: Run) -> bool:
    """Whether a box's work did not come home; a kept volume alone may hold only left-overs.

    A resumed run has the head of its earlier end until it has another.
    """
    if run.exit_code == HarvestRefused.exit_code:
        return True
    return run.staged and run.state is not State.DONE and run.head in ("", run.tip)


def _hidden_refs(run: Run) -> list[str]:
    if not Path(run.git_place).is_dir():
        return []
    place = f"refs/plandock/runs/{run.id}/"
    try:
        listed = git.git(run.git_place, "for-each-ref", "--format=%(refname)", place)
    except PlandockError:
        return []  # no repository any more
    return [ref for ref in listed.text.split("\n") if ref]
