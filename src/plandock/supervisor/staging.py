"""From a recorded run to an agent at work: snapshot, image, volumes, gateway, box, login."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from plandock import git, paths
from plandock.box import image as box_image
from plandock.box import launch
from plandock.box.expectations import expectations_of, limit_notes
from plandock.claude.login import Login
from plandock.engines import detect
from plandock.engines.protocol import Engine
from plandock.errors import PlandockError
from plandock.gateway import presets
from plandock.runs.model import Run, State
from plandock.runs.store import Store
from plandock.settings.keys import Settings
from plandock.supervisor import accounts, cli_choice, harvesting, logins
from plandock.supervisor.freezing import frozen_conversation
from plandock.supervisor.order import start_order
from plandock.supervisor.steps import begin
from plandock.workspace.stage import Wish
from plandock.workspace.stage import stage as stage_workspace


def stage(store: Store, run: Run) -> None:
    """Bring the box up and let the agent go; ends with the run in `running`.

    The volumes are laid out once; a run that goes on finds them as its last box left them.
    """
    settings = Settings.from_dict(run.settings)
    launch.check_place(run.repo)
    git.check_there(run.git_place)
    engine = detect.choose(run.engine if run.staged else settings.engine)
    begin(store, run, "login")
    login = logins.settled(run, settings)
    run = store.change(run.id, engine=engine.name)
    launch.remove_containers(engine, run)
    begin(store, run, "image")
    version, image, unlike, fresh = cli_choice.choose(
        run,
        lambda version: box_image.ensure_image(
            engine,
            cli_version=version,
            base=settings.image,
            node=settings.node,
            npm_registry=settings.npm_registry,
            progress=lambda line: print(line, flush=True),
        ),
    )
    run = store.change(run.id, cli_version=version, fresh=fresh)
    if login is None:
        login, whose = logins.kept_in_a_volume(engine, image, run)
    else:
        whose = accounts.whose(run, login)
    # Where a linked work tree is gone, the project's settings are those of its repository.
    folder = run.cwd if run.git_place == run.repo else run.git_place
    way = presets.find(settings.egress, os.environ, folder)
    run = store.change(
        run.id,
        image=image,
        account=run.account or whose.to_record(),
        reach=way.reach,
        notes=list(
            dict.fromkeys(
                [
                    *run.notes,
                    *unlike,
                    *way.notes,
                    *limit_notes(launch.box_spec(run, image, settings), settings.cpus, engine),
                ]
            )
        ),
    )
    who = git.identity(Path(run.git_place))
    if run.staged:
        run = _with_volumes(store, engine, run)
    if not run.staged:
        run = _lay_out(store, engine, run, who)
    begin(store, run, "box")
    # Not earlier: staging hands the volume of its socket over.
    gateway = _InBackground(lambda: _start_gateway(engine, run, image, settings, login, way.pins))
    box = launch.box_spec(run, image, settings)
    try:
        engine.create(box)
        engine.start(box.name)
    finally:
        # Never left behind: the next attempt would find it at work on the same names.
        gateway.join()
    run = store.get(run.id)  # with what the user's queue has brought meanwhile
    order = start_order(run, settings, login, who, way.clients)
    launch.tell(engine, run, order | {"isolation": expectations_of(box, engine)})
    events = paths.run_dir(run.id) / "events.jsonl"
    moved = store.move(
        run.id,
        State.STAGING,
        State.RUNNING,
        step="agent",
        attempt=run.attempt + 1,
        events_offset=events.stat().st_size if events.exists() else 0,
        say="",
        login_mark=logins.mark_of(login),
        **accounts.paying(run, whose),
    )
    for text in moved.user_messages[len(run.user_messages) :] if moved else ():
        launch.tell(engine, run, {"op": "say", "text": text})


def _with_volumes(store: Store, engine: Engine, run: Run) -> Run:
    """The run as it is where somebody removed a volume of it: laid out anew, from what is left.

    The engine would make empty ones, and nothing would be in them.
    """
    names = launch.names_of(run)
    there = set(engine.volume_names(f"plandock.run={run.id}"))
    if {names.work, names.conversation} <= there:
        return run
    note = "its volumes were removed by somebody; it began again"
    changes: dict[str, Any] = {}
    if names.work in there:
        # What was done so far is on the branch before anything is laid out over it.
        taken = harvesting.take_work(store, engine, run)
        note = "its conversation was removed by somebody; it began again on what it had done"
        changes = {"head": taken.head, "commits": taken.commits, "tip": taken.head or run.tip}
        changes |= {"branch": taken.branch or run.branch, "flagged_files": list(taken.flagged)}
    return store.change(run.id, staged=False, notes=[*run.notes, note], **changes)


def _lay_out(store: Store, engine: Engine, run: Run, who: tuple[str, str]) -> Run:
    """Make the volumes and fill them: workspace and conversation, anew from the host."""
    launch.remove_volumes(engine, run)
    launch.make_volumes(engine, run)
    begin(store, run, "workspace")
    repo = Path(run.git_place)
    wish = Wish(run.repo, run.tip or run.snapshot, run.branch, *who, run.id)
    spec = launch.stage_spec(run, run.image, git.line(repo, "rev-parse", "--show-object-format"))
    stage_workspace(engine, spec, repo, wish, frozen_conversation(run))
    return store.change(run.id, staged=True)


def clean_up(store: Store, run: Run) -> None:
    """Remove what an earlier attempt at this run left in the engine, as far as it answers."""
    if not run.engine:
        return
    with contextlib.suppress(PlandockError):
        engine = detect.choose(run.engine)
        launch.remove_containers(engine, run)
        launch.remove_volumes(engine, run)


def end_containers(run: Run) -> None:
    """Remove a run's containers and keep its volumes, as far as the engine answers."""
    if run.engine:
        with contextlib.suppress(PlandockError):
            launch.remove_containers(detect.choose(run.engine), run)


class _InBackground:
    """A call that runs beside another; its failure is raised at the join."""

    def __init__(self, call: Any) -> None:
        self._error: Exception | None = None

        def work() -> None:
            try:
                call()
            except Exception as error:
                self._error = error

        self._thread = threading.Thread(target=work)
        self._thread.start()

    def join(self) -> None:
        """Wait for its end."""
        self._thread.join()
        if self._error:
            raise self._error


def _start_gateway(
    engine: Engine,
    run: Run,
    image: str,
    settings: Settings,
    login: Login,
    pins: Mapping[str, Sequence[str]],
) -> None:
    spec = launch.gateway_spec(run, image, settings, pins)
    engine.create(spec)
    engine.start(spec.name)
    if settings.credentials == "sealed":
        logins.hand_over(engine, run, login)
