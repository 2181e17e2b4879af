"""The CLI's headless output, line by line: what it tells about a run.

Messages: shared facts, section 4 (measured).  Everything here comes out of the box and is hostile
until checked: types are tested, numbers bounded, texts cut.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from plandock.box.inside.activity import Activity, spent
from plandock.box.inside.overage import Listener, Sign, sign_in
from plandock.claude.spending import Spending
from plandock.printable import one_line
from plandock.runs.model import Usage

_MOST_DENIED = 200
_MOST_NOTES = 50
_MOST_CHECKS = 100
_MOST_MODELS = 20
# Events of the steward's after which something of the user's or the agent's has run.
_AT_WORK = ("setup-ended", "agent-started", "auth-status")


@dataclass
class Progress:
    """What the output has told so far."""

    session_id: str = ""
    cli_version: str = ""
    init: dict[str, Any] | None = None
    auth_status: Any = None
    turns: int = 0
    usage: Usage = field(default_factory=Usage)
    denied: list[dict[str, Any]] = field(default_factory=list)
    result: dict[str, Any] | None = None  # of the last turn, where that has ended
    resets_at: int = 0
    limited: bool = False  # a usage limit was met, and nothing came after it
    api_trouble: bool = False  # the CLI tried again, and nothing came after it
    error_kind: str = ""  # what the CLI calls its last error, where nothing came after it
    moved: bool = False  # the model has said something
    billing_refused: str = ""
    asks_in_mode: str = ""  # the permission mode, where the CLI would ask somebody
    listener: Listener = field(default_factory=Listener)
    credits: Sign | None = None  # usage credits pay, or may
    credits_heeded: bool = False  # the steward has said so, too
    spending: Spending = field(default_factory=Spending)
    isolation: list[dict[str, Any]] | None = None
    isolation_fault: str = ""
    ended: dict[str, Any] | None = None
    anew: bool = False  # the conversation could not be opened, the agent began from the plan
    answered: bool = False  # the prompt has a result, not the end of some task alone
    activity: Activity = field(default_factory=Activity)  # of the last process of the CLI
    hung_up: bool = False  # the steward saw no more work for that process, or waits no longer
    models: list[str] = field(default_factory=list)  # of the main thread's answers, in order
    subagent_models: list[str] = field(default_factory=list)  # of theirs
    notes: list[str] = field(default_factory=list)

    def take(self, line: bytes) -> dict[str, Any] | None:
        """Take one line of the box's log; returns the message, or None when it is none."""
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            return None
        if not isinstance(message, dict):
            return None
        kind, sub = message.get("type"), message.get("subtype")
        if self.isolation is None and (kind != "plandock" or message.get("event") in _AT_WORK):
            self.isolation_fault = self.isolation_fault or "it began without saying how it is"
        if kind != "plandock":
            self.credits = self.listener.take(message) or self.credits
            self.activity.take(message)
        if kind == "system" and sub == "init":
            self.init = message
            if not self.spent:
                self.result = None  # a turn has begun: what it ends with counts
            self.session_id = _text(message.get("session_id"))
            self.cli_version = _text(message.get("claude_code_version"))
            if message.get("permissionMode") != "bypassPermissions":
                self.asks_in_mode = _text(message.get("permissionMode"), 60) or "unknown"
        elif kind == "rate_limit_event":
            self._limit(message.get("rate_limit_info"))
        elif kind == "assistant":
            self._said(message.get("message"))
            subagent = bool(message.get("parent_tool_use_id"))
            self._answered_by(message.get("message"), subagent)
            if not subagent:
                self.error_kind = _text(message.get("error"), 60)
            # 2.1.332 sends no event of its own for a reset that has passed already (measured).
            told = message.get("api_error_params")
            self._limit(told.get("rate_limit_info") if isinstance(told, dict) else None)
        elif kind == "system" and sub == "api_retry":
            self.api_trouble = True
        elif kind == "result":
            self._result(message)
        elif kind == "plandock":
            self._own(message)
        return message

    def _limit(self, info: object) -> None:
        if isinstance(info, dict) and info.get("status") == "rejected":
            self.resets_at = _count(info.get("resetsAt"))
            # What credits pay for is answered all the same.
            self.limited = sign_in(info) is None

    def _said(self, said: object) -> None:
        if not isinstance(said, dict):
            return
        # The CLI puts its own errors into the model's mouth, under this name (measured).
        if said.get("model") != "<synthetic>":
            self.moved = True
            self.limited = self.api_trouble = False
            return
        content = said.get("content")
        for block in content if isinstance(content, list) else []:
            # After events that are no JSON this is all that it says, without a retry (measured).
            if isinstance(block, dict) and _text(block.get("text")).startswith("API Error"):
                self.api_trouble = True

    def _answered_by(self, said: object, subagent: bool) -> None:
        """Keep the model that the API says it answered with: `init` names the one that was set,
        which code inside the CLI can change (facts, section 11).  A subagent may have its own."""
        model = _text(said.get("model"), 100) if isinstance(said, dict) else ""
        known = self.subagent_models if subagent else self.models
        if model and model != "<synthetic>" and model not in known and len(known) < _MOST_MODELS:
            known.append(model)

    def _result(self, message: dict[str, Any]) -> None:
        # A conversation in which a task was at work begins with the turn of that task's end.
        self.answered = self.answered or not _answers_a_task(message)
        if not self.spent:
            self.result = message if self.answered else None
        self.turns += _count(message.get("num_turns"))
        usage = message.get("usage")
        usage = usage if isinstance(usage, dict) else {}
        # Tokens are of this turn, the cost is of all turns up to it (measured, both versions).
        self.spending.told(message.get("total_cost_usd"))
        before = self.usage
        self.usage = Usage(
            input_tokens=before.input_tokens
            + _count(usage.get("input_tokens"))
            + _count(usage.get("cache_creation_input_tokens")),
            output_tokens=before.output_tokens + _count(usage.get("output_tokens")),
            cache_read_tokens=before.cache_read_tokens
            + _count(usage.get("cache_read_input_tokens")),
            cost_usd_equivalent=self.spending.total_usd,
        )
        denials = message.get("permission_denials")
        for entry in denials[:_MOST_DENIED] if isinstance(denials, list) else []:
            if isinstance(entry, dict):
                shown = json.dumps(entry.get("tool_input"))[:500]
                self.denied.append({"tool": _text(entry.get("tool_name")), "input": shown})

    def _own(self, message: dict[str, Any]) -> None:
        event = message.get("event")
        if event == "isolation" and self.isolation is None:
            self._judge_isolation(message.get("checks"))
        if event == "auth-status":
            self.auth_status = message.get("status")
        elif event == "agent-started":
            self.spending.process_began()
            self.activity, self.hung_up = Activity(), False
            self.result = None if self.spent else self.result
        elif event == "hung-up":
            self.hung_up = True
        elif event == "credits":
            self.credits = self.credits or Sign.of(message)
            self.credits_heeded = True
            self.spending.credits_began(message.get("then"))
        elif event == "billing-refused":
            self.billing_refused = _text(message.get("api_key_source")) or "unknown"
        elif event == "agent-ended":
            self.ended = message
        elif event == "begun-anew":
            self.anew = True
            why = _text(message.get("why"), 300)
            self._note(f"the conversation could not be opened ({why}): begun anew from the plan")
        elif event == "line-cut":
            self._note(f"a line of {_count(message.get('bytes'))} bytes in the log was left out")
        elif event == "background-left":
            self.hung_up = True
            tasks = message.get("tasks")
            names = [_text(t, 100) for t in tasks[:20]] if isinstance(tasks, list) else []
            self._note(f"still at work in the background when the run ended: {', '.join(names)}")
        elif event == "repository-settings":
            lines = message.get("lines")
            for line in lines[:20] if isinstance(lines, list) else []:
                self._note(one_line(_text(line, 3000), limit=3000))
        elif event == "setup-ended" and message.get("code"):
            self.notes.append(f"setup failed: {_text(message.get('output'))[-500:]}")

    def _judge_isolation(self, checks: object) -> None:
        """The first report counts: whatever works in the box later could write another."""
        found = [c for c in checks if isinstance(c, dict)] if isinstance(checks, list) else []
        self.isolation = found[:_MOST_CHECKS]
        faults = [c for c in found if c.get("ok") is not True and c.get("ok", False) is not None]
        if faults:
            first = faults[0]
            self.isolation_fault = f"{_text(first.get('name'), 60)}: {_text(first.get('detail'))}"
        elif not any(c.get("ok") is True for c in found):
            self.isolation_fault = "its report names no check that passed"

    @property
    def isolation_words(self) -> str:
        """What the probe in the box found, in a sentence."""
        if self.isolation_fault:
            return f"not sealed: {self.isolation_fault}"
        if self.isolation is None:
            return ""
        passed = sum(c.get("ok") is True for c in self.isolation)
        unseen = [_text(c.get("name"), 60) for c in self.isolation if c.get("ok") is None]
        more = f"; not to be told here: {', '.join(unseen)}" if unseen else ""
        return f"probed from inside before the start: {passed} checks passed{more}"

    def _note(self, words: str) -> None:
        if len(self.notes) < _MOST_NOTES:
            self.notes.append(words)

    @property
    def spent(self) -> bool:
        """Whether the agent has used up its turns or its budget; a later turn mends nothing."""
        return self.result is not None and spent(self.result)

    @property
    def succeeded(self) -> bool:
        """Whether the agent finished: a result that is no error.  No result is a failure."""
        return (
            self.result is not None
            and self.result.get("subtype") == "success"
            and self.result.get("is_error") is False
        )

    @property
    def refused(self) -> bool:
        """Whether credits were told of beside a refusal, and nothing was answered since: what the
        API refuses, nobody pays."""
        status = (self.result or {}).get("api_error_status")
        return self.listener.unanswered and status == 429

    @property
    def finished(self) -> bool:
        """Whether all is done: it succeeded, and nothing of it was at work in the background when
        its box was ended, by whomever."""
        return self.succeeded and (self.hung_up or not self.activity.has_work)

    @property
    def closing_words(self) -> str:
        """The agent's last words, or its error."""
        if self.result is None:
            return ""
        errors = self.result.get("errors")
        first = errors[0] if isinstance(errors, list) and errors else ""
        words = self.result.get("result") or first
        return _text(words, 4000)


def _answers_a_task(result: dict[str, Any]) -> bool:
    origin = result.get("origin")
    return isinstance(origin, dict) and origin.get("kind") == "task-notification"


def _text(value: object, most: int = 2000) -> str:
    return value[:most] if isinstance(value, str) else ""


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return 0
    return int(min(max(value, 0), 10**12))
