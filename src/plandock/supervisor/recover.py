"""Compares the store with folders, engines and processes, and goes on from whatever it finds.

Two parts.  :func:`go_on` looks at the store alone and starts the supervisors that are missing:
cheap enough for the start of every command.  :func:`look` reads the runs' folders and asks the
engines, too, and finds what runs that have ended left there, and runs that have no record.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from plandock import git, paths
from plandock.box import launch
from plandock.engines import detect
from plandock.engines.protocol import ContainerState, Engine, Volume
from plandock.errors import HarvestRefused, PlandockError
from plandock.runs import alive, folder
from plandock.runs.model import Run, State, utc_now
from plandock.runs.store import Store
from plandock.supervisor import adopting, held, queue


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be: what was found, and what is (or would be) done."""

    run: str
    state: str
    found: str
    action: str

    def to_json(self) -> dict[str, Any]:
        """The four keys of `recover --json`."""
        return asdict(self)


@dataclass
class _Parts:
    """What one engine has of one run."""

    containers: list[ContainerState] = field(default_factory=list)
    volumes: list[Volume] = field(default_factory=list)


def go_on(store: Store) -> list[Run]:
    """Start a supervisor for each run that needs one and has none; returns those runs.

    One whose folder was removed gets a folder again, or its end.
    """
    for _ in _without_folder(store, dry_run=False):
        pass
    return queue.wake(store)


def look(store: Store, *, dry_run: bool) -> list[Finding]:
    """Everything that is to be put right; done at once, unless ``dry_run``."""
    found = [*_records(store, dry_run), *_folders(store, dry_run)]
    found += _without_folder(store, dry_run)
    for name in detect.NAMES:
        try:
            engine = detect.choose(name)
            engine.ping()
            # The engine before the store: a run is recorded before it has anything in an engine.
            there = _parts(engine)
            known = {str(run.id): run for run in store.list()}
            for run_id in sorted(there):
                if run_id not in known:
                    found += _adopt(store, engine, run_id, there[run_id], dry_run)
                elif known[run_id].state.final:
                    found += _clear(engine, known[run_id], there[run_id], dry_run)
        except PlandockError:
            continue  # not installed, or it does not answer: nothing is known of what it has
    for run in queue.unwatched(store):
        what = "no supervisor is at work on it", "start one"
        if run.state.final:
            what = "its supervisor was killed at its very end", "tell the user of that end"
        found.append(Finding(run.id, str(run.state), *what))
    if not dry_run:
        go_on(store)
    return found


def _records(store: Store, dry_run: bool) -> Iterator[Finding]:
    """Records that cannot be read, and whose folder has a copy."""
    for run_id, run in store.damaged_records().items():
        if run is None:
            yield Finding(run_id, "unknown", "its record cannot be read", "left alone: no copy")
            continue
        yield Finding(run_id, str(run.state), "its record cannot be read", "take its folder's copy")
        if not dry_run:
            store.restore(run)


def _folders(store: Store, dry_run: bool) -> Iterator[Finding]:
    """Runs whose folder has a record and of which the store knows nothing."""
    known = {str(run.id) for run in store.list()}
    for run in folder.records(str(paths.state_dir() / "runs")):
        if run.id not in known and (dry_run or store.take_in(run)):
            yield Finding(run.id, str(run.state), "a folder without a record", "take it in")


def _without_folder(store: Store, dry_run: bool) -> Iterator[Finding]:
    """Runs that are to go on and whose folder was removed by somebody."""
    for run in store.list(unfinished=True):
        if (paths.run_dir(run.id) / "plan.md").is_file():
            continue
        if alive.is_same(run.supervisor_pid, run.supervisor_started):
            continue
        lost = "its folder was removed"
        if run.staged:
            yield Finding(run.id, str(run.state), lost, "make it again")
            if not dry_run:
                adopting.make_folder(run)
        else:
            yield Finding(run.id, str(run.state), f"{lost}, and its plan with it", "end it")
            if not dry_run:
                store.move(
                    run.id, run.state, State.FAILED, reason="lost", ended_at=utc_now(),
                    exit_code=10, message="the run's folder was removed, and its plan with it",
                    hint="hand the plan off again", supervisor_pid=0, supervisor_started="",
                )  # fmt: skip


def _parts(engine: Engine) -> dict[str, _Parts]:
    there: dict[str, _Parts] = {}
    for container in engine.containers("plandock.run"):
        there.setdefault(container.labels.get("plandock.run", ""), _Parts()).containers.append(
            container
        )
    for volume in engine.volumes("plandock.run"):
        there.setdefault(volume.labels.get("plandock.run", ""), _Parts()).volumes.append(volume)
    return there


def _adopt(
    store: Store, engine: Engine, run_id: str, parts: _Parts, dry_run: bool
) -> Iterator[Finding]:
    boxes = [c for c in parts.containers if launch.RECORD in c.labels]
    bearing = [c.labels for c in boxes] + [v.labels for v in parts.volumes]
    labels = [has[launch.RECORD] for has in bearing if launch.RECORD in has]
    if labels and not any(adopting.is_ours(label) for label in labels):
        return  # another user's, or of another state folder of this one
    run = next((r for label in labels if (r := adopting.read_label(label, run_id))), None)
    has_work = any(launch.RECORD in volume.labels for volume in parts.volumes)
    if run is None or not has_work:
        count = len(parts.containers) + len(parts.volumes)
        yield Finding(
            run_id, "unknown", f"{count} part(s) in {engine.name} of a run without a record",
            "left alone: they are not of this state folder",
        )  # fmt: skip
        return
    run = adopting.as_found(run, engine.name, has_box=bool(boxes))
    if not dry_run:
        adopting.make_folder(run)
        if not store.take_in(run):
            return
    yield Finding(run_id, str(run.state), f"in {engine.name}, without a record", "adopt it")


def _clear(engine: Engine, run: Run, parts: _Parts, dry_run: bool) -> Iterator[Finding]:
    """What a run that has ended left; its volumes only where they hold no work."""
    if run.engine and run.engine != engine.name:
        return
    spare = run.staged or run.exit_code == HarvestRefused.exit_code or not _is_home(run)
    volumes = [] if spare else parts.volumes
    count = len(parts.containers) + len(volumes)
    if not count:
        return
    with held.alone(run.id) as free:
        if not free:
            return  # its supervisor is about to do this itself
        yield Finding(
            run.id, str(run.state), f"{count} leftover(s) in {engine.name}", "remove them"
        )
        if not dry_run:
            for container in parts.containers:
                engine.remove(container.name)
            for volume in volumes:
                engine.remove_volume(volume.name)


def _is_home(run: Run) -> bool:
    """Whether the user's repository has what the run has done."""
    if not run.commits:
        return True
    if not Path(run.git_place).is_dir():
        return False
    names = [f"refs/plandock/runs/{run.id}/head", f"refs/heads/{run.branch}"]
    for name in names:
        said = git.git(
            run.git_place,
            *("merge-base", "--is-ancestor", run.head, f"{name}^{{commit}}"),
            check=False,
        )
        if said.ok:
            return True
    return False
