"""The stand-in's script: which scene and which step a request is in, and what is answered."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plandock.standin import (
    Failure,
    Scene,
    Script,
    ScriptError,
    ToolCall,
    Turn,
    commit,
    edit_file,
    execution_scene,
    planning_scene,
    script_from_json,
    to_json,
    write_file,
)
from plandock.standin.conversation import (
    filled,
    locate,
    offered_tools,
    plan_file,
    session_id,
    working_directory,
)
from plandock.standin.sse import cut, events, frame, message, usage

EXECUTE = execution_scene([write_file("a.txt", "a"), commit("Add a")])
PLAN = planning_scene("# Plan\n", ["README.md"])
SCRIPT = Script((EXECUTE, PLAN))

Message = dict[str, Any]


def said(text: str) -> Message:
    """A user message."""
    return {"role": "user", "content": [{"type": "text", "text": text}]}


def called(number: int, name: str = "Read", given: dict[str, Any] | None = None) -> Message:
    """An assistant message with one tool call."""
    block = {"type": "tool_use", "id": f"toolu_{number}", "name": name, "input": given or {}}
    return {"role": "assistant", "content": [block]}


def returned(number: int, *more: str, is_error: bool = False) -> Message:
    """The result of that call, with texts beside it."""
    block = {
        "type": "tool_result",
        "tool_use_id": f"toolu_{number}",
        "content": "…",
        "is_error": is_error,
    }
    return {"role": "user", "content": [block, *[{"type": "text", "text": t} for t in more]]}


def body(*messages: Message, tools: tuple[str, ...] = ("Read", "ExitPlanMode")) -> dict[str, Any]:
    """A request with those messages and tools."""
    return {
        "model": "some-model",
        "messages": list(messages),
        "tools": [{"name": name, "input_schema": {"properties": {}}} for name in tools],
    }


def where(*messages: Message, tools: tuple[str, ...] = ("Read", "ExitPlanMode")) -> tuple[str, int]:
    """Scene and step of such a request."""
    place = locate(SCRIPT, body(*messages, tools=tools))
    return place.scene.name, place.step


def test_text_without_match_takes_the_default_scene() -> None:
    """A conversation that matches nothing is in the default scene's first step."""
    assert where(said("Add a greeting")) == ("plan", 0)


def test_steps_count_the_answers_since_the_anchor() -> None:
    """Each answered tool call moves the scene on by one."""
    assert where(said("Add it"), called(1), returned(1), called(2), returned(2)) == ("plan", 2)


def test_later_prompt_switches_the_scene() -> None:
    """The same conversation continued with another prompt starts the execution."""
    messages = [said("Add it"), called(1), returned(1), said("Carry out the accepted plan.")]
    assert where(*messages) == ("execute", 0)
    assert where(*messages, called(2), returned(2)) == ("execute", 1)


def test_prompt_merged_into_a_tool_result_still_counts() -> None:
    """On resume the CLI puts the new prompt into the message that holds the last tool result."""
    merged = returned(1, "Carry out the accepted plan.")
    assert where(said("Add it"), called(1), merged) == ("execute", 0)


@pytest.mark.parametrize(
    "text",
    [
        "<system-reminder>implement the plan</system-reminder>",
        "[Request interrupted by user for tool use]",
        "Tool loaded.",
    ],
)
def test_texts_of_the_cli_anchor_nothing(text: str) -> None:
    """Reminders and the CLI's own notes neither match a scene nor start one anew."""
    assert where(said("Add it"), called(1), returned(1, text)) == ("plan", 1)
    assert where(said("Add it"), called(1), returned(1), said(text)) == ("plan", 1)


def test_unmatched_words_do_not_restart_a_matched_scene() -> None:
    """'Go on' after an interruption continues where the scene stood."""
    start = [said("Carry out the plan"), called(1), returned(1)]
    assert where(*start, said("go on, please")) == ("execute", 1)


def test_foreign_text_answers_are_not_counted() -> None:
    """A text that the CLI put there, where a call is due, is no step of the scene."""
    error = {"role": "assistant", "content": [{"type": "text", "text": "No response requested."}]}
    assert where(said("Carry out the plan"), error, said("go on")) == ("execute", 0)


def test_a_call_that_was_cut_off_is_made_once_more() -> None:
    """The CLI says that its outcome is unknown; a model that checks does not take it for done."""
    cut = returned(1, is_error=True)
    cut["content"][0]["content"] = "[Tool call interrupted: the session ended before this call's …]"
    start = [said("Carry out the plan"), called(1)]
    assert where(*start, cut, said("go on")) == ("execute", 0)
    assert where(*start, cut, said("go on"), called(2), returned(2)) == ("execute", 1)
    assert where(*start, returned(1, is_error=True), said("go on")) == ("execute", 1)


def test_repeated_answers_of_a_cut_stream_count_once() -> None:
    """What a cut stream left and its repetition stand side by side and are one step."""
    left = {"role": "assistant", "content": [{"type": "text", "text": "Let me look"}]}
    assert where(said("Carry out the plan"), left, called(1), returned(1)) == ("execute", 1)


def test_past_the_end_there_is_no_turn() -> None:
    """A finished scene has nothing more to say."""
    done = [said("Carry out the plan"), called(1), returned(1), called(2), returned(2)]
    over = {"role": "assistant", "content": "The plan is carried out."}
    assert locate(SCRIPT, body(*done, over, said("thanks"))).turn is None


def test_toolsearch_is_skipped_where_exitplanmode_is_offered() -> None:
    """A CLI that offers ExitPlanMode from the start is not asked to load it."""
    place = locate(SCRIPT, body(said("x"), called(1), returned(1), called(2), returned(2)))
    assert place.turn is not None
    assert [call.name for call in place.turn.calls] == ["ExitPlanMode"]


def test_toolsearch_loads_exitplanmode_and_keeps_its_step() -> None:
    """Where the tool must be loaded, the loading stays a step after the tool is there."""
    tools = ("Read", "ToolSearch")
    so_far = [said("x"), called(1), returned(1), called(2), returned(2)]
    place = locate(SCRIPT, body(*so_far, tools=tools))
    assert place.turn is not None
    search = place.turn.calls[0]
    assert search.name == "ToolSearch"
    loaded = returned(3, "Tool loaded.")
    loaded["content"][0]["content"] = [{"type": "tool_reference", "tool_name": "ExitPlanMode"}]
    so_far += [called(3, "ToolSearch", dict(search.input)), loaded]
    place = locate(SCRIPT, body(*so_far, tools=tools))
    assert place.turn is not None
    assert (place.step, place.turn.calls[0].name) == (3, "ExitPlanMode")


def test_deferred_tool_counts_only_once_it_is_referred_to() -> None:
    """A tool that is announced for later is not offered yet."""
    asked = body(said("x"))
    asked["tools"].append({"name": "Later", "defer_loading": True})
    assert "Later" not in offered_tools(asked)


@pytest.mark.parametrize(("is_error", "calls"), [(False, ["Write"]), (True, [])])
def test_continuation_follows_an_approval_only(is_error: bool, calls: list[str]) -> None:
    """After an approved plan the model goes on; after a refused one it waits."""
    so_far = [said("x"), called(1), returned(1), called(2), returned(2)]
    so_far += [called(3, "ExitPlanMode"), returned(3, is_error=is_error)]
    turn = locate(SCRIPT, body(*so_far)).turn
    assert turn is not None
    assert [call.name for call in turn.calls] == calls


def test_planning_scene_has_its_extra_reads_and_siblings() -> None:
    """Twenty more tool calls, and what stands beside ExitPlanMode, are in the scene."""
    scene = planning_scene("p", ["a"], extra_reads=20, siblings=[write_file("s", "")])
    assert sum(call.name == "Read" for turn in scene.turns for call in turn.calls) == 21
    assert ["ExitPlanMode", "Write"] in [[c.name for c in turn.calls] for turn in scene.turns]


def test_edit_is_preceded_by_a_read_once() -> None:
    """The CLI edits only what was read or written before."""
    scene = execution_scene(
        [edit_file("a", "1", "2"), edit_file("a", "2", "3"), write_file("b", ""),
         edit_file("b", "", "x")]
    )  # fmt: skip
    names = [call.name for turn in scene.turns for call in turn.calls]
    assert names == ["Read", "Edit", "Edit", "Write", "Edit"]


def test_working_directory_comes_from_the_last_text_of_the_cli() -> None:
    """The environment section counts, in system texts and system messages; a user's words don't."""
    asked = body(said(" - Primary working directory: /wrong"))
    asked["system"] = [{"type": "text", "text": "# Env\n - Primary working directory: /a b/c\n"}]
    assert working_directory(asked) == "/a b/c"
    asked["messages"].append({"role": "system", "content": "x\nWorking directory: /later\ny"})
    assert working_directory(asked) == "/later"


def test_working_directory_without_environment_section() -> None:
    """After a cleared context the newest CLI names it to its classifier only, or not at all."""
    asked = body(said("Implement the following plan: x"))
    assert filled(write_file("f", ""), asked)["file_path"] == "./f"
    asked["safeguards"] = [{"classifier_context": {"live_cwd": "/w"}}]
    assert filled(write_file("f", ""), asked)["file_path"] == "/w/f"


def test_plan_file_is_found_in_reminders() -> None:
    """The path of the plan file is read from wherever the CLI names it."""
    text = "create your plan at /home/a b/.claude/plans/x-y.md using the Write tool."
    assert (
        plan_file(body(said(f"<system-reminder>{text}</system-reminder>")))
        == "/home/a b/.claude/plans/x-y.md"
    )
    assert plan_file(body(said("x"))) == ""


def test_placeholders_are_filled_and_other_braces_kept() -> None:
    """Only the two placeholders are replaced, at any depth."""
    asked = body(said("x"))
    asked["system"] = "Working directory: /w"
    call = ToolCall("Bash", {"command": "echo {cwd} {x} ${y}", "list": ["{cwd}/z"]})
    assert filled(call, asked) == {"command": "echo /w {x} ${y}", "list": ["/w/z"]}


def test_optional_input_follows_the_schema() -> None:
    """ExitPlanMode gets its plan only where the CLI's schema has such a property."""
    call = ToolCall("ExitPlanMode", {}, {"plan": "p"})
    asked = body(said("x"))
    assert filled(call, asked) == {}
    asked["tools"][1]["input_schema"]["properties"] = {"plan": {}}
    assert filled(call, asked) == {"plan": "p"}


@pytest.mark.parametrize(
    "user_id", ['{"device_id":"d","session_id":"s-1"}', "user_d_account__session_s-1"]
)
def test_session_id_is_read_from_the_metadata(user_id: str) -> None:
    """Both spellings of the conversation's id are understood."""
    assert session_id({"metadata": {"user_id": user_id}}) == "s-1"


def test_script_survives_json() -> None:
    """A script written as JSON and read again is the same script."""
    turn = Turn("t", failure=Failure("usage_limit", times=None, until_reset=True))
    script = Script((EXECUTE, PLAN, Scene("odd", (turn,), "x")), default="plan")
    assert script_from_json(json.loads(json.dumps(to_json(script)))) == script


@pytest.mark.parametrize(
    "data",
    [
        [],
        {},
        {"scenes": {}},
        {"scenes": [{"turns": []}]},
        {"scenes": [{"name": "a", "turns": [], "match": "("}]},
        {"scenes": [{"name": "a", "turns": [{"txt": "b"}]}]},
        {"scenes": [{"name": "a", "turns": [{"text": 3}]}]},
        {"scenes": [{"name": "a", "turns": [{"calls": [{"input": {}}]}]}]},
        {"scenes": [{"name": "a", "turns": [{"failure": "no such"}]}]},
        {"scenes": [{"name": "a", "turns": []}, {"name": "a", "turns": []}]},
        {"scenes": [{"name": "a", "turns": []}], "default": "b"},
    ],
)
def test_misshapen_scripts_are_refused(data: object) -> None:
    """A mistake in a script is named when it is read."""
    with pytest.raises(ScriptError):
        script_from_json(data)


JSON_TEXT = st.dictionaries(st.text(max_size=9), st.text(max_size=400), max_size=4)


def reassembled(stream: bytes) -> list[dict[str, Any]]:
    """Read a stream the way a client does: frames, then blocks from their deltas."""
    found: list[dict[str, Any]] = []
    parts: dict[int, str] = {}
    for part in stream.decode().split("\n\n")[:-1]:
        head, data = part.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert head == f"event: {event['type']}"
        if event["type"] == "content_block_start":
            found.append(event["content_block"])
            parts[event["index"]] = ""
        if event["type"] == "content_block_delta":
            delta = event["delta"]
            parts[event["index"]] += delta.get("text", delta.get("partial_json", ""))
    for index, block in enumerate(found):
        key = "text" if block["type"] == "text" else "input"
        block[key] = parts[index] if key == "text" else json.loads(parts[index])
    return found


@given(st.text(max_size=400), JSON_TEXT)
def test_streamed_content_is_what_was_meant(text: str, given_input: dict[str, str]) -> None:
    """A client that joins the deltas gets back every block, whatever characters it holds."""
    content: list[dict[str, Any]] = [
        {"type": "text", "text": text},
        {"type": "tool_use", "id": "toolu_1", "name": "Write", "input": given_input},
    ]
    whole = message("m", content, usage(4000, content, first=True))
    assert reassembled(b"".join(map(frame, events(whole)))) == content


def test_events_come_in_the_order_of_the_api() -> None:
    """A stream starts with the message, closes each block and ends with the stop reason."""
    content = [{"type": "tool_use", "id": "t", "name": "N", "input": {}}]
    whole = message("m", content, usage(4000, content, first=False))
    found = list(events(whole))
    assert [event["type"] for event in found] == [
        "message_start", "ping", "content_block_start", "content_block_delta",
        "content_block_stop", "message_delta", "message_stop",
    ]  # fmt: skip
    assert found[-2]["delta"]["stop_reason"] == "tool_use"
    assert found[0]["message"]["usage"]["cache_read_input_tokens"] == 900


def test_cut_ends_in_the_middle_of_the_tool_call() -> None:
    """A cut stream has begun its call and leaves JSON that cannot be read."""
    content = [{"type": "tool_use", "id": "t", "name": "N", "input": {"key": "v" * 300}}]
    found = cut(list(events(message("m", content, usage(40, content, first=True)))))
    partial = "".join(e["delta"]["partial_json"] for e in found if "delta" in e)
    assert partial.startswith('{"key": "v')
    with pytest.raises(ValueError):
        json.loads(partial)
