"""A run that the wrong payer would pay for ends as such, whatever its agent said of itself."""

from __future__ import annotations

import json
from typing import Any

import pytest

from plandock.claude.stream import Progress
from plandock.runs.model import Run, RunId
from plandock.supervisor.verdict import BoxEnd, judge

SEALED = {"type": "plandock", "event": "isolation", "checks": [{"name": "user", "ok": True}]}
FINE = {"type": "result", "subtype": "success", "is_error": False}
LOGIN = {"loggedIn": True, "authMethod": "claude.ai", "apiProvider": "firstParty"}
KEY = {**LOGIN, "apiKeySource": "ANTHROPIC_API_KEY"}


def exit_code(*messages: dict[str, Any], **settings: str) -> int:
    """The exit code of a run whose box said these things and then that all went well."""
    progress = Progress()
    for message in (SEALED, *messages, FINE):
        progress.take(json.dumps(message).encode())
    found = judge(Run(id=RunId("r222"), settings=settings), progress, BoxEnd())
    assert found.kind == "end"
    return int(found.ending["exit_code"])


@pytest.mark.parametrize(
    "said",
    [
        {"type": "plandock", "event": "billing-refused", "api_key_source": "apiKeyHelper"},
        {"type": "plandock", "event": "auth-status", "status": KEY},
    ],
    ids=["first-message", "status"],
)
def test_run_ends_with_21_when_the_cli_names_a_key(said: dict[str, Any]) -> None:
    """Success is no excuse; the controls: the login, and a key that the user asked for."""
    assert exit_code(said) == 21
    assert exit_code({"type": "plandock", "event": "auth-status", "status": LOGIN}) == 0
    assert exit_code(said, billing="api-key") == 0


@pytest.mark.parametrize("mode", ["default", "plan", None])
def test_a_cli_that_would_ask_ends_the_run_at_once(mode: str | None) -> None:
    """It is `failed` with a sentence that names the mode, and is not tried again."""
    init = {"type": "system", "subtype": "init", "apiKeySource": "none", "permissionMode": mode}
    progress = Progress()
    for message in (SEALED, init, {"type": "plandock", "event": "agent-ended", "why": "mode"}):
        progress.take(json.dumps(message).encode())
    found = judge(Run(id=RunId("r222")), progress, BoxEnd())
    assert (found.kind, found.ending["reason"]) == ("end", "permission_mode")
    assert (found.ending["target"], found.ending["exit_code"]) == ("failed", 10)
    assert (mode or "unknown") in found.ending["message"]
    assert exit_code({**init, "permissionMode": "bypassPermissions"}) == 0
