"""What the gateway let through and refused: read from its log, live or at the end.

At the end of each attempt the decisions are kept, a JSON line each, in the run's folder: the log
goes with the gateway.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from plandock import paths, proc
from plandock.box import launch
from plandock.claude.redact import redact
from plandock.engines.protocol import Engine
from plandock.errors import PlandockError
from plandock.runs.model import Run
from plandock.supervisor.log_lines import lines_of

_DECISIONS = ("allowed", "refused", "failed")
_MOST = 500
_UNWRITTEN = {
    "decision": "suppressed",
    "target": "",
    "why": "more decisions than are written one by one",
}


def decisions(engine: Engine, run: Run, *, follow: bool = False) -> Iterator[dict[str, Any]]:
    """Each decision of the run's gateway, from its start; with ``follow`` until it has ended.

    Nothing where the engine or the gateway is not there.
    """
    with contextlib.suppress(PlandockError):
        reader = engine.logs(launch.names_of(run).gateway, follow=follow)
        assert reader.stdout is not None
        try:
            for line in lines_of(reader.stdout):
                if (found := decision_of(line)) is not None:
                    yield found
        finally:
            reader.stdout.close()
            proc.end(reader, grace_s=0.5)


def keep(engine: Engine, run: Run) -> Iterator[dict[str, Any]]:
    """The decisions of this attempt, kept in the run's folder while the gateway is still there.

    Where it is gone, what a supervisor before has kept.  Raises :class:`OSError`.
    """
    place = _kept_at(run, run.attempt)
    if engine.inspect(launch.names_of(run).gateway) is not None:
        temporary = place.with_suffix(".new")
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(one) + "\n" for one in decisions(engine, run))
        os.replace(temporary, place)
    return _read(place)


def kept(run: Run) -> Iterator[dict[str, Any]]:
    """The decisions of all attempts that have ended, oldest first."""
    for attempt in range(1, run.attempt + 1):
        yield from _read(_kept_at(run, attempt))


def _kept_at(run: Run, attempt: int) -> Path:
    return paths.run_dir(run.id) / f"egress-{attempt}.jsonl"


def _read(place: Path) -> Iterator[dict[str, Any]]:
    if not place.is_file():
        return
    with open(place, encoding="utf-8") as file:
        for line in file:
            with contextlib.suppress(ValueError):
                yield json.loads(line)


def decision_of(line: str | bytes) -> dict[str, Any] | None:
    """What one line of the gateway's log says was decided; None for every other line."""
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict):
        return None
    at = str(said.get("at", ""))[:40]
    if said.get("decision") == "suppressed":
        # Of the refused ones: what else goes unwritten are mostly the ends of connections.
        count = said.get("refused")
        if not isinstance(count, int) or count < 1:
            return None
        return {"at": at, **_UNWRITTEN, "count": count}
    if said.get("decision") == "credits":
        facts = {name: said.get(name) for name in ("certain", "back_at", "used_up")}
        return {"at": at, "decision": "credits", "target": "", "why": said.get("why"), **facts}
    if said.get("decision") not in _DECISIONS:
        return None
    return {
        "at": at,
        "decision": said["decision"],
        "target": redact(str(said.get("target", ""))[:300]),
        "why": said.get("why"),
    }


def counted(said: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry per decision, target and reason, with how often it was made."""
    return merged([], said)


def merged(
    before: Iterable[dict[str, Any]], said: Iterable[dict[str, Any]]
) -> list[dict[str, Any]]:
    """What was counted before, of earlier boxes of the run, and these decisions, as one."""
    found: dict[tuple[str, str, object], dict[str, Any]] = {}
    unwritten = 0
    for one in [*before, *said]:
        key = (one["decision"], one["target"], one.get("why"))
        if one["decision"] != "suppressed" and (key in found or len(found) < _MOST):
            entry = {k: one.get(k) for k in ("decision", "target", "why")} | {"count": 0}
            found.setdefault(key, entry)["count"] += one.get("count", 1)
        else:
            unwritten += one.get("count", 1)
    rest = [{**_UNWRITTEN, "count": unwritten}] if unwritten else []
    return [*found.values(), *rest]
