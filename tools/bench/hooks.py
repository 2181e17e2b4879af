"""What the hooks cost: an ordinary tool call, and an acceptance until the prompt is back."""

from __future__ import annotations

import json
import sys
import uuid
from pathlib import Path
from typing import Any

from plandock.runs.model import Run
from plandock.runs.store import Store
from tests.support.accepting import acceptance, command, payload
from tests.support.hooks import until
from tests.support.laptop import Laptop
from tools.bench.timing import BenchError, Pairs, Timed, measure_pairs, timed

PLAN = "# Add a farewell\n\n1. Write src/farewell.py\n2. Commit it\n"
PATIENCE_S = 300.0
CHEAP = 20
"""How many pairs of an ordinary call are measured for each round: one takes milliseconds."""


def state_dir(laptop: Laptop) -> Path:
    """The product's state folder on that laptop."""
    return laptop.home / ".local/state/plandock"


def accept(laptop: Laptop, **changes: Any) -> tuple[Timed, Run]:
    """The PostToolUse hook of an acceptance, with a tool use of its own: the call and its run.

    Raises BenchError unless it stopped the turn and recorded exactly one new run.
    """
    forget_marks(laptop)
    known = {run.id for run in runs(laptop)}
    given = acceptance(laptop, PLAN, session=str(changes.pop("session_id", "")), **changes)
    call = timed(
        ["sh", "-c", command("PostToolUse", "accepted")],
        stdin=given,
        env=laptop.env,
        cwd=laptop.repo.root,
    )
    new = [run for run in runs(laptop) if run.id not in known]
    if call.code != 0 or len(new) != 1 or json.loads(call.out).get("continue") is not False:
        raise BenchError(f"the acceptance was not handed off: {call.out.decode()!r}")
    return call, new[0]


def forget_marks(laptop: Laptop) -> None:
    """Take away what earlier acceptances left for the session: each round begins alike."""
    for folder in ("latch", "note", "proposed"):
        for mark in (state_dir(laptop) / folder).glob("*"):
            mark.unlink()


def runs(laptop: Laptop) -> list[Run]:
    """Every recorded run, read from the store; none where there is no store yet."""
    file = state_dir(laptop) / "plandock.db"
    if not file.exists():
        return []
    with Store(file) as store:
        return store.list()


def current(laptop: Laptop, run_id: str) -> Run:
    """A run as it is now."""
    with Store(state_dir(laptop) / "plandock.db") as store:
        return store.get(run_id)


def is_gone(pid: int) -> bool:
    """Whether a process has ended (what nobody has waited for counts as ended)."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def ordinary_calls(laptop: Laptop, rounds: int, *, cold: bool) -> tuple[Pairs, Pairs]:
    """PreToolUse of a Read against `sh -c :`; without a latch, and with another session's."""
    given = payload(laptop, "PreToolUse-Read-plan")
    wired = command("PreToolUse", "guard")

    def ours() -> float:
        call = timed(["sh", "-c", wired], stdin=given, env=laptop.env, cwd=laptop.repo.root)
        if (call.code, call.out) != (0, b""):
            raise BenchError(f"the hook answered an ordinary call: {call.code}, {call.out!r}")
        return call.seconds

    def baseline() -> float:
        return timed(["sh", "-c", ":"], stdin=given, env=laptop.env, cwd=laptop.repo.root).seconds

    forget_marks(laptop)
    free = measure_pairs("ordinary call", rounds * CHEAP, ours, baseline, cold=cold)
    latch = state_dir(laptop) / "latch" / str(uuid.uuid4())
    latch.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    latch.write_text('{"kind":"handed-off"}')
    name = "ordinary call beside another session's latch"
    beside = measure_pairs(name, rounds * CHEAP, ours, baseline, cold=cold)
    forget_marks(laptop)
    return free, beside


def acceptances(laptop: Laptop, rounds: int, *, cold: bool) -> Pairs:
    """PostToolUse of an acceptance against an interpreter that starts and does nothing.

    The laptop's login has expired: the hand-off is a whole one, and the run waits for another login
    before anything is there, until it is stopped; no box runs beside the next measurement.
    """
    laptop.log_in(expires_in_s=-60.0)

    def ours() -> float:
        call, run = accept(laptop)
        until(lambda: current(laptop, run.id).state == "waiting", PATIENCE_S)
        laptop.plandock("stop", run.id)
        until(lambda: is_gone(current(laptop, run.id).supervisor_pid or 0), PATIENCE_S)
        return call.seconds

    def baseline() -> float:
        argv = [sys.executable, "-I", "-S", "-c", "pass"]
        return timed(argv, stdin=b"", env=laptop.env, cwd=laptop.repo.root).seconds

    return measure_pairs("acceptance until the prompt", rounds, ours, baseline, cold=cold)
