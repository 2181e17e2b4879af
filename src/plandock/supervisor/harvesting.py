"""From an ended agent to the user's repository: branch, conversation, receipt, and an end."""

from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path
from typing import Any

from plandock import git, paths, proc
from plandock.box import launch
from plandock.claude import conversation
from plandock.claude.billing import judge_auth_status
from plandock.claude.redact import redact_tokens
from plandock.claude.stream import Progress
from plandock.engines import detect
from plandock.engines.protocol import Engine
from plandock.errors import EngineError, PlandockError
from plandock.runs.model import Run, State, utc_now, utc_time
from plandock.runs.store import Store
from plandock.supervisor import egress
from plandock.supervisor.running import read_progress
from plandock.workspace import harvest as harvesting

MOST_BYTES = 512 << 20


def harvest(store: Store, run: Run) -> None:
    """Bring everything home; ends with the run in a final state."""
    engine = detect.choose(run.engine)
    progress = read_progress(paths.run_dir(run.id) / "events.jsonl")
    changes = _outcome(engine, run, progress)
    names = launch.names_of(run)
    store.note_event(run.id, "step", {"name": "bundle"})
    taken = _take_work(engine, run)
    changes |= {
        "head": taken.head,
        "branch": taken.branch,  # "" where nothing was committed: then there is none
        "commits": taken.commits,
        "flagged_files": list(taken.flagged),
        "notes": run.notes + progress.notes + list(taken.notes),
        "turns": progress.turns,
        "usage": progress.usage,
        "denied": progress.denied,
        "outcome": progress.closing_words,
        "egress": egress.counted(egress.decisions(engine, run)),
    }
    # Something did not come along: the volume is then its only copy, until `drop`.
    kept = any("left behind" in note for note in taken.notes)
    if kept:
        changes["notes"].append(f"what was left behind is in the volume {names.work}")
    home = _bring_conversation_home(engine, run, progress)
    if home is None:
        changes["box_session_id"] = ""
    changes["ended_at"] = utc_now()
    target = changes.pop("target")
    store.change(run.id, **changes)
    launch.remove_containers(engine, run)
    if not kept:
        launch.remove_volumes(engine, run)
    store.move(run.id, State.HARVESTING, target)


def _outcome(engine: Engine, run: Run, progress: Progress) -> dict[str, Any]:
    """Which end the agent's own words and the container's make of this run."""
    verdict = judge_auth_status(progress.auth_status, kind="file")
    by_key = run.settings.get("billing") == "api-key"
    refused = progress.billing_refused
    why = str((progress.ended or {}).get("why", ""))
    if not by_key and (refused or (progress.auth_status is not None and not verdict.ok)):
        culprit = f"the CLI would use {refused}" if refused else verdict.culprit
        return _failed(
            "billing",
            f"not started, it would be billed per token: {culprit}",
            21,
            "plandock doctor names what to remove",
        )
    if run.stop_requested:
        return {"target": State.STOPPED, "reason": "stopped", "exit_code": 10}
    if run.reason == "timeout":
        return {
            "target": State.STOPPED,
            "reason": "timeout",
            "exit_code": 10,
            "message": "the run reached its time limit",
        }
    result = progress.result or {}
    if result.get("subtype") == "error_max_turns":
        return {
            "target": State.STOPPED,
            "reason": "max_turns",
            "exit_code": 10,
            "message": progress.closing_words,
        }
    if progress.succeeded:
        return {"target": State.DONE, "reason": "", "exit_code": 0}
    status = result.get("api_error_status")
    if progress.resets_at:
        until = utc_time(progress.resets_at)
        return _failed(
            "usage_limit",
            f"the usage limit was reached; it resets at {until}",
            10,
            "accept the plan again after that",
        )
    if status in (401, 403):
        return _failed(
            "login",
            "the login was refused by the API",
            21,
            "open claude once to renew the login, then run again",
        )
    if result:
        return _failed(
            "agent",
            progress.closing_words or "the agent ended with an error",
            10,
            f"plandock logs {run.id}",
        )
    state = engine.inspect(launch.names_of(run).box)
    if state is not None and state.oom_killed:
        return _failed("memory", "the box ran out of memory", 10, "raise `memory`")
    return _failed(
        "agent",
        f"the agent ended without a result{': ' + why if why else ''}",
        10,
        f"plandock logs {run.id}",
    )


def _failed(reason: str, message: str, code: int, hint: str) -> dict[str, Any]:
    return {
        "target": State.FAILED,
        "reason": reason,
        "message": message[:2000],
        "exit_code": code,
        "hint": hint,
    }


def _take_work(engine: Engine, run: Run) -> harvesting.Harvested:
    """The box's commits, through the quarantine, onto the run's branch."""
    repo = Path(run.repo)
    name, mail = git.identity(repo)
    bundle = paths.run_dir(run.id) / "work.bundle"
    order = {
        "workspace": run.repo,
        "snapshot": run.snapshot,
        "branch": run.branch,
        "name": name,
        "email": mail,
        "message": f"plandock: what {run.id} had not committed",
        "max_bytes": MOST_BYTES,
    }
    spec = launch.reader_spec(
        run, run.image, "harvest", ("python3", "-I", "/opt/plandock/harvest.py")
    )
    with tempfile.TemporaryFile() as errors:
        child = engine.open_run(spec, stderr=errors)
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(json.dumps(order).encode() + b"\n")
            child.stdin.close()
            header = harvesting.receive(child.stdout, bundle, max_bytes=MOST_BYTES)
        finally:
            child.stdout.close()
            code = proc.end(child, grace_s=10.0)
        if code:
            errors.seek(0)
            said = errors.read(2000).decode("utf-8", "replace").strip()
            raise EngineError(f"the harvest failed in its container: {said or code}")
    with tempfile.TemporaryDirectory(dir=paths.run_dir(run.id), prefix="quarantine-") as room:
        return harvesting.import_bundle(
            repo,
            bundle,
            header,
            run_id=run.id,
            snapshot=run.snapshot,
            branch=run.branch,
            quarantine_dir=Path(room),
        )


def _bring_conversation_home(engine: Engine, run: Run, progress: Progress) -> Path | None:
    """The box's conversation into the user's own folder; its going missing is no failure."""
    if not progress.init:
        return None
    key = paths.project_key(run.cwd)
    place = f"{launch.CONVERSATION}/projects/{key}/{run.box_session_id}.jsonl"
    with contextlib.suppress(PlandockError, OSError):
        spec = launch.reader_spec(run, run.image, "conversation", ("cat", "--", place))
        content = redact_tokens(engine.run(spec).stdout)
        (paths.run_dir(run.id) / "conversation.jsonl").write_bytes(content)
        return conversation.bring_home(
            content,
            session_id=run.box_session_id,
            cwd=run.cwd,
            config_dir=Path(run.config_dir),
        )
    return None
