"""The conversation that a person names for `run --session`, and the folder that it works in."""

from __future__ import annotations

import shlex
from pathlib import Path

from plandock import paths
from plandock.claude import conversation
from plandock.errors import PlandockError
from plandock.hook import conversation_folder
from plandock.runs.store import Store
from plandock.settings.claude_project import work_tree


def find_session(here: Path, session: str) -> tuple[Path, Path]:
    """The file of a conversation of the repository around ``here``, and the folder it works in.

    ``session`` is an id, or `last` for the newest one.  Raises :class:`PlandockError` where there
    is none, and where it is one of another repository: a run lands in the one it is made for.
    """
    folder = paths.claude_config_dir() / "projects"
    if session == "last":
        with Store() as store:
            boxes = {run.box_session_id for run in store.list()}
        # A box's own conversation comes home beside them, and may be the newest.
        known = [f for key in _keys(here) for f in (folder / key).glob("*.jsonl")]
        known = [f for f in known if f.stem not in boxes]
        known.sort(key=lambda file: file.stat().st_mtime, reverse=True)
        for file in known:
            if place := _place_here(file, here):
                return file, place
    elif conversation.is_session_id(session):
        known = sorted(folder.glob(f"*/{session}.jsonl"))
        for file in known:
            if place := _place_here(file, here):
                return file, place
        if known:
            raise _of_another(known[0], here, session)
    raise PlandockError(
        f"no conversation {session!r} of {here}", hint="run it in the folder of that conversation"
    )


def _keys(here: Path) -> list[str]:
    """The names of Claude Code's folders for here and each folder above it in the repository."""
    top = work_tree(here) or here
    folders = [here, *(f for f in here.parents if top in (f, *f.parents))]
    return list(dict.fromkeys(paths.project_key(str(f)) for f in folders))


def _place_here(file: Path, here: Path) -> Path | None:
    """The conversation's folder, where it lies in the repository around ``here``."""
    told = conversation_folder.read(str(file))
    around = [str(here), *map(str, here.parents)]
    home = conversation_folder.home_of(str(file), told, others=around)
    for folder in (told.entered, home):
        if conversation_folder.same_tree(folder, str(here)):
            return Path(folder)
    return None


def _of_another(file: Path, here: Path, session: str) -> PlandockError:
    told = conversation_folder.read(str(file))
    home = conversation_folder.home_of(str(file), told) or next(iter(told.seen), "")
    words = f"conversation {session} is not one of {here}"
    if not home:
        return PlandockError(words, hint="run it in the folder of that conversation")
    again = f"plandock run --session {session}"
    return PlandockError(f"{words} but of {home}", hint=f"cd {shlex.quote(home)}; then: {again}")
