"""The CLI's headless output, which comes out of the box and is hostile until checked."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from plandock.claude.stream import Progress

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
KEYS = (
    "usage",
    "num_turns",
    "total_cost_usd",
    "permission_denials",
    "rate_limit_info",
    "errors",
    "api_error_params",
    "result",
    "session_id",
    "event",
    "code",
    "status",
    "is_error",
)


def told(*messages: object) -> Progress:
    """What these messages tell."""
    progress = Progress()
    for message in messages:
        progress.take(json.dumps(message).encode())
    return progress


def test_a_result_without_an_error_is_success() -> None:
    """Turns, tokens and refused calls come from the result."""
    progress = told(
        {
            "type": "result",
            "subtype": "success",
            "is_error": False,
            "num_turns": 3,
            "total_cost_usd": 0.5,
            "usage": {"input_tokens": 1, "cache_read_input_tokens": 2, "output_tokens": 4},
            "permission_denials": [{"tool_name": "Bash", "tool_input": {"command": "git push"}}],
        }
    )
    assert progress.succeeded
    assert (progress.turns, progress.usage.output_tokens) == (3, 4)
    assert progress.denied[0]["tool"] == "Bash"


def test_success_with_is_error_is_a_failure() -> None:
    """`subtype: success` beside `is_error: true` is what a limit looks like (measured)."""
    assert not told({"type": "result", "subtype": "success", "is_error": True}).succeeded


def test_no_result_is_a_failure() -> None:
    """An exit without a result must not count as done."""
    assert not told({"type": "system", "subtype": "init"}).succeeded


def test_only_a_rejected_limit_counts() -> None:
    """A healthy run also carries `resetsAt`, with status `allowed` (measured)."""
    info = {"status": "allowed", "resetsAt": 5}
    assert told({"type": "rate_limit_event", "rate_limit_info": info}).resets_at == 0
    info = {"status": "rejected", "resetsAt": 5}
    assert told({"type": "rate_limit_event", "rate_limit_info": info}).resets_at == 5


@given(st.sampled_from(["result", "system", "plandock", "assistant", "rate_limit_event", "x"]),
       st.dictionaries(st.sampled_from(KEYS), JSON))  # fmt: skip
def test_no_message_breaks_the_reader(kind: str, rest: dict[str, object]) -> None:
    """Whatever types the box sends, reading goes on and the totals are plain numbers."""
    progress = told({"type": kind, "subtype": "init", **rest})
    assert isinstance(progress.turns, int)
    assert isinstance(progress.closing_words, str)
    assert isinstance(progress.succeeded, bool)


@given(st.binary(max_size=200))
def test_garbage_is_passed_over(line: bytes) -> None:
    """A line that is no JSON object tells nothing and breaks nothing."""
    Progress().take(line)


def test_the_end_of_an_old_task_is_no_answer_to_the_prompt() -> None:
    """A conversation with a task of the planning phase begins with the turn of that task's end."""
    init = {"type": "system", "subtype": "init"}
    result = {"type": "result", "subtype": "success", "is_error": False, "num_turns": 0}
    of_task = result | {"origin": {"kind": "task-notification"}}
    progress = told(init, of_task)
    assert (progress.succeeded, progress.result) == (False, None)
    progress = told(init, of_task, init, result | {"num_turns": 3})
    assert (progress.succeeded, progress.turns) == (True, 3)


def test_the_last_turn_decides_and_all_of_them_are_counted() -> None:
    """A task's end begins a turn after the answer: one that is broken off is no success."""
    init = {"type": "system", "subtype": "init"}
    usage = {"input_tokens": 5, "output_tokens": 7, "cache_read_input_tokens": 11}
    result = {"type": "result", "subtype": "success", "is_error": False, "num_turns": 2}
    result |= {"usage": usage, "total_cost_usd": 0.5}
    later = result | {"origin": {"kind": "task-notification"}, "total_cost_usd": 0.75}
    progress = told(init, result, init)
    assert progress.succeeded is False
    progress = told(init, result, init, later)
    assert (progress.succeeded, progress.turns) == (True, 4)
    found = progress.usage
    assert (found.input_tokens, found.output_tokens, found.cache_read_tokens) == (10, 14, 22)
    assert found.cost_usd_equivalent == 0.75


def test_an_agent_that_used_up_its_turns_has_not_finished() -> None:
    """The end of what it had left in the background begins a turn with as many again."""
    init = {"type": "system", "subtype": "init"}
    spent = {"type": "result", "subtype": "error_max_turns", "is_error": True, "num_turns": 50}
    later = {"type": "result", "subtype": "success", "is_error": False, "num_turns": 1}
    later |= {"origin": {"kind": "task-notification"}}
    progress = told(init, spent, init, later)
    assert (progress.finished, progress.turns) == (False, 51)
    assert progress.result == spent
    # Another process of the CLI is another matter.
    started = {"type": "plandock", "event": "agent-started"}
    answer = {"type": "result", "subtype": "success", "is_error": False}
    assert told(init, spent, started).result is None
    assert told(init, spent, started, init, answer).finished


def test_what_was_left_in_the_background_is_a_note() -> None:
    """By name; whatever else the box writes there is no mistake."""
    event = {"type": "plandock", "event": "background-left"}
    progress = told(event | {"tasks": ["Serve", "Watch"]}, event | {"tasks": 3})
    assert "Serve, Watch" in progress.notes[0]
    assert len(progress.notes) == 2


def test_models_are_those_of_the_main_threads_answers() -> None:
    """Not what `init` names, not a subagent's, not the CLI's own words; bounded."""
    progress = Progress()
    for model, parent in (
        ("claude-sonnet-5-5", None), ("claude-haiku-5-5", "toolu_1"), ("<synthetic>", None),
        ("claude-sonnet-5-5", None), (["x"], None), ("claude-opus-5-5", None),
        *((f"m{n}", None) for n in range(100)),
    ):  # fmt: skip
        said = {"type": "assistant", "message": {"model": model}, "parent_tool_use_id": parent}
        progress.take(json.dumps(said).encode())
    assert progress.models[:2] == ["claude-sonnet-5-5", "claude-opus-5-5"]
    assert len(progress.models) == 20


def test_what_became_of_a_repositorys_settings_is_noted_bounded_and_printable() -> None:
    """What the box says of it is the run's note; it comes out of the box, and is hostile."""
    progress = told(
        {
            "type": "plandock",
            "event": "repository-settings",
            "lines": ["set aside: x\x1b[2J\ny", 1],
        },
        {"type": "plandock", "event": "repository-settings", "lines": "all"},
        {"type": "plandock", "event": "repository-settings", "lines": ["z" * 5000] * 100},
    )
    assert progress.notes[0] == "set aside: x y"
    assert len(progress.notes) <= 50
    assert max(len(note) for note in progress.notes) <= 3000
