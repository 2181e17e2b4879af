"""Word for the Claude Code conversation that handed a run off, carried by its next prompt."""

from __future__ import annotations

import re

from plandock import paths
from plandock.runs import marks
from plandock.runs.model import Run
from plandock.runs.outcome import news_key
from plandock.runs.store import Store

_SESSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


def leave(store: Store, run: Run) -> bool:
    """Leave a note of a run's end, once; whether it was left.

    Where the hand-off's own note is still unread, that one will tell how the run stands then.
    """
    if not _SESSION.fullmatch(run.session_id):
        return False
    with marks.alone(paths.note_dir()):
        return _leave(store, run)


def _leave(store: Store, run: Run) -> bool:
    note = marks.get(paths.note_dir(), run.session_id)
    if note is not None and note.get("run") == run.id:
        return False
    if not store.tell_once(run.id, news_key(run)):
        return False
    note = note or {"kind": "outcome"}
    before = note.get("outcomes")
    known = [str(x) for x in before] if isinstance(before, list) else []
    marks.put(paths.note_dir(), run.session_id, {**note, "outcomes": [*known, str(run.id)][-5:]})
    return True
