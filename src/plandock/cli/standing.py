"""Where a run stands, in words: for `ps`, and while somebody waits for it."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Iterable

import click

from plandock import paths
from plandock.errors import PlandockError
from plandock.printable import one_line, printable
from plandock.runs.model import Run, State
from plandock.runs.store import Store
from plandock.supervisor import recover

_POLL_S = 0.1
_LEAST_ROOM = 1 << 20
_PLACE_S = 1.0  # between two looks at the queue
_NUDGE_S = 3.0


class Nudge:
    """Called again and again by whoever waits: what nobody drives any more is gone on with.

    The command that waits may be the only one for hours, so its start alone is not enough.
    """

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, store: Store) -> None:
        """Look, where the last look is a while ago."""
        if time.monotonic() - self._last > _NUDGE_S:
            with contextlib.suppress(PlandockError, OSError):
                recover.go_on(store)
            self._last = time.monotonic()


def queue_places(runs: Iterable[Run]) -> dict[str, int]:
    """The place of each queued run among them, by id: 1 is next."""
    queued = [r for r in runs if r.state is State.QUEUED]
    queued.sort(key=lambda r: (r.created_at, r.id))
    return {str(r.id): n for n, r in enumerate(queued, 1)}


def words(run: Run, place: int | None = None) -> str:
    """``queued, 3rd`` or ``waiting (usage_limit) until …``; one line, safe on a terminal."""
    said = str(run.state)
    if run.state is State.QUEUED and place:
        said += f", {_ordinal(place)}"
    if run.reason:
        said += f" ({run.reason})"
    if run.state is State.WAITING and run.waiting_until:
        said += f" until {run.waiting_until[:16].replace('T', ' ')} UTC"
    return one_line(said)


def follow(
    store: Store, run_id: str, *, timeout_s: float | None = None, until_stuck: bool = False
) -> Run:
    """Wait for a run's end, at most ``timeout_s``; changes are told on a terminal.

    With ``until_stuck`` a run that waits for its engine or for room is not waited for either.
    """
    end = None if timeout_s is None else time.monotonic() + timeout_s
    said, looked, place = "", 0.0, 0
    nudge = Nudge()
    while not (now := store.get(run_id)).state.final:
        if sys.stderr.isatty():
            if now.state is State.QUEUED and time.monotonic() - looked > _PLACE_S:
                looked = time.monotonic()
                place = queue_places(store.list(unfinished=True)).get(run_id, 0)
            if (line := words(now, place)) != said:
                said = line
                click.echo(f"{run_id} {said}", err=True)
        if until_stuck and is_stuck(now):
            break
        if end is not None and time.monotonic() > end:
            break
        time.sleep(_POLL_S)
        nudge(store)
    return now


def is_stuck(run: Run) -> bool:
    """Whether it waits for its engine or for room: then it cannot even end."""
    return run.state is State.WAITING and run.reason in ("engine", "disk")


def ending(now: Run) -> str:
    """How a run stands or has ended, with what to do next."""
    said = f"{now.id} {now.state}"
    if now.reason:
        said += f" ({now.reason})"
    said += f": {now.commits} commit(s) on {now.branch}" if now.commits else ": no commits"
    if now.message:
        said += f"\n  {one_line(now.message)}"
    if now.hint:
        said += f"\n  next: {one_line(now.hint)}"
    return printable(said)


def full_disks(runs: Iterable[Run]) -> list[str]:
    """A line for each place of unfinished runs that has no room: what is stored of them there
    may lag behind, and cannot say so itself."""
    going = [r for r in runs if not r.state.final]
    places = dict.fromkeys([str(paths.state_dir()), *(r.repo for r in going)] if going else [])
    found = []
    for place in places:
        with contextlib.suppress(OSError):
            if shutil.disk_usage(place).free < _LEAST_ROOM:
                words = "runs go on by themselves once there is room"
                found.append(printable(f"the disk with {place} is full: {words}"))
    return found


def _ordinal(n: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{'th' if 10 <= n % 100 <= 20 else ending}"
