"""What waiting does not mend: results as both versions gave them for an answer of the API."""

from __future__ import annotations

from typing import Any

import pytest

from plandock.claude.api_errors import permanent
from tests.unit.test_verdict import (
    RETRY,
    SPOKE,
    ended,
    failed_result,
    rejected,
    synthetic,
    verdict,
)

LONG_197 = (
    "API Error: Usage credits required for 1M context · turn on usage credits at "
    "claude.ai/settings/usage, or use --model to switch to standard context"
)
LONG_332 = LONG_197.replace("claude.ai/settings/usage", "https://claude.ai/settings/usage?x=y")
NEWEST = {"api_error": "long_context_credits_required", "api_error_type": "rate_limit_error"}
BUSY = "API Error: Server is temporarily limiting requests (not your usage limit)"
NO_MODEL = (
    "There's an issue with the selected model (claude-opus-5-5). It may not exist or you may not "
    "have access to it. Run --model to pick a different model."
)
NO_PLAN = "Claude Opus is not available with the Claude Pro plan. If you have updated your …"


@pytest.mark.parametrize("before", [(), (RETRY, RETRY), (rejected(0), RETRY), (SPOKE,)])
@pytest.mark.parametrize(
    ("status", "words", "more", "reason", "hint"),
    [
        (429, LONG_197, {}, "credits", "subscription+credits"),
        (429, LONG_332, NEWEST, "credits", "subscription+credits"),
        (429, "other words", NEWEST, "credits", "subscription+credits"),
        (400, "API Error: 400 Extra usage is required for long context requests.", {},
         "credits", "subscription+credits"),
        (429, f"{BUSY} · Extra usage is required for this model.", {}, "credits", "plan again"),
        (429, f"{BUSY} · Usage credits are required for this.", {}, "credits", "plan again"),
        (429, "API Error: Extra usage must be enabled to use the 1M context window.", {}, "credits",
         "plan again"),
        (429, "You're out of extra usage", {}, "credits", "plan again"),
        (429, "API Error: 429 You need to enable extra usage", {}, "credits", "plan again"),
        (403, "This model needs usage credits.", {}, "credits", "plan again"),
        (400, "Credit balance is too low", {}, "credits", "add credit"),
        (402, "API Error: 402 payment required", {}, "agent", "logs"),
        (400, "API Error: 400 messages.1.content: something is wrong", {}, "agent", "logs"),
        (400, "Prompt is too long · the request is ~210000 tokens", {}, "agent", "resume"),
        (413, "Request too large (max 32MB). Try with a smaller file.", {}, "agent", "resume"),
        (403, "Failed to authenticate. API Error: 403 This organization has been disabled.", {},
         "account", "/login"),
        (400, "API Error: 400 This organization has been disabled.", {}, "account", "/login"),
        (403, "Failed to authenticate. API Error: 403 Your account does not have permission to "
              "use Claude Code.", {}, "account", "/login"),
        (403, "Your account does not have access to Claude Code. Please contact your "
              "administrator.", {"api_error_type": "permission_error"}, "account", "/login"),
        (403, "Please run /login · API Error: 403 Your account has been suspended.", {},
         "account", "/login"),
        (403, "Your account has been disabled", {}, "account", "/login"),
        (401, "API Error: 401 This organization has been disabled.", {}, "account", "/login"),
        (400, NO_PLAN, {}, "account", "/login"),
        (404, NO_MODEL, {}, "model", "/model"),
    ],
)  # fmt: skip
def test_it_ends_the_run_at_once_with_the_apis_words(
    before: tuple[dict[str, Any], ...],
    status: int,
    words: str,
    more: dict[str, Any],
    reason: str,
    hint: str,
) -> None:
    """However often the CLI tried again: no wait, a true reason, and the next step."""
    found = verdict(*before, {**failed_result(status, words), **more}, ended())
    assert (found.kind, found.ending["target"]) == ("end", "failed")
    assert (found.ending["reason"], found.ending["message"]) == (reason, words)
    assert hint in found.ending["hint"]


REFUSED = {"stop_reason": "refusal"}


@pytest.mark.parametrize(
    ("kind", "status", "more", "kind_of_end", "reason"),
    [
        ("invalid_request", None, REFUSED, "end", "refusal"),
        ("max_output_tokens", None, {}, "end", "agent"),
        ("oauth_org_not_allowed", 403, {}, "end", "account"),
        ("account_on_hold", 403, {}, "end", "account"),
        ("verification_required", 403, {}, "end", "account"),
        ("authentication_failed", 403, {}, "wait", "login"),
        ("unknown", None, {}, "wait", "overloaded"),
        ("server_error", None, {}, "wait", "overloaded"),
        (["max_output_tokens"], None, {}, "wait", "overloaded"),
    ],
)
def test_the_kind_that_the_cli_names_counts_whatever_its_words(
    kind: object, status: int | None, more: dict[str, Any], kind_of_end: str, reason: str
) -> None:
    """A model that refuses, an answer without an end and an account that is shut out have no
    words or no status to be known by (measured): asked again, they would answer the same."""
    told = {**synthetic("API Error: other words"), "error": kind}
    result = {**failed_result(status, "API Error: other words"), **more}
    found = verdict(SPOKE, told, result, ended())
    assert (found.kind, found.reason or found.ending["reason"]) == (kind_of_end, reason)
    of_a_subagent = {**told, "parent_tool_use_id": "toolu_1"}
    found = verdict(SPOKE, of_a_subagent, failed_result(529), ended())
    assert (found.kind, found.reason) == ("wait", "overloaded")


@pytest.mark.parametrize(
    ("status", "words", "reason"),
    [
        (429, f"{BUSY} · Number of requests has exceeded your rate limit", "overloaded"),
        (429, "Rate limit exceeded. You need extra usage to go faster.", "overloaded"),
        (429, "You're out of extra usage · resets 3pm (UTC)", "overloaded"),
        (429, f"{BUSY} · see extra usage. You must wait.", "overloaded"),
        (529, "Extra usage is required", "overloaded"),
        (401, "Failed to authenticate. API Error: 401 Invalid credentials", "login"),
        (403, "Failed to authenticate: OAuth token revoked. Please log in again or contact your "
              "administrator.", "login"),
        (403, "Your account does not have access to Claude. Please login again or contact your "
              "administrator.", "login"),
        (403, "API Error: 403 something new", "login"),
        (401, "Please run /login · API Error: 401 OAuth token has expired.", "login"),
        (401, "API Error: 401 Your account does not have access to this. Is it yours?", "login"),
        (403, "API Error: 403 OAuth token has been revoked", "login"),
    ],
)  # fmt: skip
def test_what_may_pass_is_waited_for(status: int, words: str, reason: str) -> None:
    """A busy API, a login that can be renewed, and what nobody knows."""
    found = verdict(RETRY, failed_result(status, words), ended())
    assert (found.kind, found.reason) == ("wait", reason)


def test_the_words_are_fit_to_print() -> None:
    """They come out of a box: no control characters, no token, no end of the line."""
    words = "a\x1b]0;x\x07\nb, credit balance is too low sk-ant-oat01-" + "x" * 60
    found = permanent({"is_error": True, "api_error_status": 400}, words)
    assert found is not None
    assert found.message.isprintable()
    assert "sk-ant" not in found.message
    assert permanent({"is_error": True, "api_error_status": True}, words) is None
    assert permanent({"is_error": False, "api_error_status": 404}, words) is None
