"""Compares the store with the engines and the processes, and goes on from whatever it finds.

Two parts.  :func:`go_on` looks at the store alone and starts the supervisors that are missing:
cheap enough for the start of every command.  :func:`look` asks the engines, too, and finds what
runs that have ended left there, and what belongs to no run that is known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from plandock.engines import detect
from plandock.engines.protocol import Engine
from plandock.errors import PlandockError
from plandock.runs.model import Run
from plandock.runs.store import Store
from plandock.supervisor import queue


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


def go_on(store: Store) -> list[Run]:
    """Start a supervisor for each run that needs one and has none; returns those runs."""
    return queue.wake(store)


def look(store: Store, *, dry_run: bool) -> list[Finding]:
    """Everything that is to be put right; done at once, unless ``dry_run``."""
    found = [
        Finding(run.id, str(run.state), "no supervisor is at work on it", "start one")
        for run in queue.unwatched(store)
    ]
    if not dry_run:
        go_on(store)
    known = {str(run.id): run for run in store.list()}
    for name in detect.NAMES:
        try:
            engine = detect.choose(name)
            engine.ping()
        except PlandockError:
            continue
        found += _leftovers(engine, known, dry_run)
    return found


def _leftovers(engine: Engine, known: dict[str, Run], dry_run: bool) -> Iterator[Finding]:
    """What is in an engine of runs that have ended, or that nobody knows."""
    containers: dict[str, list[str]] = {}
    for container in engine.containers("plandock.run"):
        run_id = container.labels.get("plandock.run", "")
        containers.setdefault(run_id, []).append(container.name)
    volumes: dict[str, list[str]] = {}
    for volume in engine.volumes("plandock.run"):
        volumes.setdefault(volume.labels.get("plandock.run", ""), []).append(volume.name)
    for run_id in sorted({*containers, *volumes}):
        run = known.get(run_id)
        count = len(containers.get(run_id, ())) + len(volumes.get(run_id, ()))
        if run is None:
            yield Finding(
                run_id, "unknown", f"{count} part(s) in {engine.name} of a run without a record",
                "left alone: another state folder may know it",
            )  # fmt: skip
        elif run.state.final and (run.engine or engine.name) == engine.name:
            # The volumes of a run whose work did not come home whole are its only copy.
            spare = run.staged or run.exit_code == 23
            gone = [*containers.get(run_id, ()), *([] if spare else volumes.get(run_id, ()))]
            if not gone:
                continue
            yield Finding(
                run_id, str(run.state), f"{len(gone)} leftover(s) in {engine.name}", "remove them"
            )
            if not dry_run:
                for container_name in containers.get(run_id, ()):
                    engine.remove(container_name)
                for volume_name in [] if spare else volumes.get(run_id, ()):
                    engine.remove_volume(volume_name)
