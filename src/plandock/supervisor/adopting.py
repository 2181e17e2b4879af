"""Runs that an engine has and the store has not, read from the label of their box and volume.

A label is believed only where it names this very state folder: an engine may be shared.
"""

from __future__ import annotations

import base64
import contextlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from plandock import paths
from plandock.box import launch
from plandock.runs.folder import is_run_id
from plandock.runs.model import Run, State, utc_now
from plandock.runs.session_variables import SESSION_VARIABLES
from plandock.supervisor.verdict import stopped

_LOST_PLAN = "The plan's text was lost together with plandock's state folder.\n"


def is_ours(label: str) -> bool:
    """Whether a label names this state folder, or nothing that can be read."""
    data = _decoded(label)
    return data is None or data.get("state_dir") == str(paths.state_dir())


def _decoded(label: str) -> dict[str, Any] | None:
    try:
        data: Any = json.loads(base64.b64decode(label, validate=True))
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def read_label(label: str, run_id: str) -> Run | None:
    """The run that a label tells of; None where it is not of this state folder, or not sound."""
    data = _decoded(label)
    if data is None or data.get("state_dir") != str(paths.state_dir()):
        return None
    kinds: dict[str, type] = {"attempt": int, "fresh": bool}
    known = {name: data.get(name) for name in launch.RECORDED}
    settings = data.get("settings")
    if not all(type(value) is kinds.get(name, str) for name, value in known.items()):
        return None
    if known["id"] != run_id or not is_run_id(run_id) or not isinstance(settings, dict):
        return None
    home = data.get("git_home", "")  # not in labels of older versions
    if not known["snapshot"] or not isinstance(home, str):
        return None
    run = Run.from_record(
        {**known, "git_home": home, "settings": settings, "state": str(State.RUNNING)}
    )
    if not Path(run.git_place).is_dir():
        return None
    if isinstance(account := data.get("account"), dict):  # not in labels of older versions
        run.account = account
    _take_later(run, data)
    run.handoff_key = run.handoff_key or run.id
    return replace(run, staged=True, attempt=run.attempt + 1)


def _take_later(run: Run, data: dict[str, Any]) -> None:
    """What a label of an older version lacks; what is not of its kind is passed over."""
    for name in launch.RECORDED_LATER:
        if isinstance(value := data.get(name), str):
            setattr(run, name, value)
    left_out, setup, billing = (
        data.get(name) for name in ("folders_left_out", "session_setup", "billing")
    )
    if isinstance(left_out, list):
        run.folders_left_out = [x for x in left_out if isinstance(x, str)]
    if isinstance(setup, dict):
        run.session_setup = _session_setup(setup)
    if isinstance(billing, dict):
        spent = billing.get("credits_usd")
        if isinstance(spent, int | float) and not isinstance(spent, bool) and 0 <= spent < 1e9:
            run.billing.credits_usd = float(spent)
        run.billing.credits_uncounted = billing.get("credits_uncounted") is True


def _session_setup(setup: dict[str, Any]) -> dict[str, Any]:
    """The variables that may go into a box, and whether the session was to think."""
    given = setup.get("variables")
    named = given if isinstance(given, dict) else {}
    found: dict[str, Any] = {
        "variables": {n: v for n in SESSION_VARIABLES if isinstance(v := named.get(n), str)}
    }
    if isinstance(thinking := setup.get("thinking"), bool):
        found["thinking"] = thinking
    return found


def as_found(run: Run, engine: str, *, has_box: bool) -> Run:
    """The run as it is to be recorded: its box tells how it goes on; without one, its work is
    brought home."""
    note = f"adopted from {engine} at {utc_now()}: the record was lost"
    if has_box:
        return replace(run, engine=engine, state=State.RUNNING, notes=[note])
    ending = stopped("adopted", "its record and its box were lost; what it had done was kept")
    return replace(run, engine=engine, state=State.HARVESTING, notes=[note], ending=ending)


def make_folder(run: Run) -> None:
    """Give a run a folder again, with what a supervisor needs to find there."""
    folder = paths.make_private(paths.run_dir(run.id))
    with contextlib.suppress(FileExistsError):
        with open(folder / "plan.md", "x", encoding="utf-8") as file:
            file.write(_LOST_PLAN)
