"""Letting a run go on: one that has ended, from where it came to; one that waits, at once."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

from plandock import git, paths
from plandock.errors import PlandockError, RepositoryError
from plandock.runs.model import Run, State, utc_now
from plandock.runs.store import Store
from plandock.settings import load as settings_now
from plandock.settings import trusted
from plandock.settings.environment import variable
from plandock.settings.keys import Settings
from plandock.supervisor import freezing, logins, queue
from plandock.workspace import branch


def resume(store: Store, run: Run, words: str = "") -> tuple[Run, str]:
    """Let a run go on; returns it and what became of it, in a line.

    ``words`` are said to the agent.  Raises :class:`PlandockError` for a run that is done.
    """
    if run.state is State.DONE:
        raise PlandockError(f"{run.id} is done", hint=f"plandock show {run.id}")
    if run.state is State.WAITING:
        changes, told = _terms_now(run)
        changes |= {"waiting_until": "", "spent_login": ""} | ({"say": words} if words else {})
        run = store.change(run.id, **changes)
        queue.wake(store)
        said = f"{run.id} was waiting ({run.reason}) and is looked at again now"
        return run, f"{said}; {told}" if told else said
    if not run.state.final:
        return run, f"{run.id} is {run.state} already"
    if not (paths.run_dir(run.id) / "plan.md").is_file():
        raise PlandockError(f"the folder of {run.id} is gone", hint=f"plandock drop {run.id}")
    _check_ground(run)
    changes, told = _terms_now(run)
    moved = store.move(run.id, run.state, State.QUEUED, **_afresh(store, run, words), **changes)
    if moved is None:
        return store.get(run.id), f"{run.id} is going already"
    queue.start(store, moved)
    said = f"{run.id} goes on → branch {moved.branch}"
    return moved, f"{said}; {told}" if told else said


def _check_ground(run: Run) -> None:
    """Raise what would end the run at once: no repository, or not what it goes on from."""
    try:
        if run.snapshot:
            git.check_there(run.git_place)
        else:
            freezing.check_tree(run)
    except RepositoryError as error:
        hint = error.hint.replace("{run}", run.id)
        raise RepositoryError(error.message, hint=hint) from error
    tip = run.head or run.snapshot
    if run.staged or not tip:
        return
    if not git.git(run.git_place, "cat-file", "-e", f"{tip}^{{commit}}", check=False).ok:
        work = paths.run_dir(run.id) / "work.bundle"
        hint = f"git fetch {work} refs/plandock/head, then: plandock resume {run.id}"
        raise RepositoryError(
            f"the commits that {run.id} goes on from are not in {run.git_place} any more",
            hint=hint if work.is_file() else "hand the plan off again",
        )


def _terms_now(run: Run) -> tuple[dict[str, Any], str]:
    """What changes of who pays and how much, and a sentence of it."""
    # A run that waits for its engine or for room may have a box that was told the old terms.
    held = run.back_to and not run.state.final
    paid, terms = ({}, []) if held else _billing_now(run)
    changes, told = logins.adopted(run)
    if terms:
        notes = [f"{utc_now()}: plandock resume: {x}" for x in terms]
        changes |= {"settings": paid, "notes": [*changes.get("notes", run.notes), *notes]}
    return changes, "; ".join([*([told] if told else []), *terms])


def _billing_now(run: Run) -> tuple[dict[str, Any], list[str]]:
    """The run's settings with what the user's own configuration says now of credits and limits,
    and a line for each change.

    What a flag, a variable or the repository said at the hand-off stays, unless a variable says
    otherwise than the latter two; and no run changes to an API key as payer, or back.
    """
    old = Settings.from_dict(run.settings)
    repo = Path(run.git_place)
    # Without the repository's file, and without the variables that its settings bring.
    new = settings_now(repo=None, environ=trusted(os.environ, repo))
    users = str(paths.config_dir() / "config.toml")
    frozen, lines = dict(run.settings), []
    origins = dict(old.origins)
    for name in ("billing", "max_credits_usd", "max_budget_usd"):
        before, now, origin = getattr(old, name), getattr(new, name), new.origins[name]
        if before == now or (name == "billing" and "api-key" in (before, now)):
            continue
        said = origins.get(name, "default")
        if said == "flag" or (said not in ("default", users) and origin != variable(name)):
            continue
        frozen[name], origins[name] = now, origin
        lines.append(f"{name} is {'without limit' if now is None else now} from now on ({origin})")
    return frozen | {"origins": origins}, lines


def _afresh(store: Store, run: Run, words: str) -> dict[str, Any]:
    """What changes with the move out of a final state."""
    changes: dict[str, Any] = {
        "stop_requested": False,
        "stop_forced": False,
        "ending": {},
        "reason": "",
        "message": "",
        "hint": "",
        "ended_at": "",
        "waiting_until": "",
        "back_to": "",
        "spent_login": "",
        "strikes": 0,
        "active_s": 0.0,
        "exit_code": 0,
        "step": "",
        "say": words,
        "told": [],
    }
    if run.snapshot:
        # Also where the volumes are kept: should they be gone, it is laid out from there.
        changes["tip"] = run.head or run.snapshot
        # It could not be brought home: a conversation of its own begins, from what was accepted.
        changes["box_session_id"] = run.box_session_id or str(uuid.uuid4())
    if not run.branch:
        changes["branch"] = _branch(store, run)
    return changes


def _branch(store: Store, run: Run) -> str:
    """A name for a run that brought nothing and has none; landing makes sure once more."""
    held = {other.branch for other in store.list(unfinished=True, repo=run.repo)}
    return branch.name_branch(
        Settings.from_dict(run.settings).branch,
        run_id=run.id,
        slug=branch.slug(run.plan_title),
        taken=held | git.branches(Path(run.git_place)),
    )
