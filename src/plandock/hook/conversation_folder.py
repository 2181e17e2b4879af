"""The folder that a conversation works in; never the one in which its shell happens to stand.

A hook's ``cwd`` follows every `cd` of the model's.  Three things tell more (measured, 2.1.197 and
2.1.332, docs/folders.md): the folder that the transcript lies in, whose name is made of the
conversation's folder; ``CLAUDE_PROJECT_DIR``, where ``claude`` was started, which no settings file
can change; and the ``cwd`` of the records.  Where those leave two repositories open, none is taken.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from plandock import paths
from plandock.errors import RepositoryError
from plandock.hook import transcript as records_of
from plandock.hook.payload import Event, clean_path
from plandock.settings.claude_project import main_work_tree, work_tree

_MOVES = (b'"relocatedCwd"', b'"worktreeSession"')
# A record that is longer than this is passed over (bytes).
_LONGEST_RECORD = 4 << 20


@dataclass
class Recorded:
    """What the records of a conversation say of folders."""

    seen: list[str] = field(default_factory=list)  # of the shell, each once, the first one first
    moved_to: str = ""  # by `/cd`, or by EnterWorktree (2.1.332)
    entered: str = ""  # the linked work tree that EnterWorktree made (2.1.197), while it is entered
    began_in: str = ""  # where the conversation was before that


def of_event(event: Event) -> str:
    """The folder for a plan that is accepted by this event; raises as :func:`find`."""
    return find(event.transcript, started=event.started, shell=event.cwd) or event.cwd


def likely(event: Event) -> str:
    """That folder; in doubt the shell's, for what may be read of more than one."""
    try:
        return of_event(event)
    except RepositoryError:
        return event.cwd


def read(transcript: str) -> Recorded:
    """What a conversation's file tells; empty without one.

    Folders of the shell are told by its beginning and its end, moves by the whole of it.
    """
    found = Recorded()
    for part in (records_of.first_records, records_of.last_records):
        for record in part(transcript, b'"cwd"'):
            here = clean_path(record.get("cwd"))
            if here and here not in found.seen:
                found.seen.append(here)
    for record in scan(transcript, *_MOVES):
        if record.get("type") == "relocated":
            found.moved_to = clean_path(record.get("relocatedCwd")) or found.moved_to
        elif record.get("type") == "worktree-state":
            state = record.get("worktreeSession")
            held = state if isinstance(state, dict) else {}
            found.entered = clean_path(held.get("worktreePath"))
            found.began_in = clean_path(held.get("originalCwd"))
    return found


def scan(transcript: str, *needles: bytes) -> Iterator[dict[str, Any]]:
    """The records of the whole file that hold one of these, with one line in memory at a time."""
    try:
        # Not to be kept waiting by a FIFO that somebody laid there.
        handle = os.open(transcript, os.O_RDONLY | os.O_NONBLOCK)
    except (OSError, ValueError):
        return
    with os.fdopen(handle, "rb") as file:
        left = os.fstat(handle).st_size
        torn = False
        while left > 0 and (raw := file.readline(min(left, _LONGEST_RECORD))):
            left -= len(raw)
            rest, torn = torn, not raw.endswith(b"\n")
            if rest or not any(needle in raw for needle in needles):
                continue
            try:
                record = json.loads(raw)
            except (ValueError, RecursionError):
                continue
            if isinstance(record, dict):
                yield record


def find(transcript: str, *, started: str, shell: str) -> str:
    """The folder for a plan of this conversation; "" where nothing at all is said.

    ``started`` is where Claude Code was started ("" where that is not known), ``shell`` where the
    model's shell stands.  Raises :class:`RepositoryError` where two repositories come into
    question.
    """
    told = read(transcript)
    kept = home_of(transcript, told, started=started, others=(shell, *_parents(shell)))
    if not kept:
        return _agreed([x for x in (started, *told.seen[:1], shell) if x])
    if _has_entered(told, kept, shell):
        return told.entered
    if not started or started == kept:
        return kept
    moved = told.moved_to == kept
    if same_tree(kept, started):
        return kept if moved or shell == kept else started
    # Either the session moved away from where it was started (`/cd`), or it was resumed in
    # another folder than the one that it began in.
    if same_tree(shell, kept) and (moved or not any(same_tree(x, started) for x in told.seen)):
        return kept
    if same_tree(shell, started) and not moved:
        return started
    raise _uncertain(kept, started)


def home_of(
    transcript: str, told: Recorded, *, started: str = "", others: Sequence[str] = ()
) -> str:
    """The folder that the transcript's own folder is named after, of those that are known.

    Two folders can have the same name there (`a-b` and `a/b`).  Where the conversation moved to
    goes first, then where Claude Code was started, then what the records say.  Where that folder is
    gone, one of the same name that the conversation does not tell of is never taken for it.
    """
    key = os.path.basename(os.path.dirname(transcript))

    def named(*folders: str) -> list[str]:
        return [x for x in folders if x and paths.project_key(x) == key]

    known = named(told.moved_to, started, told.began_in, *told.seen)
    likely_ones = [*known[:1], *named(started)] if known else named(*others)
    return next((x for x in likely_ones if os.path.isdir(x)), "")


def _has_entered(told: Recorded, kept: str, shell: str) -> bool:
    """Whether the session is in a work tree of the repository that it was started in."""
    return bool(entered_from(told, kept)) and same_tree(told.entered, shell)


def entered_from(told: Recorded, kept: str) -> str:
    """The work tree that the session has entered, where it is there and of that repository."""
    there = bool(kept and told.entered) and os.path.isdir(told.entered)
    return told.entered if there and main_work_tree(told.entered) == main_work_tree(kept) else ""


def _agreed(signs: list[str]) -> str:
    """The first of the signs, where all of them lie in one repository."""
    other = next((x for x in signs[1:] if not same_tree(x, signs[0])), "")
    if other:
        raise _uncertain(signs[0], other)
    return signs[0] if signs else ""


def _uncertain(one: str, other: str) -> RepositoryError:
    return RepositoryError(
        f"it is not certain which repository the plan is for: {one} or {other}",
        hint=f"for the first: cd {shlex.quote(one)}",
    )


def same_tree(one: str, other: str) -> bool:
    """Whether two folders lie in the same work tree; outside of any, whether they are the same."""
    if not one or not other:
        return False
    trees = [work_tree(x) or os.path.realpath(x) for x in (one, other)]
    return trees[0] == trees[1]


def _parents(folder: str) -> list[str]:
    found = []
    while folder and (above := os.path.dirname(folder)) != folder:
        found.append(above)
        folder = above
    return found
