"""A conversation that the box's CLI cannot open: the plan is carried out all the same, once."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from plandock import paths
from plandock.runs.model import State
from tests.support.laptop import Laptop

pytestmark = [pytest.mark.timeout(1200), pytest.mark.e2e, pytest.mark.engine]

PLAN = "# Add a farewell\n\n1. Write src/farewell.py\n2. Commit it\n"


def damaged(session: str) -> str:
    """Records that plandock can read, and in which neither CLI finds a conversation (measured)."""
    call = {"type": "tool_use", "id": "toolu_1", "name": "ExitPlanMode", "input": {"plan": PLAN}}
    said = {"role": "assistant", "model": "claude-opus-4", "content": [call]}
    record = {"type": "assistant", "message": said, "isSidechain": True, "sessionId": session}
    return json.dumps(record | {"uuid": str(uuid.uuid4()), "parentUuid": None}) + "\n"


def test_a_conversation_that_is_not_found_is_begun_anew_from_the_plan(
    make_laptop: Callable[..., Laptop], claude_cli: Path
) -> None:
    """In the first box, with the plan's text, and said in the notes; the work arrives."""
    laptop = make_laptop(claude_cli)
    session = str(uuid.uuid4())
    folder = laptop.config / "projects" / paths.project_key(str(laptop.repo.root))
    folder.mkdir(parents=True)
    (folder / f"{session}.jsonl").write_text(damaged(session))
    laptop.plandock("run", "--session", session, "--wait")
    (run,) = laptop.recorded()
    assert (run.state, run.attempt, run.fresh) == (State.DONE, 1, True)
    assert "Goodbye" in laptop.repo.git("show", f"{run.branch}:src/farewell.py")
    (note,) = [x for x in run.notes if "begun anew from the plan" in x]
    assert "No conversation found" in note
