"""What a supervisor is started with, of all that stands around it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from plandock import paths, proc
from plandock.runs.starting import start_supervisor

KEY = "sk-ant-api03-MADE-UP"


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, str]]:
    """The environments that supervisors were started with; none is started."""
    seen: list[Mapping[str, str]] = []

    def start(*_: object, env: Mapping[str, str], **__: Any) -> int:
        seen.append(env)
        return 4711

    monkeypatch.setattr(proc, "start_detached", start)
    paths.run_dir("r222").mkdir(parents=True)
    return seen


def test_supervisor_gets_an_api_key_only_when_the_setting_says_so(
    given: list[Mapping[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key in the user's shell is no wish to pay with it."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    start_supervisor("r222")
    assert KEY not in given[0].values()
    start_supervisor("r222", billing="api-key")
    assert given[1]["ANTHROPIC_API_KEY"] == KEY


def test_supervisor_gets_no_variable_that_is_not_on_the_list(
    given: list[Mapping[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that chooses a payer, a program or a library; what it needs goes along."""
    others = (
        "ANTHROPIC_BASE_URL",
        "CLAUDE_CODE_OAUTH_TOKEN",
        "LD_PRELOAD",
        "PYTHONPATH",
        "GIT_DIR",
    )
    for name in others:
        monkeypatch.setenv(name, "x")
    start_supervisor("r222", {"PLANDOCK_CREDENTIALS": "sealed"})
    assert set(others) & set(given[0]) == set()
    assert given[0]["PLANDOCK_CREDENTIALS"] == "sealed"
    assert {"PATH", "HOME"} <= set(given[0])
