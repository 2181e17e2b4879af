"""What the user accepted, held fast: the tree as a snapshot, the conversation and memory as copies.

Done before a run waits for its place, so that it carries out what was accepted even if the user
has gone on meanwhile.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path

from plandock import git, paths
from plandock.claude import chosen_model, conversation, user_files
from plandock.claude.conversation import BoxFile
from plandock.errors import RepositoryError
from plandock.runs.model import Run
from plandock.runs.store import Store
from plandock.settings.keys import Settings
from plandock.supervisor.order import session_words
from plandock.supervisor.steps import begin
from plandock.workspace.snapshot import take_snapshot


def freeze(store: Store, run: Run) -> Run:
    """Take snapshot and conversation, once; returns the run with both recorded."""
    if run.snapshot:
        return run
    check_tree(run)
    begin(store, run, "snapshot")
    settings = Settings.from_dict(run.settings)
    repo = Path(run.repo)
    name, mail = git.identity(repo)
    snapshot = take_snapshot(
        repo, run_id=run.id, dirty=settings.dirty, carry=settings.carry,
        config_dir=Path(run.config_dir), name=name, email=mail,
    )  # fmt: skip
    shutil.rmtree(_folder(run), ignore_errors=True)
    talk, why = _copy_conversation(run)
    carried = user_files.carry(
        config_dir=Path(run.config_dir), repo=repo, cwd=Path(run.cwd), snapshot=snapshot.commit
    )
    _keep(run, carried.box_files())
    choice = chosen_model.choose(run.session_setup)
    left_out = [f"left out of the snapshot: {x}" for x in snapshot.left_out]
    left_out += carried.told
    left_out += [f"begun from the plan: {why}"] if why else []
    stays = run.session_setup.get("left_out")
    stays = [*session_words(run).aside, *(stays if isinstance(stays, list) else [])]
    left_out += [f"left out of the box: the session's {x}" for x in stays]
    if choice.model and run.session_setup.get("repository") and run.session_id:
        left_out.append(
            "the repository's settings name a model; the run has that of the accepted session, "
            f"{choice.model}"
        )
    if run.session_setup.get("fast"):
        left_out.append("fast mode is left out: it is billed beyond the subscription")
    return store.change(
        run.id,
        base=snapshot.base,
        fresh=talk is None,
        model=choice.model,
        model_origin=str(choice.origin),
        effort=choice.effort,
        box_session_id=run.box_session_id or str(uuid.uuid4()),
        notes=list(dict.fromkeys([*run.notes, *left_out])),
        snapshot=snapshot.commit,
    )


def check_tree(run: Run) -> None:
    """Raise :class:`RepositoryError` where the tree to be frozen is gone."""
    if run.git_place != run.repo:
        raise RepositoryError(
            f"the work tree {run.repo} was removed before its files were taken",
            hint="the plan is kept; in another work tree: plandock run --plan "
            f"{paths.run_dir(run.id) / 'plan.md'}",
        )
    git.check_there(run.repo)


def frozen_conversation(run: Run) -> tuple[BoxFile, ...]:
    """The files for the conversation volume: what was accepted, and what the box made of it."""
    folder = _folder(run)
    found = [
        BoxFile(str(path.relative_to(folder)), path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    kept = paths.run_dir(run.id) / "conversation.jsonl"
    if run.tip and kept.is_file():
        # A run that ended once and goes on: its own conversation, brought home at that end.
        place = f"projects/{paths.project_key(run.cwd)}/{run.box_session_id}.jsonl"
        found.append(BoxFile(place, kept.read_bytes()))
    return tuple(found)


def _folder(run: Run) -> Path:
    return paths.run_dir(run.id) / "accepted"


def _copy_conversation(run: Run) -> tuple[conversation.Conversation | None, str]:
    """The conversation that the box goes on from, or None and why there is none to go on from."""
    if run.fresh or not run.transcript:
        return None, ""
    transcript = Path(run.transcript)
    # Damaged further up, it would open in the box, and hold no plan to proceed with.
    if run.trigger == "accepted" and not conversation.wait_for_approval(transcript):
        return None, f"{transcript} does not hold the plan's approval"
    talk = conversation.collect(transcript, cwd=run.cwd)
    if talk is None:
        return None, f"{transcript} cannot be read as a conversation"
    _keep(run, talk.files)
    return talk, ""


def _keep(run: Run, files: Sequence[BoxFile]) -> None:
    """Hold files for the conversation volume fast, as they are now."""
    for file in files:
        place = _folder(run) / file.path
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as out:
            out.write(file.content)
