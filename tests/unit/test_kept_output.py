"""What is kept of a box's own words: all of them, but for the token that the box was given."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace
from typing import Any

import pytest

from plandock import paths
from plandock.claude.redact import MARK
from plandock.runs.model import Run, RunId, State
from plandock.runs.store import Store
from plandock.settings.keys import Settings
from plandock.supervisor import running

TOKEN = "sk-ant-oat01-" + "made-up-" * 6
SEALED = {"type": "plandock", "event": "isolation", "checks": [{"name": "user", "ok": True}]}


def test_output_is_kept_without_a_token_when_the_agent_says_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It reads its own token and prints it; the line stays JSON, its other words stay."""
    spoken = {"type": "assistant", "message": {"content": [{"type": "text", "text": TOKEN}]}}
    said = b"".join(json.dumps(x).encode() + b"\n" for x in (SEALED, spoken))
    monkeypatch.setattr("plandock.proc.end", lambda _: 0)
    paths.make_private(paths.run_dir("r222"))
    engine: Any = SimpleNamespace(logs=lambda *_, **__: SimpleNamespace(stdout=io.BytesIO(said)))
    with Store() as store:
        run = Run(id=RunId("r222"), state=State.RUNNING, settings=Settings().to_dict())
        run, _ = store.add(run, name_branch=lambda _: "feature/auto")
        running._read(store, engine, run)
    kept = (paths.run_dir("r222") / "events.jsonl").read_text()
    assert TOKEN not in kept
    first, last = map(json.loads, kept.splitlines())
    assert first == SEALED
    assert last["message"]["content"] == [{"type": "text", "text": MARK}]
