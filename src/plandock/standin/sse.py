"""Builds the answer of the Messages API: one message, or its server-sent events.

Shapes follow Anthropic's public Messages API reference (streaming: `message_start`,
`content_block_start`/`_delta`/`_stop`, `message_delta`, `message_stop`).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

#: Parts that a block is cut into at most: enough to be a stream, few enough to be quick.
_PARTS = 24
_MIN_PART = 48


def new_id(prefix: str) -> str:
    """Return a fresh id as the API makes them, such as `msg_01…` or `toolu_01…`."""
    return f"{prefix}_01{uuid.uuid4().hex[:22]}"


def frame(event: dict[str, Any]) -> bytes:
    """Return one server-sent event; its name is the event's own `type`."""
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


def usage(request_bytes: int, content: Sequence[dict[str, Any]], *, first: bool) -> dict[str, int]:
    """Estimate token counts as a real answer would have them: about four bytes to a token.

    The first request of a scene writes the prompt cache; later ones read most of it.
    """
    prompt = max(8, request_bytes // 4)
    cached = prompt * 9 // 10
    return {
        "input_tokens": prompt - cached,
        "cache_creation_input_tokens": cached if first else 0,
        "cache_read_input_tokens": 0 if first else cached,
        "output_tokens": max(1, len(json.dumps(list(content))) // 4),
    }


def message(
    model: str, content: Sequence[dict[str, Any]], tokens: dict[str, int]
) -> dict[str, Any]:
    """Return a whole Messages API message; its stop reason follows from its content."""
    calls = any(block["type"] == "tool_use" for block in content)
    return {
        "id": new_id("msg"),
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": list(content),
        "stop_reason": "tool_use" if calls else "end_turn",
        "stop_sequence": None,
        "usage": dict(tokens),
    }


def events(whole: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the events that stream a message, in the API's order."""
    tokens = whole["usage"]
    yield {
        "type": "message_start",
        "message": {
            **whole,
            "content": [],
            "stop_reason": None,
            "usage": {**tokens, "output_tokens": 1},
        },
    }
    yield {"type": "ping"}
    for index, block in enumerate(whole["content"]):
        yield from _block_events(index, block)
    yield {
        "type": "message_delta",
        "delta": {"stop_reason": whole["stop_reason"], "stop_sequence": None},
        "usage": {"output_tokens": tokens["output_tokens"]},
    }
    yield {"type": "message_stop"}


def cut(parts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the events up to the middle of the last block, a tool call wherever there is one."""
    deltas = [n for n, event in enumerate(parts) if event["type"] == "content_block_delta"]
    calls = [n for n in deltas if parts[n]["delta"]["type"] == "input_json_delta"]
    last = (calls or deltas)[-1]
    event = parts[last]
    key = "partial_json" if calls else "text"
    half = event["delta"][key][: len(event["delta"][key]) // 2]
    return [*parts[:last], {**event, "delta": {**event["delta"], key: half}}]


def error_body(kind: str, text: str) -> dict[str, Any]:
    """Return the API's error object, such as `rate_limit_error`."""
    return {
        "type": "error",
        "error": {"type": kind, "message": text},
        "request_id": new_id("req"),
    }


def _block_events(index: int, block: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if block["type"] == "text":
        start: dict[str, Any] = {"type": "text", "text": ""}
        kind, key, whole = "text_delta", "text", block["text"]
    else:
        start = {**block, "input": {}}
        kind, key, whole = "input_json_delta", "partial_json", json.dumps(block["input"])
    yield {"type": "content_block_start", "index": index, "content_block": start}
    size = max(_MIN_PART, -(-len(whole) // _PARTS))
    for offset in range(0, max(1, len(whole)), size):
        delta = {"type": kind, key: whole[offset : offset + size]}
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}
