"""A run that waits: for a usage limit's reset, the API, a login, the engine, or room on a disk.

One look at a time; between two looks the supervisor sleeps, and may be killed.  The times are
wall-clock times, looked at again and again: a clock that jumps, or a lid that was closed, at
worst makes a run look early, and then it waits again.
"""

from __future__ import annotations

import shutil
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from plandock import paths
from plandock.box import launch
from plandock.engines import detect
from plandock.engines.protocol import Engine
from plandock.errors import CredentialsError, PlandockError
from plandock.runs.model import Run, State
from plandock.runs.store import Store
from plandock.settings.keys import Settings
from plandock.supervisor import accounts, logins
from plandock.supervisor.steps import say
from plandock.supervisor.verdict import stopped
from plandock.supervisor.watch import LEAST_ROOM

_LOOK_S = 1.0
_LONGEST_PAUSE_S = 30.0
# Clocks are corrected all the time, by less than this.
_CLOCK_SLACK_S = 60.0
_FIRST_TRY_S, _LONGEST_TRY_S = 15.0, 900.0
# What it takes to harvest a run of ordinary size, and to go on with the work: more than that at
# which the watch ends a box.
_ROOM, _ROOM_TO_WORK = 32 << 20, 2 * LEAST_ROOM


def look(store: Store, run: Run) -> None:
    """See whether the wait is over; moves the run on, or sleeps for a moment."""
    if run.stop_requested and _can_end(run):
        _end(store, run)
    elif run.reason in ("usage_limit", "overloaded"):
        if _is_over(store, run, _seconds(run.waiting_until)):
            _go_on(store, run, State.QUEUED)
        else:
            time.sleep(_LOOK_S)
    elif run.reason == "login":
        _look_for_login(store, run)
    elif run.reason in ("engine", "disk"):
        _look_for_engine(store, run)
    else:
        _go_on(store, run, State.QUEUED)


def interrupt(store: Store, run: Run, reason: str, message: str) -> None:
    """Let a run wait for its engine or for room, to go on where it is now."""
    say(f"waits ({reason}): {message}")
    store.move(
        run.id,
        run.state,
        State.WAITING,
        reason=reason,
        message=message[:2000],
        hint="it goes on by itself; nothing is lost",
        back_to=str(run.state),
        waiting_until="",
    )


def _is_over(store: Store, run: Run, until: float) -> bool:
    """Whether it is time; it is, too, where the clock was set back to before the wait began: what
    was reckoned by the old one says nothing any more, and an early look costs little."""
    now = time.time()
    return now >= until or now < _seconds(store.last_move(run.id)) - _CLOCK_SLACK_S


def _can_end(run: Run) -> bool:
    """Whether a stop can be carried out now: what is in the engine must be within reach."""
    return run.reason not in ("engine", "disk") or not run.staged


def _end(store: Store, run: Run) -> None:
    ending = stopped("stopped")
    if run.staged:
        _move(store, run, State.HARVESTING, ending=ending)
    else:
        # The drive loop ends a queued run that is to stop.
        _go_on(store, run, State.QUEUED)


def _look_for_login(store: Store, run: Run) -> None:
    settings = Settings.from_dict(run.settings)
    try:
        login = logins.on_this_machine(run, settings)
    except accounts.Unsettled:
        time.sleep(_LOOK_S / 2)
        return
    except CredentialsError as error:
        if error.message != run.message:
            store.change(run.id, message=error.message, hint=error.hint)
        time.sleep(2 * _LOOK_S)
        return
    if login is None:
        # It lies in a volume, and whether it was renewed shows only when it is tried.
        pause = min(_FIRST_TRY_S * 2.0 ** min(run.strikes, 10), _LONGEST_TRY_S)
        if not _is_over(store, run, _seconds(store.last_move(run.id)) + pause):
            time.sleep(_LOOK_S)
            return
    elif run.spent_login == logins.mark_of(login):
        time.sleep(2 * _LOOK_S)
        return
    _go_on(store, run, State.QUEUED)


def _look_for_engine(store: Store, run: Run) -> None:
    since = _seconds(store.last_move(run.id))
    pause = min(max(_LOOK_S, (time.time() - since) / 10), _LONGEST_PAUSE_S)
    try:
        if run.reason == "disk":
            _check_room(run)
        if run.engine or run.reason == "engine":
            # One that got nowhere yet has none; then the one that it would get has to be there.
            engine = detect.choose(run.engine or Settings.from_dict(run.settings).engine)
            engine.ping()
            if run.reason == "disk":
                _check_engines_room(engine, run)
    except (PlandockError, OSError) as error:
        say(f"still waits ({run.reason}): {error}")
        _sleep(store, run, pause)
        return
    if run.reason == "disk" and run.back_to == State.STAGING:
        # Before there are volumes, whether there is room shows only when it is tried.
        _sleep(store, run, _LONGEST_PAUSE_S / 3)
    elif time.time() - since < _LOOK_S:
        # An engine that answers and yet does nothing is not tried a hundred times a second.
        _sleep(store, run, _LOOK_S)
    _go_on(store, run, State(run.back_to or "queued"))


def _check_room(run: Run) -> None:
    for place in (paths.state_dir(), Path(run.git_place)):
        free = shutil.disk_usage(place).free
        if free < _ROOM:
            raise PlandockError(f"{place} has {free >> 20} MiB left; {_ROOM >> 20} are needed")


def _check_engines_room(engine: Engine, run: Run) -> None:
    """Ask where the volumes lie, in a container: going on just to see would cost requests."""
    if not run.staged:
        return
    argv = ("df", "--output=avail", "--block-size=1", launch.CONVERSATION)
    spec = launch.reader_spec(run, run.image, "room", argv)
    engine.remove(spec.name)
    words = engine.run(spec).text.split()
    free = int(words[-1]) if words and words[-1].isdigit() else 0
    needed = _ROOM if run.back_to == State.HARVESTING else _ROOM_TO_WORK
    if free < needed:
        raise PlandockError(f"the engine has {free >> 20} MiB left; {needed >> 20} are needed")


def _sleep(store: Store, run: Run, pause_s: float) -> None:
    """Sleep, but not through a word of the user's."""
    end = time.monotonic() + pause_s
    while time.monotonic() < end:
        time.sleep(min(_LOOK_S, max(0.0, end - time.monotonic())))
        now = store.get(run.id)
        if now.stop_requested != run.stop_requested or now.state is not State.WAITING:
            return


def _go_on(store: Store, run: Run, target: State) -> None:
    _move(store, run, target)


def _move(store: Store, run: Run, target: State, **changes: Any) -> None:
    store.move(
        run.id,
        State.WAITING,
        target,
        **{"reason": "", "message": "", "hint": "", "waiting_until": "", "back_to": "", **changes},
    )


def _seconds(at: str) -> float:
    try:
        return datetime.fromisoformat(at).timestamp()
    except ValueError:
        return 0.0
