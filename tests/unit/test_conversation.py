"""The conversation's file: waited for, copied without a torn line, brought home checked."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from plandock import paths
from plandock.claude import conversation

SESSION = "0b3854e9-275e-495e-af4a-6bfb4675034a"
ASKED = {
    "type": "assistant",
    "sessionId": SESSION,
    "message": {
        "model": "claude-opus-5-5",
        "content": [{"type": "tool_use", "id": "t1", "name": "ExitPlanMode", "input": {}}],
    },
}
ANSWERED = {
    "type": "user",
    "sessionId": SESSION,
    "message": {"content": [{"type": "tool_result", "tool_use_id": "t1", "content": "approved"}]},
}


def lines(*records: object) -> str:
    """Records as the CLI writes them."""
    return "".join(json.dumps(r) + "\n" for r in records)


def test_it_waits_for_the_approval_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record comes after the hook has answered; the copy is taken only then."""
    file = tmp_path / f"{SESSION}.jsonl"
    file.write_text(lines(ASKED))
    assert not conversation.wait_for_approval(file, timeout_s=0.1)

    looked, read = threading.Event(), conversation.read_records

    def read_once(transcript: Path) -> list[dict[str, Any]]:
        records = list(read(transcript))
        looked.set()
        return records

    monkeypatch.setattr(conversation, "read_records", read_once)

    def answer() -> None:
        assert looked.wait(120)
        with file.open("a") as out:
            out.write(lines(ANSWERED))

    thread = threading.Thread(target=answer)
    thread.start()
    assert conversation.wait_for_approval(file, timeout_s=120.0)
    thread.join()


def test_a_result_of_another_call_is_no_approval(tmp_path: Path) -> None:
    """Only the answer to the last ExitPlanMode counts."""
    file = tmp_path / f"{SESSION}.jsonl"
    other = {"message": {"content": [{"type": "tool_result", "tool_use_id": "t0"}]}}
    file.write_text(lines(other, ASKED))
    assert not conversation.wait_for_approval(file, timeout_s=0.1)


def test_a_torn_last_line_is_left_off(tmp_path: Path) -> None:
    """What is copied ends with a whole record, under the key of the working directory."""
    file = tmp_path / f"{SESSION}.jsonl"
    file.write_text(lines(ASKED, ANSWERED) + '{"type": "assis')
    beside = tmp_path / SESSION / "subagents"
    beside.mkdir(parents=True)
    (beside / "agent-1.jsonl").write_text(lines({"a": 1}))
    found = conversation.collect(file, cwd="/home/user/my project")
    assert found is not None
    assert found.files[0].path == f"projects/-home-user-my-project/{SESSION}.jsonl"
    assert found.files[0].content.decode() == lines(ASKED, ANSWERED)
    assert found.files[1].path.endswith(f"{SESSION}/subagents/agent-1.jsonl")


def test_without_a_file_there_is_no_conversation(tmp_path: Path) -> None:
    """A missing, empty or oddly named transcript means a new conversation from the plan."""
    assert conversation.collect(tmp_path / f"{SESSION}.jsonl", cwd="/x") is None
    (tmp_path / f"{SESSION}.jsonl").write_text("")
    assert conversation.collect(tmp_path / f"{SESSION}.jsonl", cwd="/x") is None
    (tmp_path / "-x.jsonl").write_text(lines(ASKED))
    assert conversation.collect(tmp_path / "-x.jsonl", cwd="/x") is None


def test_only_whole_records_of_that_session_come_home(tmp_path: Path) -> None:
    """Garbage and other sessions' records from the box are dropped."""
    content = lines(ASKED, {"sessionId": "another"}) + "not json\n" + lines(ANSWERED) + "[1]\n"
    place = conversation.bring_home(
        content.encode(), session_id=SESSION, cwd="/home/user/p", config_dir=tmp_path
    )
    assert place == tmp_path / "projects" / paths.project_key("/home/user/p") / f"{SESSION}.jsonl"
    assert place.read_text() == lines(ASKED, ANSWERED)


def test_a_file_that_is_there_is_never_touched(tmp_path: Path) -> None:
    """The box cannot overwrite a conversation of the user's, nor name a file elsewhere."""
    folder = tmp_path / "projects" / paths.project_key("/p")
    folder.mkdir(parents=True)
    (folder / f"{SESSION}.jsonl").write_text("mine\n")
    conversation.bring_home(
        lines(ASKED).encode(), session_id=SESSION, cwd="/p", config_dir=tmp_path
    )
    assert (folder / f"{SESSION}.jsonl").read_text() == "mine\n"
    evil = "../../../evil"
    assert conversation.bring_home(b"{}\n", session_id=evil, cwd="/p", config_dir=tmp_path) is None
