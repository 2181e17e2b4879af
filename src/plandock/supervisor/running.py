"""While the agent works: its output is read, kept, and judged."""

from __future__ import annotations

import threading
import time
from datetime import datetime
from pathlib import Path

from plandock import paths, proc
from plandock.box import launch
from plandock.claude.billing import judge_auth_status, judge_init
from plandock.claude.redact import redact_tokens
from plandock.claude.stream import Progress
from plandock.engines import detect
from plandock.engines.protocol import Engine
from plandock.runs.model import Billing, Run, State
from plandock.runs.store import Store


def follow(store: Store, run: Run) -> None:
    """Read the box's log from its start to its end; ends with the run in `harvesting`."""
    engine = detect.choose(run.engine)
    box = launch.names_of(run).box
    guard = threading.Timer(_time_left_s(run), _out_of_time, (engine, store, run))
    guard.daemon = True
    guard.start()
    progress = Progress()
    try:
        reader = engine.logs(box, follow=True)
        assert reader.stdout is not None
        # The log is the truth and is read from its start, so a second reader writes the same.
        with open(paths.run_dir(run.id) / "events.jsonl", "wb") as events:
            for raw in reader.stdout:
                # What an agent says of its own token is not kept: the engine's log, which has it
                # as it was said, goes with the container.
                line = redact_tokens(raw)
                events.write(line)
                events.flush()
                _judge(store, engine, run, progress, line)
        proc.end(reader)
    finally:
        guard.cancel()
    engine.stop(box)
    store.move(run.id, State.RUNNING, State.HARVESTING)


def read_progress(events: Path) -> Progress:
    """What a run's kept output tells."""
    progress = Progress()
    if events.is_file():
        with open(events, "rb") as file:
            for line in file:
                progress.take(line)
    return progress


def _judge(store: Store, engine: Engine, run: Run, progress: Progress, line: bytes) -> None:
    """Take one line; a run that does not pay as the user wishes is ended here as well."""
    message = progress.take(line)
    if message is None:
        return
    by_key = run.settings.get("billing") == "api-key"
    if message.get("event") == "auth-status" and message.get("type") == "plandock":
        verdict = judge_auth_status(progress.auth_status, kind="file")
        source = "api-key" if by_key else ("subscription" if verdict.ok else verdict.source)
        told = Billing(source, verdict.api_key_source, verdict.subscription)
        store.change(run.id, billing=told)
        if not verdict.ok and not by_key:
            engine.kill(launch.names_of(run).box)
    elif message is progress.init:
        verdict = judge_init(message)
        known = store.get(run.id).billing
        known.api_key_source = str(message.get("apiKeySource"))[:100]
        store.change(run.id, billing=known)
        if not verdict.ok and not by_key:
            engine.kill(launch.names_of(run).box)


def _time_left_s(run: Run) -> float:
    started = datetime.fromisoformat(run.started_at).timestamp()
    limit = float(run.settings.get("timeout_s", 4 * 3600.0))
    return max(0.0, started + limit - time.time())


def _out_of_time(engine: Engine, store: Store, run: Run) -> None:
    store.change(run.id, reason="timeout")
    engine.stop(launch.names_of(run).box)
