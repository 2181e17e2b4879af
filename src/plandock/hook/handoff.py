"""The hand-off: from an accepted plan to a recorded run with a supervisor on its way."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence

from plandock import git, paths, settings
from plandock.errors import PlandockError
from plandock.hook import accepted_login, preflight
from plandock.printable import one_line, spelled
from plandock.runs import alive, terminal
from plandock.runs.model import Run, RunId, State, new_run_id, utc_now
from plandock.runs.starting import start_supervisor
from plandock.runs.store import Store
from plandock.settings import claude_project, project
from plandock.settings.environment import login_volume, trusted, upstream
from plandock.workspace import branch


def plan_title(plan: str) -> str:
    """The plan's first heading, else its first line: printable, at most 120 characters."""
    lines = [x.strip() for x in plan.splitlines() if x.strip()]
    heading = next((x for x in lines if x.startswith("#")), lines[0] if lines else "")
    title = one_line(heading).lstrip("# ")
    return "".join(c for c in title if c.isprintable())[:120].strip()


def hand_off(
    *,
    plan: str,
    cwd: str,
    session_id: str,
    tool_use_id: str,
    trigger: str,
    mode: str = "",
    transcript: str = "",
    user_messages: Sequence[str] = (),
    folders_left_out: Sequence[str] = (),
    session_setup: Mapping[str, object] | None = None,
    cli_version: str = "",
    flags: Mapping[str, object] | None = None,
) -> tuple[Run, bool]:
    """Record the run of an accepted plan, once per (session, tool use, plan), and start it.

    ``cwd`` is the conversation's folder, where the box's agent begins.  ``user_messages`` is what
    the user wrote beside the plan; the agent is told it with the plan, and which folders that the
    conversation could reach are not in the box (``folders_left_out``).  ``session_setup`` is what
    the session was set to (:mod:`plandock.hook.session_setup`), ``cli_version`` the version that
    wrote the conversation, "" where nothing tells.
    Returns the run and whether this call made it.  Raises :class:`plandock.errors.PlandockError`
    when it cannot start; then nothing is left behind.
    """
    top = git.top_level(cwd)
    environ = trusted(os.environ, top)
    chosen = settings.load(repo=top, flags=flags or {})
    ground = preflight.look(
        cwd,
        engine=chosen.engine,
        credentials=chosen.credentials,
        billing=chosen.billing,
        environ=environ,
    )
    home = claude_project.main_work_tree(ground.repo)
    mark = hashlib.sha256(plan.encode("utf-8", "replace")).hexdigest()
    key = hashlib.sha256(f"{session_id}\0{tool_use_id}\0{mark}".encode()).hexdigest()
    title = plan_title(plan)
    notes = [f"kept out of the box: {name}" for name in preflight.kept_out(os.environ)]
    notes += [f"{r.key} in {r.where} was ignored: {r.why}" for r in chosen.refused]
    asked = project.asks(project.folders_of(cwd, os.environ))
    notes += [one_line(str(a), limit=400) for a in asked if a.grave]
    left_out = [spelled(x) for x in folders_left_out]
    notes += [f"not in the box: the folder {x}, which the conversation may reach" for x in left_out]
    # Until there is a supervisor, the run is in the hands of this process: should it be killed,
    # the next command starts one.
    pid, started = alive.mine()
    with Store() as store:
        run_id = _reserve(store)
        run = Run(
            id=run_id,
            repo=str(ground.repo),
            git_home="" if home in (None, ground.repo) else str(home),
            cwd=cwd,
            base=ground.base,
            plan_title=title,
            session_id=session_id,
            created_at=utc_now(),
            trigger=trigger,
            permission_mode=mode,
            transcript=transcript,
            config_dir=str(paths.claude_config_dir()),
            claude=ground.claude,
            cli_version=cli_version,
            fresh=trigger == "cleared" or not transcript,
            upstream=upstream(environ),
            login_volume=login_volume(environ),
            account=accepted_login.look(chosen.credentials, chosen.billing, environ),
            settings=chosen.to_dict(),
            notes=notes,
            user_messages=list(user_messages),
            folders_left_out=left_out,
            session_setup=dict(session_setup or {}),
            handoff_key=key,
            terminal=terminal.here(),
            supervisor_pid=pid,
            supervisor_started=started,
        )
        new = False
        try:
            _write_plan(run_id, plan)
            run, new = store.add(
                run,
                name_branch=lambda held: branch.name_branch(
                    chosen.branch,
                    run_id=run_id,
                    slug=branch.slug(title),
                    taken=held | set(ground.branches),
                ),
            )
        finally:
            if not new:
                shutil.rmtree(paths.run_dir(run_id), ignore_errors=True)
        if new:
            try:
                pid = start_supervisor(run.id, environ, billing=chosen.billing)
            except (OSError, PlandockError):
                # Left in the store it would be started later by `recover`, unasked.
                store.delete(run.id)
                shutil.rmtree(paths.run_dir(run.id), ignore_errors=True)
                raise
            with contextlib.suppress(PlandockError):  # it goes; nothing depends on this
                store.hand_to(run.id, pid, alive.started(pid))
        elif run.state is State.QUEUED and not alive.is_same(
            run.supervisor_pid, run.supervisor_started
        ):
            # Whoever recorded it was killed before it started the supervisor.
            start_supervisor(run.id, environ, billing=chosen.billing)
    return run, new


def _reserve(store: Store) -> RunId:
    """A run id that no run has, and whose folder is ours alone."""
    paths.make_private(paths.state_dir() / "runs")
    while True:
        run_id = new_run_id()
        try:
            store.get(run_id)
            continue  # a run whose folder is gone
        except PlandockError:
            pass
        try:
            paths.run_dir(run_id).mkdir(mode=0o700)
        except FileExistsError:
            continue
        return run_id


def _write_plan(run_id: RunId, plan: str) -> None:
    handle = os.open(paths.run_dir(run_id) / "plan.md", os.O_WRONLY | os.O_CREAT, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(plan.encode("utf-8", "replace"))
        file.flush()
        os.fsync(file.fileno())
