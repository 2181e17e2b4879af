"""A second sign beside the hooks: accepted plans that none has seen, by the conversation's file.

Where something swallows `PostToolUse`, the acceptance stands in the file all the same (measured,
2.1.197 and 2.1.332): a result of ExitPlanMode with its plan or, with cleared context, a first
record with `planContent`.  Every acceptance that a hook does see leaves an empty file named by its
call (`seen/`), by hand or automatic, handed off or refused.  What has none was missed.  That is
only ever said; no run comes of it.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from plandock import paths
from plandock.hook import transcript
from plandock.hook.payload import Event
from plandock.runs import marks
from plandock.settings.claude_project import main_work_tree

AUTOMATIC = frozenset({"acceptEdits", "auto", "bypassPermissions"})
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}\Z")
# Claude Code keeps conversations for 30 days by default; so long an acceptance can be met again.
_LIFE_S = 40 * 24 * 3600.0
_SINCE = "since"
_SETTLED = "settled-"


@dataclass(frozen=True)
class Acceptance:
    """An accepted plan in a conversation's file: its call or session, when, the mode after it."""

    id: str
    at: float  # Unix seconds
    mode: str  # "" where nothing tells it


def watch_from_now(folder: str | os.PathLike[str] = "") -> None:
    """Note, once, since when hooks are wired: what was accepted before is nobody's miss.

    For the repository around ``folder``; without one, for every folder.
    """
    name = _name_since(folder)
    if not (paths.seen_dir() / name).exists():
        _touch(name)


def watch_only(folders: Iterable[str | os.PathLike[str]]) -> None:
    """Note that hooks are still wired for these alone: another `init` counts from its own time."""
    kept = {_name_since(x) for x in folders}
    with contextlib.suppress(OSError):
        for name in os.listdir(paths.seen_dir()):
            if name.startswith(_SINCE) and name not in kept:
                (paths.seen_dir() / name).unlink()


def _name_since(folder: str | os.PathLike[str]) -> str:
    top = (main_work_tree(folder) or folder) if folder else ""
    return _SINCE + (paths.project_key(str(top)) if top else "")


def _since(folder: str) -> float | None:
    """Since when plans that are accepted in a folder should have been handed off."""
    noted = [_noted_at(name) for name in {_SINCE, _name_since(folder)}]
    return min((x for x in noted if x is not None), default=None)


def note_seen(name: str) -> None:
    """Note that a hook has seen this acceptance; a state folder that is full is no hindrance."""
    if not _NAME.match(name):
        return
    with contextlib.suppress(OSError):
        _touch(name)
        for entry in os.scandir(paths.seen_dir()):
            if not entry.name.startswith(_SINCE) and entry.stat().st_mtime < time.time() - _LIFE_S:
                os.unlink(entry.path)


def note_cleared(session: str, path: str) -> None:
    """Note that the plan of a cleared conversation has been seen to, in any copy of it."""
    note_seen(session)
    for record in transcript.records(path, b'"planContent"'):
        if _starts_from_plan(record):
            note_seen(_first_record(record))
            return


def find(
    path: str, session: str, *, folder: str, mode: str = "", guess: bool = False
) -> Acceptance | None:
    """The last acceptance in a conversation's file that was automatic and that no hook has seen.

    ``folder`` is the conversation's.  ``mode`` is the present one: it tells where the file does
    not yet.  With ``guess`` one counts even where nothing tells its mode.
    """
    if _since(folder) is None:
        return None  # nothing is wired since a time that is known
    found: list[Acceptance] = []
    before, cleared = "", ""
    for record in transcript.records(path, b'"isAgent"', b'"planContent"', b'"permissionMode"'):
        now = record.get("permissionMode")
        if isinstance(now, str) and now != "plan":
            before = now
            if found and not found[-1].mode:
                found[-1] = replace(found[-1], mode=now)
        if name := _accepted_call(record):
            found.append(Acceptance(name, transcript.time_of(record), ""))
            before = ""
        elif _starts_from_plan(record) and not cleared:
            # Words alone are no miss: its first tool call is what is handed off.
            name = session if _is_seen(session) else _first_record(record)
            found.append(Acceptance(name, transcript.time_of(record), before))
            cleared = name
    if found and not found[-1].mode:
        found[-1] = replace(found[-1], mode=mode)
    for one in reversed(found):
        known = one.mode in AUTOMATIC or (guess and not one.mode)
        if not known or is_settled_by_time(session, one.at, folder) or _is_seen(one.id):
            continue
        if one.id != cleared or _tools_ran(path):
            return one
    return None


def _tools_ran(path: str) -> bool:
    return any(
        isinstance(record.get("toolUseResult"), dict) and not _accepted_call(record)
        for record in transcript.records(path, b'"toolUseResult"')
    )


def at_stop(event: Event) -> str:
    """What the person reads at the end of a turn, once; "" where nothing was missed.  Notes it."""
    from plandock.hook import conversation_folder  # only where a plan was accepted

    folder = conversation_folder.likely(event)
    found = find(event.transcript, event.session_id, folder=folder, mode=event.mode)
    if found is None:
        return ""
    before = marks.get(paths.missed_dir(), event.session_id)
    if (before or {}).get("id") == found.id or _has_run(event.session_id, found.at):
        return ""
    keep(event.session_id, found, folder)
    return (
        "plandock: a plan was accepted in this conversation and Claude Code did not call plandock: "
        "it was NOT handed off, and may have been carried out on this machine. Why: plandock "
        f"doctor. Hand it off by hand: plandock run --session {event.session_id}"
    )


def keep(session: str, found: Acceptance, cwd: str) -> None:
    """Note a miss for `doctor`."""
    with contextlib.suppress(OSError):
        marks.put(
            paths.missed_dir(), session,
            {"session": session, "id": found.id, "at": found.at, "cwd": cwd,
             "mode": found.mode},
        )  # fmt: skip


def is_settled(session: str, mark: Mapping[str, Any]) -> bool:
    """Whether a miss has been seen to since: by a run of its conversation, or by its user."""
    held = mark.get("at")
    at = held if isinstance(held, float) else 0.0
    folder = str(mark.get("cwd", ""))
    if _is_seen(str(mark.get("id", ""))) or is_settled_by_time(session, at, folder):
        return True
    return _has_run(session, at)


def is_settled_by_time(session: str, at: float, folder: str) -> bool:
    """Whether nobody is to judge an acceptance of that time (Unix seconds) in a folder.

    It is from before hooks were wired for it, from before its user said that all is seen to, or
    so old that what a hook noted of it is gone (a day early: the note is no older).
    """
    since = _since(folder)
    if since is None or at <= since or at < time.time() - _LIFE_S + 24 * 3600.0:
        return True
    settled = _noted_at(_SETTLED + session)
    return settled is not None and at <= settled


def settle(session: str, name: str) -> None:
    """Note that the user has seen to all misses of a conversation so far, this one by name."""
    note_seen(name)
    note_seen(_SETTLED + session)


def _noted_at(name: str) -> float | None:
    try:
        return os.stat(paths.seen_dir() / name).st_mtime
    except (OSError, ValueError):
        return None


def _is_seen(name: str) -> bool:
    return _NAME.match(name) is not None and (paths.seen_dir() / name).exists()


def _accepted_call(record: Mapping[str, Any]) -> str:
    """The id of the call of ExitPlanMode that this record accepts, or ""."""
    result = record.get("toolUseResult")
    if not isinstance(result, dict) or record.get("isSidechain") is True:
        return ""
    if not isinstance(result.get("plan"), str) or result.get("isAgent") is not False:
        return ""
    message = record.get("message")
    content = message.get("content") if isinstance(message, dict) else None
    for block in content if isinstance(content, list) else []:
        if isinstance(block, dict) and block.get("type") == "tool_result":
            name = block.get("tool_use_id")
            return name if isinstance(name, str) and not block.get("is_error") else ""
    return ""


def _starts_from_plan(record: Mapping[str, Any]) -> bool:
    content = record.get("planContent")
    return record.get("type") == "user" and isinstance(content, str) and bool(content.strip())


def _has_run(session: str, since: float) -> bool:
    from plandock.runs.model import utc_time
    from plandock.runs.store import Store

    try:
        with Store() as store:
            run = store.latest_of_session(session)
        # A hand-off may be recorded a moment before its acceptance is written down.
        return run is not None and run.created_at >= utc_time(max(0.0, since - 60.0))
    except Exception:  # not known to have been handed off: said
        return False


def _first_record(record: Mapping[str, Any]) -> str:
    """A name for the first record of a cleared conversation: a copy has the same one's time."""
    return f"cleared-{round(transcript.time_of(record) * 1000)}"


def _touch(name: str) -> None:
    paths.make_private(paths.seen_dir().parent)
    paths.make_private(paths.seen_dir())
    (paths.seen_dir() / name).touch()
