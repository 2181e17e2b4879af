"""Whether the CLI could open the conversation that it was to go on from; read off its output.

Measured with 2.1.197 and 2.1.332: a conversation that is absent, empty or no records at all, and
an id that two projects hold, is "No conversation found"; a folder in its place, and in 2.1.197
records without a message, "Failed to resume session: …": both are a `result` without any turn
before it, and exit code 1.  2.1.197 begins a turn on records whose content is no content, and ends
it by an error of its own before any request (`terminal_reason` is `model_error`).
"""

from __future__ import annotations

from typing import Any

_TOO_LONG = "Prompt is too long"


class Opening:
    """Follows one process of the CLI that was started on an earlier conversation."""

    def __init__(self) -> None:
        self._begun = False
        self._at_the_api = False
        self.fault = ""
        """The CLI's words where it could not go on from that conversation; "" as long as it can."""

    def take(self, message: dict[str, Any]) -> None:
        """Take one message of the CLI."""
        kind, sub = message.get("type"), message.get("subtype")
        if kind == "system" and sub == "init":
            self._begun = True
        elif _is_the_models(message) or (kind == "system" and sub == "api_retry"):
            self._at_the_api = True
        elif kind == "result" and message.get("is_error") is True:
            self.fault = self._judge(message)

    def _judge(self, result: dict[str, Any]) -> str:
        if self._at_the_api:
            return ""
        errors = result.get("errors")
        first = errors[0] if isinstance(errors, list) and errors else result.get("result")
        words = first if isinstance(first, str) and first else "it ended before its first turn"
        if not self._begun:
            return words[:500]
        by_itself = result.get("terminal_reason") == "model_error"
        no_status = result.get("api_error_status") is None
        if by_itself and no_status and not words.startswith("API Error"):
            return words[:500]
        return words[:500] if words.startswith(_TOO_LONG) else ""


def _is_the_models(message: dict[str, Any]) -> bool:
    said = message.get("message") if message.get("type") == "assistant" else None
    # The CLI puts its own errors into the model's mouth, under this name (measured).
    return isinstance(said, dict) and said.get("model") != "<synthetic>"
