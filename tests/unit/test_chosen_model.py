"""Which model a plan was accepted with, from conversations that both real CLIs wrote.

``data/chosen_models`` holds what they kept (less the model's words and the CLI's own); what
SessionStart said in each case stands in the table.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from plandock.claude.chosen_model import Origin, choose, differs
from plandock.claude.stream import Progress
from plandock.runs.model import Run, RunId
from plandock.supervisor.receipt import as_text
from plandock.supervisor.running import other_models

DATA = Path(__file__).parent / "data/chosen_models"
OLD, NEW = "2.1.197", "2.1.332"

# Conversation, what SessionStart named and what the process was asked for → what carries it out.
RECORDED = [
    (OLD, "opusplan", "claude-sonnet-5", "opusplan", "claude-sonnet-5", Origin.START),
    (NEW, "opusplan", "claude-sonnet-5-5", "opusplan", "claude-sonnet-5-5", Origin.START),
    # Where no /proc tells what was asked for, the first answer does.
    (NEW, "opusplan", "claude-sonnet-5-5", "", "claude-sonnet-5-5", Origin.START),
    (OLD, "opusplan", "", "opusplan", "opusplan", Origin.ASKED),
    (OLD, "haiku", "claude-haiku-4-5-20251001", "haiku", "claude-haiku-4-5-20251001", Origin.START),
    (NEW, "haiku", "claude-haiku-5-5", "haiku", "claude-haiku-5-5", Origin.START),
    (NEW, "haiku", "", "haiku", "haiku", Origin.ASKED),
    (OLD, "long", "claude-sonnet-4-5-20250929[1m]", "", "claude-sonnet-4-5-20250929[1m]",
     Origin.START),
    (OLD, "long", "", "sonnet[1m]", "claude-sonnet-4-5-20250929[1m]", Origin.ASKED),
    # The newest's conversation says itself that it was asked for with the long context.
    (NEW, "long", "", "", "claude-sonnet-4-5-20250929[1m]", Origin.PLANNED),
    (OLD, "long", "", "", "claude-sonnet-4-5-20250929", Origin.PLANNED),
    (OLD, "command", "claude-opus-4-8[1m]", "opus", "haiku", Origin.COMMAND),
    (NEW, "command", "claude-opus-5-5", "opus", "haiku", Origin.COMMAND),
    (OLD, "picked", "claude-opus-4-8[1m]", "opus", "claude-sonnet-5", Origin.COMMAND),
    (NEW, "picked", "claude-opus-5-5", "opus", "claude-sonnet-5-5", Origin.COMMAND),
    (OLD, "default", "claude-sonnet-5", "sonnet", "claude-opus-4-8[1m]", Origin.COMMAND),
    (NEW, "default", "claude-sonnet-5-5", "sonnet", "claude-opus-5-5", Origin.COMMAND),
    (OLD, "commandopusplan", "claude-haiku-4-5-20251001", "haiku", "opusplan", Origin.COMMAND),
    (NEW, "commandopusplan", "claude-haiku-5-5", "haiku", "opusplan", Origin.COMMAND),
    (NEW, "custom", "claude-opus-5-5", "opus", "nonsense-9", Origin.COMMAND),
    # `/model sonnet[1m]` was refused: what was before it holds.
    (OLD, "refused", "claude-haiku-4-5-20251001", "haiku", "claude-haiku-4-5-20251001",
     Origin.START),
    # A session that another model answered than the one it began with: by the picker behind
    # Alt+P, which leaves no trace, or restored by --resume.
    (NEW, "long", "claude-opus-5-5", "opus", "claude-sonnet-4-5-20250929[1m]", Origin.PLANNED),
]  # fmt: skip


def seen(version: str, name: str, **more: Any) -> dict[str, Any]:
    """What the hook has kept of that conversation's session."""
    return {"transcript": str(DATA / version / f"{name}.jsonl"), "at": 0.0, **more}


@pytest.mark.parametrize(("version", "name", "started", "asked", "model", "origin"), RECORDED)
def test_recorded_conversation_is_carried_out_by_the_model_it_was_set_to(
    version: str, name: str, started: str, asked: str, model: str, origin: Origin
) -> None:
    """Never by the one that only planned, and with the long context where it had that."""
    choice = choose(seen(version, name, started=started, asked=asked))
    assert (choice.model, choice.origin) == (model, origin)


def test_command_from_before_the_process_began_is_passed_over() -> None:
    """A resumed session is set anew: what its process was asked for counts."""
    at = 4_000_000_000.0
    choice = choose(seen(NEW, "command", at=at, asked="opus"))
    assert (choice.model, choice.origin) == ("opus", Origin.ASKED)


@pytest.mark.parametrize("version", [OLD, NEW])
def test_command_from_before_the_users_own_clear_holds(tmp_path: Path, version: str) -> None:
    """A haiku session that was set to sonnet plans with sonnet either way."""
    began_as = "0a1b2c3d-0000-4000-8000-000000000001"
    shutil.copy(DATA / version / "picked.jsonl", tmp_path / f"{began_as}.jsonl")
    cleared = shutil.copy(DATA / version / "haiku.jsonl", tmp_path / "cleared.jsonl")
    kept = {"transcript": str(cleared), "at": 0.0, "started": "claude-haiku-5-5"}
    found = choose({**kept, "began_as": began_as})
    assert (found.model[:13], found.origin) == ("claude-sonnet", Origin.COMMAND)
    for other in ("", "../x", "cleared", "0a1b2c3d-0000-4000-8000-000000000002"):
        assert choose({**kept, "began_as": other}).origin is Origin.START


def test_settings_saved_meanwhile_count_only_where_the_rest_is_contradicted() -> None:
    """Alt+P saves its choice, and so does another session's `/model`."""
    changed = {"saved": "haiku", "saved_then": "opus"}
    found = choose(seen(NEW, "haiku", started="claude-opus-5-5", asked="opus", **changed))
    assert (found.model, found.origin) == ("haiku", Origin.SAVED)
    kept = choose(seen(NEW, "picked", started="claude-opus-5-5", **changed))
    assert kept.origin is Origin.COMMAND


@pytest.mark.parametrize(("asked", "then"), [("", ""), ("sonnet", "sonnet"), ("opusplan", "")])
def test_opus_that_was_saved_meanwhile_is_no_opusplan(asked: str, then: str) -> None:
    """Chosen by Alt+P in a session that began with sonnet; not saved, it looks like opusplan."""
    began = {"started": "claude-sonnet-5-5", "asked": asked, "saved_then": then}
    found = choose(seen(NEW, "opusplan", **began, saved="opus"))
    assert (found.model, found.origin) == ("claude-opus-5-5", Origin.SAVED)
    same = choose(seen(NEW, "opusplan", **{**began, "asked": "opusplan"}, saved=then))
    assert (same.model, same.origin) == ("claude-sonnet-5-5", Origin.START)


def test_effort_is_the_hooks_then_the_conversations_then_the_settings() -> None:
    """And nothing that is no word reaches a command line."""
    assert choose(seen(NEW, "haiku", effort="low")).effort == "low"
    assert choose(seen(NEW, "haiku")).effort == "medium"
    assert choose({"saved_effort": "high"}).effort == "high"
    assert choose({"effort": "--model"}).effort == ""


@pytest.mark.parametrize("junk", [None, 7, [], {"x": 1}, "--dangerous", "a b", "x" * 500, "\n"])
def test_hostile_values_choose_nothing(tmp_path: Path, junk: object) -> None:
    """Of what the hook has kept, and of a conversation."""
    file = tmp_path / "talk.jsonl"
    records = [
        {"type": "assistant", "message": {"model": junk}, "effort": junk},
        {"type": "api-request", "querySource": "repl_main_thread", "params": junk},
        {"type": "user", "message": junk, "timestamp": junk},
        {"type": "system", "content": junk},
    ]
    file.write_text("".join(json.dumps(r) + "\n" for r in records))
    kept = dict.fromkeys(
        ("started", "asked", "saved", "saved_then", "effort", "at", "began_as"), junk
    )
    choice = choose({**kept, "transcript": str(file)})
    assert (choice.model, choice.effort, choice.origin) == ("", "", Origin.UNKNOWN)


@pytest.mark.parametrize(
    ("wanted", "asked", "other"),
    [
        ("claude-sonnet-5-5", "claude-sonnet-5-5", False),
        ("claude-sonnet-5-5[1m]", "claude-sonnet-5-5", False),
        ("haiku", "claude-haiku-5-5", False),
        ("opusplan", "claude-sonnet-5-5", False),
        ("claude-haiku-4-5", "claude-haiku-4-5-20251001", False),
        ("opusplan", "claude-opus-5-5", True),
        ("haiku", "claude-sonnet-5-5", True),
        ("claude-sonnet-5", "claude-opus-4-8", True),
        ("", "claude-opus-4-8", False),
        ("best", "claude-opus-4-8", False),
    ],
)
def test_an_answer_of_another_model_is_noticed(wanted: str, asked: str, other: bool) -> None:
    """An alias or an id without its date is no other model."""
    assert differs(wanted, asked) is other


def test_answers_of_other_models_are_told_of_a_run() -> None:
    """A mod or a fallback can make the two differ; the receipt names both."""
    run = Run(RunId("r222"), model="claude-sonnet-5-5[1m]", effort="low", model_origin="x")
    progress = Progress(models=["claude-sonnet-5-5", "claude-haiku-5-5"])
    (note,) = other_models(run, progress)
    assert note == "accepted with claude-sonnet-5-5[1m], but answered by claude-haiku-5-5"
    assert other_models(run, Progress(models=["claude-sonnet-5-5"])) == []
    progress = Progress(models=["claude-sonnet-5-5", "claude-haiku-5-5"])
    for told in ('"message": {"model": "claude-sonnet-5-5"}', '"message": {"model": "opus"}'):
        progress.take(f'{{"type": "assistant", "parent_tool_use_id": "t", {told}}}'.encode())
    assert other_models(run, progress)[1] == "subagents were answered by opus"
    assert "opus" not in progress.models
    run.models_asked = progress.models
    row = next(x for x in as_text(run).splitlines() if x.strip().startswith("model"))
    assert "claude-sonnet-5-5[1m] (by x), effort low" in row
    assert "answered by claude-sonnet-5-5, claude-haiku-5-5" in row
