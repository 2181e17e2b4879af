"""Time for a slow machine: what the product gives a quick program of its own is long here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from plandock import proc
from plandock.notify import command, desktop

PATIENCE_S = 600.0
_SHORTEST_S = 5.0
"""Who waits less long wants the time to run out."""


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no child of this process be given up because the machine is busy."""
    real = proc.run

    def run(argv: Sequence[str], *, timeout_s: float | None = 120.0, **more: Any) -> proc.Finished:
        if timeout_s is not None and timeout_s >= _SHORTEST_S:
            timeout_s = max(timeout_s, PATIENCE_S)
        return real(argv, timeout_s=timeout_s, **more)

    monkeypatch.setattr(proc, "run", run)
    for module in (command, desktop):
        monkeypatch.setattr(module, "_LONGEST_S", PATIENCE_S)
