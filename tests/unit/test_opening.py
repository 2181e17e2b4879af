"""Whether the CLI could open its conversation: messages as both versions sent them (measured)."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.unit.test_steward import steward as steward

INIT = {"type": "system", "subtype": "init", "apiKeySource": "none"}
MODEL = {"type": "assistant", "message": {"model": "claude-opus", "content": []}}
RETRY = {"type": "system", "subtype": "api_retry", "error_status": 529}


def broken(*errors: str) -> dict[str, Any]:
    """A result of a process that never began a turn."""
    found = {"subtype": "error_during_execution", "is_error": True, "errors": list(errors)}
    return {"type": "result", **found, "num_turns": 0}


def failed(words: str, **more: Any) -> dict[str, Any]:
    """A result of a turn that ended in an error."""
    found = {"subtype": "success", "is_error": True, "result": words, "num_turns": 1}
    return {"type": "result", **found, **more}


SPREAD = "Spread syntax requires ...iterable[Symbol.iterator] to be a function"
NOT_FOUND = "No conversation found with session ID: a931bb3b"
NULL = "Failed to resume session: null is not an object (evaluating 'd.message.id')"
CASES: list[tuple[list[dict[str, Any]], str]] = [
    ([broken(NOT_FOUND)], NOT_FOUND),
    ([broken(NULL)], NULL),
    ([broken()], "it ended before its first turn"),
    ([INIT, failed(SPREAD, terminal_reason="model_error")], SPREAD),
    ([INIT, failed("Prompt is too long", api_error_status=400)], "Prompt is too long"),
    ([INIT, MODEL, failed("Prompt is too long", api_error_status=400)], ""),
    ([INIT, MODEL, failed(SPREAD, terminal_reason="model_error")], ""),
    ([INIT, RETRY, failed("overloaded", terminal_reason="model_error")], ""),
    ([INIT, failed("API Error: it broke", terminal_reason="model_error")], ""),
    ([INIT, failed("no", terminal_reason="model_error", api_error_status=401)], ""),
    ([INIT, failed("You've hit your session limit", api_error_status=429)], ""),
    ([INIT, MODEL, {"type": "result", "subtype": "success", "is_error": False}], ""),
    ([{"type": "result", "is_error": True, "errors": 5, "result": []}],
     "it ended before its first turn"),
]  # fmt: skip


@pytest.mark.parametrize(("messages", "fault"), CASES)
def test_the_fault_is_the_clis_own_words(
    steward: ModuleType, messages: list[dict[str, Any]], fault: str
) -> None:
    """What happened at the API, or after the model has spoken, is no fault of the conversation."""
    opened = steward.opening.Opening()
    for message in messages:
        opened.take(message)
    assert opened.fault == fault


_CLI = """#!{python}
import json, sys
if sys.argv[1:] == ["auth", "status"]:
    print(json.dumps({{"loggedIn": True, "authMethod": "claude.ai"}}))
    sys.exit()
def say(**message):
    print(json.dumps(message), flush=True)
heard = open({heard!r}, "a")
heard.write(json.dumps(sys.argv[3:]) + "\\n")
if "--resume" in sys.argv:
    say(type="result", subtype="error_during_execution", is_error=True, errors=[{words!r}])
    sys.exit(1)
say(type="system", subtype="init", apiKeySource="none", permissionMode="bypassPermissions")
for line in sys.stdin:
    heard.write(line)
    heard.flush()
    if len(open({heard!r}).readlines()) >= {lines}:
        say(type="result", subtype="success", is_error=False)
"""


@pytest.mark.parametrize("earlier", [False, True])
def test_the_agent_begins_anew_from_the_plan(
    steward: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    earlier: bool,
) -> None:
    """In the same attempt, once, with the plan and all that the user has said; the box's own
    conversation, where there is one, is tried first and kept aside."""
    heard, cli = tmp_path / "heard", tmp_path / "claude"
    lines = 5 if earlier else 4
    text = _CLI.format(python=sys.executable, heard=str(heard), words=NOT_FOUND, lines=lines)
    cli.write_text(text)
    cli.chmod(0o755)
    monkeypatch.setattr(steward, "CLI", str(cli))
    monkeypatch.setattr(steward, "VOLUME", str(tmp_path))
    monkeypatch.setattr(steward, "ROOM", str(tmp_path))
    monkeypatch.setattr(steward.probe, "examine", lambda _: [{"name": "x", "ok": True}])
    monkeypatch.setattr(steward.harvest, "free_locks", lambda _: None)
    if earlier:
        (tmp_path / "box.jsonl").write_text("damaged\n")
    made = steward.Steward()
    monkeypatch.setattr(made, "environment", lambda: dict.fromkeys(steward_names(), ""))
    monkeypatch.setattr(made, "complaints", lambda: None)
    converse = made.converse

    def closed(argv: list[str], env: dict[str, str]) -> tuple[int, str]:
        ended: tuple[int, str] = converse(argv, env)
        # Its pipes end with the steward's process otherwise.
        with contextlib.suppress(BrokenPipeError), made.cli:
            pass
        return ended

    monkeypatch.setattr(made, "converse", closed)
    made.early = ["mind the tests"]
    made.wish = {
        "cwd": str(tmp_path), "billing": "subscription", "settings": {},
        "conversation": "box.jsonl",
        "arguments": ["--resume", "a"], "prompt": "Proceed.",
        "again": ["--resume", "b"], "prompt_again": "Go on.",
        "anew": ["--session-id", "b"], "prompt_anew": "Implement the plan.",
    }  # fmt: skip
    code, why = made.carry_out()
    assert (code, why, made.seen_result) == (0, "", True)
    said = [json.loads(line) for line in heard.read_text().splitlines()]
    starts = [x[3:] for x in said if isinstance(x, list)]  # behind --setting-sources user
    assert starts == [*[["--resume", "b"]] * earlier, ["--resume", "a"], ["--session-id", "b"]]
    spoken = [x["message"]["content"] for x in said if isinstance(x, dict)]
    assert spoken == ["Implement the plan.", "mind the tests"]
    events = [json.loads(x) for x in capsys.readouterr().out.splitlines()]
    assert [x["why"] for x in events if x.get("event") == "begun-anew"] == [NOT_FOUND]
    assert (tmp_path / "box.jsonl.lost").exists() == earlier


def steward_names() -> list[str]:
    """The variables that the steward pins in the settings."""
    return ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY"]
