"""The hand-off: from an accepted plan to a recorded run with a supervisor on its way."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from plandock import git, paths, proc, settings
from plandock.hook import preflight
from plandock.runs.model import Run, RunId, new_run_id, utc_now
from plandock.runs.store import Store
from plandock.settings.environment import upstream
from plandock.workspace import branch

# What a supervisor may see of the caller's environment beside the cleaned rest.
_KEPT = ("CLAUDE_CONFIG_DIR", "PLANDOCK_UPSTREAM", "PLANDOCK_CLAUDE", "PLANDOCK_SECURITY")


def plan_title(plan: str) -> str:
    """The plan's first heading, else its first line: printable, at most 120 characters."""
    lines = [x.strip() for x in plan.splitlines() if x.strip()]
    heading = next((x for x in lines if x.startswith("#")), lines[0] if lines else "")
    return "".join(c for c in heading.lstrip("# ") if c.isprintable())[:120]


def hand_off(
    *,
    plan: str,
    cwd: str,
    session_id: str,
    tool_use_id: str,
    trigger: str,
    mode: str = "",
    transcript: str = "",
    flags: Mapping[str, object] | None = None,
) -> tuple[Run, bool]:
    """Record the run of an accepted plan, once per (session, tool use, plan), and start it.

    Returns the run and whether this call made it.  Raises :class:`plandock.errors.PlandockError`
    when it cannot start; then nothing is left behind.
    """
    top = None
    try:
        top = git.top_level(cwd)
    except proc.ProcessFailed:
        pass
    chosen = settings.load(repo=top, flags=flags or {})
    ground = preflight.look(
        cwd, engine=chosen.engine, credentials=chosen.credentials, billing=chosen.billing
    )
    mark = hashlib.sha256(plan.encode()).hexdigest()
    key = hashlib.sha256(f"{session_id}\0{tool_use_id}\0{mark}".encode()).hexdigest()
    title = plan_title(plan)
    notes = [f"kept out of the box: {name}" for name in preflight.kept_out(os.environ)]
    notes += [f"{r.key} in {r.where} was ignored: {r.why}" for r in chosen.refused]
    with Store() as store:
        run_id = _reserve(plan)
        run = Run(
            id=run_id,
            repo=str(ground.repo),
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
            fresh=trigger == "cleared" or not transcript,
            upstream=upstream(os.environ),
            settings=chosen.to_dict(),
            notes=notes,
            handoff_key=key,
        )
        run, new = store.add(
            run,
            name_branch=lambda held: branch.name_branch(
                chosen.branch,
                run_id=run_id,
                slug=branch.slug(title),
                taken=held | set(ground.branches),
            ),
        )
    if not new:
        (paths.run_dir(run_id) / "plan.md").unlink(missing_ok=True)
        paths.run_dir(run_id).rmdir()
        return run, False
    start_supervisor(run.id)
    return run, True


def _reserve(plan: str) -> RunId:
    """A run id whose folder is ours alone, with the plan in it, on the disk."""
    paths.make_private(paths.state_dir() / "runs")
    while True:
        run_id = new_run_id()
        try:
            paths.run_dir(run_id).mkdir(mode=0o700)
        except FileExistsError:
            continue
        handle = os.open(paths.run_dir(run_id) / "plan.md", os.O_WRONLY | os.O_CREAT, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(plan.encode())
            file.flush()
            os.fsync(file.fileno())
        return run_id


def start_supervisor(run_id: RunId) -> int:
    """Start the run's supervisor, detached; returns its pid.  A second one ends by itself."""
    env = proc.clean_environment(
        keep=(*_KEPT, *(n for n in os.environ if n.startswith("PLANDOCK_")))
    )
    chosen_key = os.environ.get("ANTHROPIC_API_KEY", "")
    if chosen_key and env.get("PLANDOCK_BILLING", "") == "api-key":
        env["ANTHROPIC_API_KEY"] = chosen_key
    entry = Path(__file__).parent.parent / "supervisor" / "__main__.py"
    return proc.start_detached(
        [sys.executable, "-I", "-S", str(entry), run_id],
        log=paths.run_dir(run_id) / "supervisor.log",
        env=env,
    )


def plan_in_transcript(path: str) -> str:
    """The plan that a cleared conversation starts from, out of its own transcript, or ""

    (`planContent` of the first user record: shared facts, section 1, measured).
    """
    import json

    try:
        with open(path, "rb") as file:
            for raw in file.read(8 * 1024 * 1024).splitlines()[:200]:
                if b'"planContent"' not in raw:
                    continue
                record = json.loads(raw)
                content = record.get("planContent") if isinstance(record, dict) else None
                if isinstance(content, str):
                    return content
    except (OSError, ValueError):
        pass
    return ""

