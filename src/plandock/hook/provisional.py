"""The marks that the launcher leaves before Python starts, taken over or taken away.

The shell cannot look closely, so it marks whatever may be an acceptance.  A mark of its own
begins with ``"by": "launcher"``; while one stands, the shell refuses tool calls without Python.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plandock import paths
from plandock.hook.decide import Act
from plandock.hook.payload import Event
from plandock.runs import marks

_BY = "by"


def taken_over(event: Event, latch: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A latch as Python keeps it: one of the launcher's says when it was left.

    A prompt shows that Python works again, so from there on tool calls are judged by it.
    """
    if latch is None or not _is_launchers(latch):
        return None if latch is None else dict(latch)
    own = plain(latch)
    own["at"] = _written_at(paths.latch_dir() / event.session_id)
    if event.name == "UserPromptSubmit":
        marks.put(paths.latch_dir(), event.session_id, own)
    return own


def plain(mark: Mapping[str, Any]) -> dict[str, Any]:
    """A mark without the word that it is the launcher's."""
    return {key: value for key, value in mark.items() if key != _BY}


def settle(event: Event, act: Act) -> None:
    """Take away what the launcher left for this event, where nothing has replaced it."""
    accepted = event.name == "PostToolUse" and event.tool == "ExitPlanMode"
    clears = event.name == "SessionEnd" and event.reason == "clear"
    if accepted or clears or (event.name == "SessionStart" and event.source == "clear"):
        _take_away(paths.latch_dir(), event.session_id)
    proposes = event.name == "PreToolUse" and event.tool == "ExitPlanMode"
    if proposes and act is not Act.REMEMBER_PROPOSAL:
        _take_away(paths.proposal_dir(), event.session_id)


def is_forgotten(event: Event) -> bool:
    """Whether a plan is being proposed of which neither a mark nor, later, a latch would stand."""
    if event.name != "PreToolUse" or event.tool != "ExitPlanMode" or event.mode != "plan":
        return False
    try:
        check_latching()
    except OSError:
        return True
    return not marks.get(paths.proposal_dir(), event.session_id)


def check_latching() -> None:
    """Raise :class:`OSError` where no latch could be written for the conversation after this."""
    folder = paths.make_private(paths.latch_dir())
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def _take_away(folder: Path, session: str) -> None:
    if _is_launchers(marks.get(folder, session) or {}):
        marks.take_away(folder, session)


def _is_launchers(mark: Mapping[str, Any]) -> bool:
    return mark.get(_BY) == "launcher"


def _written_at(path: Path) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return time.time()
