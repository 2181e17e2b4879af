"""While the agent works: its output is read, kept, and judged; then it is seen what comes next."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import IO, Any

from plandock import paths, proc
from plandock.box import launch
from plandock.claude import chosen_model
from plandock.claude.billing import judge_auth_status, judge_init
from plandock.claude.redact import redact_tokens
from plandock.claude.stream import Progress
from plandock.engines import detect
from plandock.engines.protocol import ContainerState, Engine
from plandock.printable import one_line
from plandock.runs.model import Run, State, Usage, utc_time
from plandock.runs.store import Store
from plandock.supervisor import egress, logins, paying
from plandock.supervisor.log_lines import lines_of
from plandock.supervisor.steps import begin, say
from plandock.supervisor.verdict import BoxEnd, judge
from plandock.supervisor.watch import Watch

_REOPEN_S = 0.5
_MOST_KEPT = 512 << 20  # of a box's output, on the user's disk


def follow(store: Store, run: Run) -> None:
    """Read the box's log from its start to its end, then move the run on."""
    engine = detect.choose(run.engine)
    box = launch.names_of(run).box
    progress = paying.listening(run)
    state = engine.inspect(box)
    if state is None:
        # Removed by somebody: what was kept of its output is all there is.
        progress = read_progress(_events(run), run.events_offset, progress)
    else:
        with Watch(engine, run):
            while state is not None:
                progress = _read(store, engine, run)
                state = engine.inspect(box)
                if state is None or not state.running:
                    if state is not None and progress.ended is None:
                        # A follower may end before the last lines do (seen with Docker 20.10 on a
                        # busy machine); of what has ended everything is there.
                        progress = _read(store, engine, run, follow=False)
                    break
                # The reader ended before the box did: the engine was restarted under it.
                time.sleep(_REOPEN_S)
                run = store.get(run.id)
    conclude(store, engine, store.get(run.id), progress, state)


def _read(store: Store, engine: Engine, run: Run, *, follow: bool = True) -> Progress:
    """One reading of the log, which is the truth: from its start, so that a second reader of the
    same attempt writes the same into events.jsonl."""
    progress = paying.listening(run)
    reader = engine.logs(launch.names_of(run).box, follow=follow)
    assert reader.stdout is not None
    try:
        with open(_events(run), "r+b" if _events(run).exists() else "w+b") as events:
            events.truncate(run.events_offset)
            events.seek(run.events_offset)
            for raw in lines_of(reader.stdout):
                # What an agent says of its own token is not kept: the engine's log, which has it
                # as it was said, goes with the container.
                line = redact_tokens(raw)
                # The engine bounds its log, but by throwing the oldest away, and so for ever.
                if events.tell() + len(line) <= _MOST_KEPT:
                    events.write(line)
                    events.flush()
                _take(store, engine, run, progress, line)
    finally:
        proc.end(reader)
    return progress


def read_progress(
    events: Path | IO[bytes], offset: int = 0, progress: Progress | None = None
) -> Progress:
    """What a run's kept output tells, from one attempt's beginning on."""
    progress = progress or Progress()
    if isinstance(events, Path):
        if events.is_file():
            with open(events, "rb") as file:
                return read_progress(file, offset, progress)
        return progress
    events.seek(offset)
    for line in lines_of(events):
        progress.take(line)
    return progress


def conclude(
    store: Store, engine: Engine, run: Run, progress: Progress, state: ContainerState | None
) -> None:
    """Move a run whose box has ended, or has gone: to its end, to a wait, or into the queue."""
    ended = BoxEnd(there=False)
    if state is not None:
        ended = BoxEnd(True, state.oom_killed, state.exit_code)
    kept = list(egress.keep(engine, run))
    progress.credits = paying.sign_of(progress, kept)
    verdict = judge(run, progress, ended)
    changes: dict[str, Any] = {
        **_sums(run, progress),
        "billing": paying.bill(run, progress),
        "egress": egress.merged(run.egress, [x for x in kept if x["decision"] != paying.DECISION]),
        "active_s": run.active_s,
    }
    if verdict.kind == "end":
        target = State.HARVESTING
        changes |= {"ending": verdict.ending, "strikes": 0}
    elif verdict.reason == "login" and not verdict.kept and logins.is_superseded(store, run):
        # Nobody need be told: it came too late for the CLI's tries, and that is all.
        target = State.QUEUED
        changes |= {
            "strikes": verdict.strikes,
            "message": "goes on with the login that was renewed meanwhile",
        }
    elif verdict.kind == "wait":
        target = State.WAITING
        changes |= {
            "reason": verdict.reason,
            "message": verdict.message,
            "waiting_until": utc_time(verdict.until) if verdict.until else "",
            "spent_login": run.login_mark if verdict.reason == "login" and not verdict.kept else "",
            "strikes": verdict.strikes,
            "hint": verdict.hint,
        }
    else:
        target = State.QUEUED
        changes |= {
            "strikes": verdict.strikes,
            "message": f"goes on after: {verdict.message}"[:500],
        }
    say(f"the agent's box has ended: {verdict.kind} {verdict.reason} {verdict.message}")
    if verdict.kind != "end":
        # A wait can be long: what holds the work are the volumes.  Before the move: done again
        # by the next supervisor, the kept output gives the same verdict.
        launch.remove_containers(engine, run)
    store.move(run.id, State.RUNNING, target, **changes)


def _sums(run: Run, progress: Progress) -> dict[str, Any]:
    """What this attempt adds; saved together with the move, so never twice."""
    usage = Usage(
        **{
            name: getattr(run.usage, name) + value
            for name, value in dataclasses.asdict(progress.usage).items()
        }
    )
    return {
        "isolation": progress.isolation_words or run.isolation,
        "turns": run.turns + progress.turns,
        "usage": usage,
        "denied": [*run.denied, *progress.denied][:200],
        "outcome": progress.closing_words or run.outcome,
        "models_asked": list(dict.fromkeys([*run.models_asked, *progress.models])),
        "fresh": run.fresh or progress.anew,
        "notes": list(dict.fromkeys([*run.notes, *progress.notes, *other_models(run, progress)])),
    }


def other_models(run: Run, progress: Progress) -> list[str]:
    """What is to be said where other models answered than the one that was accepted."""
    told = []
    if others := [x for x in progress.models if chosen_model.differs(run.model, x)]:
        told.append(f"accepted with {run.model}, but answered by {', '.join(others)}")
    if others := [x for x in progress.subagent_models if x not in progress.models]:
        told.append(f"subagents were answered by {', '.join(others)}")
    return [one_line(x, limit=300) for x in told]


def _events(run: Run) -> Path:
    return paths.run_dir(run.id) / "events.jsonl"


def _take(store: Store, engine: Engine, run: Run, progress: Progress, line: bytes) -> None:
    """Take one line; a run that does not pay as the user wishes is ended here as well."""
    unpaid, info = progress.credits is None, progress.listener.info
    message = progress.take(line)
    if message is None:
        return
    by_key = run.settings.get("billing") == "api-key"
    begins = unpaid and progress.credits is not None
    if not by_key and (begins or info is not progress.listener.info):
        paying.record(store, run, progress)
    elif message.get("type") != "plandock":
        paying.stop_unheeded(engine, run, progress)
    if progress.isolation_fault:
        engine.kill(launch.names_of(run).box)
    elif message.get("event") == "auth-status" and message.get("type") == "plandock":
        verdict = judge_auth_status(progress.auth_status, kind="file")
        source = "api-key" if by_key else ("subscription" if verdict.ok else verdict.source)
        told = (source, verdict.api_key_source, verdict.subscription)
        billing = dataclasses.replace(store.get(run.id).billing)
        billing.source, billing.api_key_source, billing.subscription = told
        store.change(run.id, billing=billing)
        if not verdict.ok and not by_key:
            engine.kill(launch.names_of(run).box)
    elif message is progress.init:
        begin(store, run, "working")
        verdict = judge_init(message)
        known = store.get(run.id).billing
        known.api_key_source = str(message.get("apiKeySource"))[:100]
        store.change(run.id, billing=known)
        if progress.asks_in_mode or (not verdict.ok and not by_key):
            engine.kill(launch.names_of(run).box)
