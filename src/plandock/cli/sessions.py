"""The conversation that a person names for `run --session`, and the folder that it works in."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from plandock import paths
from plandock.claude import conversation
from plandock.errors import PlandockError
from plandock.hook import conversation_folder
from plandock.runs.store import Store
from plandock.settings.claude_project import main_work_tree, work_tree

_MOST = 200  # conversations that are looked into for `last`, the newest ones
_KEY_LETTERS = 200  # of a folder's name under `projects/`; what is longer is cut there
_PLANS = (b'"ExitPlanMode"', b'"isAgent"', b'"planContent"')


def find_session(here: Path, session: str) -> tuple[Path, Path]:
    """The file of a conversation of the repository around ``here``, and the folder it works in.

    ``session`` is an id, or `last` for the newest one of this work tree that holds a plan.  Raises
    :class:`PlandockError` where there is none, and where it is one of another repository: a run
    lands in the one it is made for.
    """
    folder = paths.claude_config_dir() / "projects"
    hint = "run it in the folder of that conversation"
    if session == "last":
        without_plan: list[Path] = []
        for file, place in _newest(folder, here):
            if last_plan(file):
                return file, place
            without_plan.append(file)
        if without_plan:
            raise PlandockError(
                f"no conversation of {here} holds a plan",
                hint=f"without one: plandock run --session {without_plan[0].stem}",
            )
    elif conversation.is_session_id(session):
        known = _by_time(f for f in folder.glob(f"*/{session}.jsonl") if _has_messages(f))
        for file in known:
            if found := _place_here(file, here):
                return file, found
        if known:
            raise _of_another(known[0], here, session)
    raise PlandockError(f"no conversation {session!r} of {here}", hint=hint)


def last_plan(transcript: Path) -> str:
    """The plan that the conversation came to last, or began from after a clearing; "" without."""
    plan = ""
    for record in conversation_folder.scan(str(transcript), *_PLANS):
        message = record.get("message")
        content = message.get("content") if isinstance(message, dict) else None
        for block in content if isinstance(content, list) else []:
            if isinstance(block, dict) and block.get("name") == "ExitPlanMode":
                plan = _plan_in(block.get("input")) or plan
        # Newer versions call with nothing, and answer with the plan (measured, 2.1.332).
        answer = record.get("toolUseResult")
        if isinstance(answer, dict) and "isAgent" in answer:
            plan = _plan_in(answer) or plan
        begun_from = record.get("planContent")
        if record.get("type") == "user" and isinstance(begun_from, str):
            plan = begun_from.strip() or plan
    return plan


def _plan_in(given: object) -> str:
    plan = given.get("plan") if isinstance(given, dict) else None
    return plan if isinstance(plan, str) else ""


def _newest(folder: Path, here: Path) -> Iterator[tuple[Path, Path]]:
    """The conversations of the work tree around ``here``, the newest first, and their folders."""
    with Store() as store:
        boxes = {run.box_session_id for run in store.list()}
    keys = _keys(here)
    # A box's own conversation comes home beside them, and may be the newest.
    files = _by_time(
        file
        for place in folder.glob("*")
        if any(place.name == k or place.name.startswith(f"{k}-"[:_KEY_LETTERS]) for k in keys)
        for file in place.glob("*.jsonl")
        if file.stem not in boxes
    )
    for file in files[:_MOST]:
        if (found := _place_here(file, here)) and _has_messages(file):
            yield file, found


def _keys(here: Path) -> set[str]:
    """How the names of Claude Code's folders for this work tree begin.

    2.1.197 keeps a conversation that entered a linked one under the name of the main one.
    """
    tops = (work_tree(here) or here, main_work_tree(here) or here)
    return {paths.project_key(str(top)) for top in tops}


def _by_time(files: Iterator[Path]) -> list[Path]:
    """The files that can be read, the one that was written to last first."""
    times: dict[Path, int] = {}
    for file in files:
        try:
            times[file] = file.stat().st_mtime_ns
        except OSError:
            continue
    return sorted(times, key=lambda file: times[file], reverse=True)


def _has_messages(file: Path) -> bool:
    """Whether it is a conversation; 2.1.197 leaves a stub with a name alone for a work tree."""
    kinds = ("user", "assistant")
    records = conversation_folder.scan(str(file), *(f'"{kind}"'.encode() for kind in kinds))
    return any(record.get("type") in kinds for record in records)


def _place_here(file: Path, here: Path) -> Path | None:
    """The conversation's folder, where it belongs to the work tree around ``here``.

    One that was begun here and has entered a linked work tree works there, as the hook has it.
    """
    told = conversation_folder.read(str(file))
    around = [str(here), *map(str, here.parents)]
    home = conversation_folder.home_of(str(file), told, others=around)
    entered = conversation_folder.entered_from(told, home)
    if any(conversation_folder.same_tree(x, str(here)) for x in (entered, home)):
        return Path(entered or home)
    return None


def _of_another(file: Path, here: Path, session: str) -> PlandockError:
    told = conversation_folder.read(str(file))
    home = conversation_folder.home_of(str(file), told) or next(iter(told.seen), "")
    words = f"conversation {session} is not one of {here}"
    if not home:
        return PlandockError(words, hint="run it in the folder of that conversation")
    if not Path(home).is_dir():
        return PlandockError(
            f"{words} but of {home}, which is gone",
            hint="save its plan as a file, then: plandock run --plan FILE",
        )
    again = f"plandock run --session {session}"
    return PlandockError(f"{words} but of {home}", hint=f"cd {shlex.quote(home)}; then: {again}")
