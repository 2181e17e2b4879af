"""What the gateway let through and refused: read from its log, live or at the end."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from typing import Any

from plandock import proc
from plandock.box import launch
from plandock.claude.redact import redact
from plandock.engines.protocol import Engine
from plandock.errors import PlandockError
from plandock.runs.model import Run
from plandock.supervisor.log_lines import lines_of

_DECISIONS = ("allowed", "refused", "failed")
_MOST = 500


def decisions(engine: Engine, run: Run, *, follow: bool = False) -> Iterator[dict[str, Any]]:
    """Each decision of the run's gateway, from its start; with ``follow`` until it has ended.

    Nothing where the engine or the gateway is not there.
    """
    with contextlib.suppress(PlandockError):
        reader = engine.logs(launch.names_of(run).gateway, follow=follow)
        assert reader.stdout is not None
        try:
            for line in lines_of(reader.stdout):
                try:
                    said = json.loads(line)
                except (ValueError, RecursionError):
                    continue
                if isinstance(said, dict) and said.get("decision") in _DECISIONS:
                    yield {
                        "at": str(said.get("at", ""))[:40],
                        "decision": said["decision"],
                        "target": redact(str(said.get("target", ""))[:300]),
                        "why": said.get("why"),
                    }
        finally:
            reader.stdout.close()
            proc.end(reader, grace_s=0.5)


def counted(said: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry per decision and target, with how often it was made."""
    return merged([], said)


def merged(
    before: Iterable[dict[str, Any]], said: Iterable[dict[str, Any]]
) -> list[dict[str, Any]]:
    """What was counted before, of earlier boxes of the run, and these decisions, as one."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for one in [*before, *said]:
        key = (one["decision"], one["target"])
        if key in found or len(found) < _MOST:
            entry = {k: one.get(k) for k in ("decision", "target", "why")} | {"count": 0}
            found.setdefault(key, entry)["count"] += one.get("count", 1)
    return list(found.values())
