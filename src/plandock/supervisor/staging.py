"""From a recorded run to an agent at work: snapshot, image, volumes, gateway, box, login."""

from __future__ import annotations

import contextlib
import os
import threading
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from plandock import git
from plandock.box import image as box_image
from plandock.box import launch
from plandock.claude import binary, conversation
from plandock.claude.login import Login
from plandock.engines import detect
from plandock.engines.protocol import Engine
from plandock.errors import PlandockError
from plandock.gateway import presets
from plandock.runs.model import Run, State, utc_now
from plandock.runs.store import Store
from plandock.settings.keys import Settings
from plandock.supervisor import logins
from plandock.supervisor.order import start_order
from plandock.workspace.snapshot import take_snapshot
from plandock.workspace.stage import Wish
from plandock.workspace.stage import stage as stage_workspace


def stage(store: Store, run: Run) -> None:
    """Bring the box up and let the agent go; ends with the run in `running`."""
    settings = Settings.from_dict(run.settings)
    launch.check_place(run.repo)
    engine = detect.choose(settings.engine)
    _step(store, run, "login")
    login = logins.on_this_machine(run, settings)
    version = binary.version_of(Path(run.claude))
    run = store.change(run.id, engine=engine.name, cli_version=version)
    clean_up(store, run)
    _step(store, run, "image")
    image = box_image.ensure_image(
        engine,
        cli_version=version,
        base=settings.image,
        node=settings.node,
        npm_registry=settings.npm_registry,
        progress=lambda line: print(line, flush=True),
    )
    if login is None:
        login = logins.kept_in_a_volume(engine, image, run.upstream)
    launch.make_volumes(engine, run)
    way = presets.find(settings.egress, os.environ, run.cwd)
    _step(store, run, "snapshot")
    repo = Path(run.repo)
    name, mail = git.identity(repo)
    snapshot = take_snapshot(
        repo, run_id=run.id, dirty=settings.dirty, carry=settings.carry, name=name, email=mail
    )
    talk = _conversation(run)
    run = store.change(
        run.id,
        image=image,
        base=snapshot.base,
        snapshot=snapshot.commit,
        fresh=talk is None,
        model=talk.model if talk else "",
        box_session_id=str(uuid.uuid4()),
        notes=[
            *run.notes,
            *(f"left out of the snapshot: {x}" for x in snapshot.left_out),
            *way.notes,
        ],
        reach=way.reach,
    )
    _step(store, run, "workspace")
    memory = conversation.user_memory(Path(run.config_dir))
    wish = Wish(run.repo, snapshot.commit, run.branch, name, mail, run.id)
    spec = launch.stage_spec(run, image, git.line(repo, "rev-parse", "--show-object-format"))
    stage_workspace(engine, spec, repo, wish, (*(talk.files if talk else ()), *memory))
    # Not earlier: staging hands the volume of its socket over.
    gateway = _InBackground(lambda: _start_gateway(engine, run, image, settings, login, way.pins))
    _step(store, run, "box")
    box = launch.box_spec(run, image, settings)
    engine.create(box)
    engine.start(box.name)
    gateway.join()
    launch.tell(engine, run, start_order(run, settings, login, (name, mail), way.clients))
    store.move(run.id, State.STAGING, State.RUNNING, step="agent")


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


def _step(store: Store, run: Run, name: str) -> None:
    store.change(run.id, step=name)
    store.note_event(run.id, "step", {"name": name})
    print(f"{utc_now()} step {name}", flush=True)


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


def _conversation(run: Run) -> conversation.Conversation | None:
    if run.fresh or not run.transcript:
        return None
    transcript = Path(run.transcript)
    if run.trigger == "accepted":
        conversation.wait_for_approval(transcript)
    return conversation.collect(transcript, cwd=run.cwd)
