"""Accepted plans of which no hand-off came, for `doctor`: as noted at a turn's end, and as found.

Where every hook is swallowed nothing is ever noted, so the newest conversations of this folder are
looked through as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from plandock import paths
from plandock.claude import conversation
from plandock.hook import missed
from plandock.runs import marks
from plandock.runs.model import utc_time
from plandock.runs.store import Store

_MOST_CONVERSATIONS = 20


@dataclass(frozen=True)
class Missed:
    """An accepted plan without a hand-off; ``mode`` is empty where nothing tells how."""

    session: str
    at: str  # RFC 3339, UTC
    cwd: str
    mode: str


def known(cwd: Path, config_dir: Path) -> list[Missed]:
    """Every miss that has not been seen to: those noted, and those of this folder."""
    found: dict[str, Missed] = {}
    folder = config_dir / "projects" / paths.project_key(str(cwd))
    try:
        files = sorted(folder.glob("*.jsonl"), key=lambda f: f.stat().st_mtime, reverse=True)
    except OSError:
        files = []
    with Store() as store:
        boxes = {run.box_session_id for run in store.list()}
    # What a box wrote lies beside the user's own, and begins with the same acceptance.
    for file in [f for f in files if f.stem not in boxes][:_MOST_CONVERSATIONS]:
        one = missed.find(str(file), file.stem, folder=str(cwd), guess=True)
        if one is None or not conversation.is_session_id(file.stem):
            continue
        mark = {"id": one.id, "at": one.at, "cwd": str(cwd)}
        if not missed.is_settled(file.stem, mark):
            found[file.stem] = Missed(file.stem, utc_time(one.at), str(cwd), one.mode)
            missed.keep(file.stem, one, str(cwd))
    for mark in marks.each(paths.missed_dir()):
        session, at = str(mark.get("session", "")), mark.get("at")
        if session in found or not isinstance(at, float) or missed.is_settled(session, mark):
            continue
        mode = str(mark.get("mode", ""))
        found[session] = Missed(session, utc_time(at), str(mark.get("cwd", "")), mode)
    return list(found.values())


def settle(session: str) -> bool:
    """Note that the user has seen to a miss of this conversation; whether there was one."""
    mark = marks.take(paths.missed_dir(), session) if conversation.is_session_id(session) else None
    if mark is None:
        return False
    missed.settle(session, str(mark.get("id", "")))
    return True
