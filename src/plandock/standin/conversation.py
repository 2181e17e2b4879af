"""Reads a model request: which scene it is in, at which step, and what its answer needs to know.

The stand-in keeps no conversation of its own. All of it stands in the request, so a conversation
that is forked, moved into a box or resumed after a crash goes on at the right place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plandock.standin.script import Scene, Script, ToolCall, Turn

_REMINDER = re.compile(r"<system-reminder>.*?</system-reminder>", re.DOTALL)
# Where it changed, 2.1.332 says "(was …)" after it.
_CWD = re.compile(
    r"^[ \t]*(?:- )?(?:Primary w|W)orking directory: (\S.*?)(?: \(was /.*\))?[ \t]*$", re.MULTILINE
)
_PLAN_FILE = re.compile(r"\b(?:at|file|to):?[ \t]+(/[^\n]*?/plans/[^/\n]+?\.md)\b")
_PLAN_FILE_BARE = re.compile(r"(/[^\s`\"']*?/plans/[^/\s`\"']+\.md)")

#: Plain text of the CLI's own in user messages; the second stands beside ToolSearch's result
#: (measured with 2.1.330).
_OF_THE_CLI = ("[Request interrupted", "Tool loaded.")

#: The result that 2.1.330 puts in where a call was cut off: it may have run, or half, or not.
_CUT_OFF = "[Tool call interrupted"


@dataclass(frozen=True)
class Place:
    """Where a request stands: scene, step (0 is the scene's first turn) and the turn itself.

    `turn` is None past the end of the scene. `prompt` is the user text that anchors the scene.
    """

    scene: Scene
    step: int
    turn: Turn | None
    prompt: str


def blocks(content: object) -> list[Mapping[str, Any]]:
    """Return a message's content as blocks; a bare string is one text block."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if isinstance(content, list):
        return [block for block in content if isinstance(block, dict)]
    return []


def real_user_text(message: Mapping[str, Any]) -> str:
    """Return what a person wrote in this message, without reminders and tool results.

    The CLI's own notes are not a person's text either; a prompt that the CLI merged into the
    message of a tool result is.
    """
    if message.get("role") != "user":
        return ""
    texts = [
        _REMINDER.sub("", str(block.get("text", ""))).strip()
        for block in blocks(message.get("content"))
        if block.get("type") == "text"
    ]
    return "\n".join(t for t in texts if t and not t.startswith(_OF_THE_CLI))


def locate(script: Script, body: Mapping[str, Any]) -> Place:
    """Find the scene and the step of a request from its messages alone.

    The latest user text that matches any scene anchors it, so that words added later ("go on")
    do not start anything anew; within one text the script's order of scenes decides.
    """
    messages = _messages(body)
    texts = [(index, text) for index, m in enumerate(messages) if (text := real_user_text(m))]
    for index, text in reversed(texts):
        for scene in script.scenes:
            if scene.match and re.search(scene.match, text):
                return _place(scene, messages[index + 1 :], body, text)
    index, text = texts[-1] if texts else (-1, "")
    return _place(script.default_scene, messages[index + 1 :], body, text)


def offered_tools(body: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the request's tools by name; those only announced as loadable later are left out.

    A deferred tool counts from the moment a tool result refers to it (`tool_reference`).
    """
    referred = {
        str(item.get("tool_name"))
        for message in _messages(body)
        for block in blocks(message.get("content"))
        for item in blocks(block.get("content"))
        if item.get("type") == "tool_reference"
    }
    found: dict[str, Mapping[str, Any]] = {name: {} for name in referred}
    for tool in body.get("tools") or ():
        name = str(tool.get("name", ""))
        if not tool.get("defer_loading") or name in referred:
            found[name] = tool
    return found


def working_directory(body: Mapping[str, Any]) -> str:
    """Return the working directory that the CLI's environment section names last.

    Measured: 2.1.330 sends no such section after a cleared context. In auto mode its classifier's
    context names the directory; else "." is left, which the CLI's tools resolve themselves.
    """
    return _last(_CWD, body) or _live_cwd(body) or "."


def plan_file(body: Mapping[str, Any]) -> str:
    """Return the path of the plan file that the CLI's own texts name last, or ""."""
    return _last(_PLAN_FILE, body) or _last(_PLAN_FILE_BARE, body)


def session_id(body: Mapping[str, Any]) -> str:
    """Return the conversation's id from `metadata.user_id` (JSON, or `…_session_<id>`), or ""."""
    metadata = body.get("metadata")
    user_id = str(metadata.get("user_id", "")) if isinstance(metadata, dict) else ""
    try:
        return str(json.loads(user_id).get("session_id", ""))
    except (ValueError, AttributeError):
        return user_id.rpartition("_session_")[2] if "_session_" in user_id else ""


def filled(call: ToolCall, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a call's input with its placeholders filled and the schema's optional parts added."""
    values = {"{cwd}": working_directory(body), "{plan_file}": plan_file(body)}
    given = dict(call.input)
    schema = offered_tools(body).get(call.name, {}).get("input_schema")
    properties = schema.get("properties", {}) if isinstance(schema, dict) else {}
    given.update({k: v for k, v in (call.if_in_schema or {}).items() if k in properties})
    return {key: _fill(item, values) for key, item in given.items()}


def _live_cwd(body: Mapping[str, Any]) -> str:
    for safeguard in blocks(body.get("safeguards")):
        context = safeguard.get("classifier_context")
        if isinstance(context, dict) and context.get("live_cwd"):
            return str(context["live_cwd"])
    return ""


def _fill(item: Any, values: Mapping[str, str]) -> Any:
    # Not str.format: file contents and commands are full of braces of their own.
    if isinstance(item, str):
        for mark, value in values.items():
            item = item.replace(mark, value)
        return item
    if isinstance(item, list | tuple):
        return [_fill(part, values) for part in item]
    if isinstance(item, Mapping):
        return {key: _fill(part, values) for key, part in item.items()}
    return item


def _messages(body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    messages = body.get("messages")
    return [m for m in messages if isinstance(m, dict)] if isinstance(messages, list) else []


def _place(
    scene: Scene, since: Sequence[Mapping[str, Any]], body: Mapping[str, Any], prompt: str
) -> Place:
    offered = offered_tools(body)
    called = {
        (block.get("name"), json.dumps(block.get("input"), sort_keys=True))
        for message in since
        for block in blocks(message.get("content"))
        if block.get("type") == "tool_use"
    }
    turns = [turn for turn in scene.turns if _stands(turn, offered, called)]
    step = 0
    for has_call in _answers(since):
        # A text without a call where a call is due was not this script's: the CLI puts such
        # messages of its own into a conversation that was interrupted.
        if has_call or (step < len(turns) and not turns[step].calls):
            step += 1
    if step >= len(turns):
        return Place(scene, step, None, prompt)
    turn = turns[step]
    if turn.needs_ok and not _went_well(turn.needs_ok, since):
        turn = Turn(turn.otherwise)
    return Place(scene, step, turn, prompt)


def _stands(turn: Turn, offered: Mapping[str, object], called: set[tuple[Any, str]]) -> bool:
    """Whether a conditional turn is part of the scene; one that was spoken stays part of it."""
    for call in turn.calls:
        if (call.name, json.dumps(dict(call.input), sort_keys=True)) in called:
            return True
    if turn.unless_offered and turn.unless_offered in offered:
        return False
    return not turn.if_offered or turn.if_offered in offered


def _answers(since: Sequence[Mapping[str, Any]]) -> list[bool]:
    """For each answer since the anchor, whether it holds a tool call that came to an end.

    Neighbouring assistant messages are one answer: what a cut stream left, and its repetition.
    A call that was cut off is made once more, as a model does that has been told to check.
    """
    answers: list[bool] = []
    previous = ""
    cut_off = {
        block.get("tool_use_id")
        for message in since
        for block in blocks(message.get("content"))
        if block.get("type") == "tool_result" and _result_text(block).startswith(_CUT_OFF)
    }
    for message in since:
        role = str(message.get("role"))
        if role == "assistant":
            has_call = any(
                b.get("type") == "tool_use" and b.get("id") not in cut_off
                for b in blocks(message.get("content"))
            )
            if previous == "assistant":
                answers[-1] = answers[-1] or has_call
            else:
                answers.append(has_call)
        previous = role
    return answers


def _result_text(block: Mapping[str, Any]) -> str:
    return "".join(str(part.get("text", "")) for part in blocks(block.get("content")))


def _went_well(tool: str, since: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the latest result of a tool is there and no error."""
    ids: set[object] = set()
    ok = False
    for message in since:
        for block in blocks(message.get("content")):
            if block.get("type") == "tool_use" and block.get("name") == tool:
                ids.add(block.get("id"))
            if block.get("type") == "tool_result" and block.get("tool_use_id") in ids:
                ok = not block.get("is_error")
    return ok


def _last(pattern: re.Pattern[str], body: Mapping[str, Any]) -> str:
    """Search the CLI's own texts only: system, system messages, reminders in user messages."""
    texts = [str(block.get("text", "")) for block in blocks(body.get("system"))]
    for message in _messages(body):
        for block in blocks(message.get("content")):
            if block.get("type") != "text":
                continue
            text = str(block.get("text", ""))
            if message.get("role") == "system":
                texts.append(text)
            elif message.get("role") == "user":
                texts += _REMINDER.findall(text)
    found = [match for text in texts for match in pattern.findall(text)]
    return str(found[-1]) if found else ""
