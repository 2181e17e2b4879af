"""What a box must be like when it is looked at from inside, and what is said if it is not."""

from __future__ import annotations

from typing import Any

from plandock.claude.stream import Progress
from plandock.engines.protocol import ContainerSpec, Engine


def expectations_of(spec: ContainerSpec, engine: Engine) -> dict[str, Any]:
    """What the probe must find in this box, as JSON (see ``inside/probe.py``)."""
    limits = engine.limits(spec)
    return {
        "volumes": {v.path: {"name": v.name, "read_only": v.read_only} for v in spec.volumes},
        "tmpfs": {
            t.path: {
                "size": t.size_bytes,
                "exec": t.exec,
                "inodes": t.inodes if limits.inodes else None,
            }
            for t in spec.tmpfs
        },
        "shm": spec.shm_bytes,
        "memory": limits.memory_bytes,
        "pids": limits.pids,
        "cpus": limits.cpus,
        "ulimits": dict(limits.ulimits),
        "environment": sorted(spec.env),
        "gvisor": (spec.runtime or "").startswith("runsc"),
    }


def limit_notes(spec: ContainerSpec, wanted: float | None, engine: Engine) -> list[str]:
    """A line where the engine's host has fewer processors than the setting ``cpus`` wants."""
    given = engine.limits(spec).cpus
    if wanted is None or given is None or given >= wanted:
        return []
    return [f"cpus = {wanted:g} was lowered to {given:g}: {engine.name} has no more"]


def isolation_fault(line: str) -> dict[str, str]:
    """Message and hint where a line of the box's log tells of a failed check, else nothing."""
    progress = Progress()
    progress.take(line.encode())
    told = progress.isolation is not None and progress.isolation_fault
    return isolation_words(told) if told else {}


def isolation_words(fault: str) -> dict[str, str]:
    """Message and hint for a box that is less sealed than it must be."""
    return {
        "message": f"nothing was started: the box is not sealed as it must be: {fault}",
        "hint": "see what the engine's own configuration adds to containers or takes from them",
    }
