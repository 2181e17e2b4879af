"""The billing guard, with both real CLIs: no request with an API key ever leaves the box."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.laptop import ACCESS, Laptop

pytestmark = pytest.mark.timeout(300)

KEY = "sk-ant-api03-made-up-key-" + "x" * 40
HOSTILE: dict[str, dict[str, object]] = {
    "key-in-env": {"env": {"ANTHROPIC_API_KEY": KEY}},
    "token-in-env": {"env": {"ANTHROPIC_AUTH_TOKEN": KEY}},
    "header-in-env": {"env": {"ANTHROPIC_CUSTOM_HEADERS": f"x-api-key: {KEY}"}},
    "helper": {"apiKeyHelper": f"echo {KEY}"},
    "provider": {"env": {"CLAUDE_CODE_USE_BEDROCK": "1"}},
}


def _hand_off(laptop: Laptop) -> int:
    done = laptop.plandock("run", "--plan", "-", "--wait", stdin="# Plan\n", check=False)
    return done.returncode


def _paid_by_the_login(laptop: Laptop) -> None:
    requests = laptop.standin.model_requests
    assert requests
    assert {r.auth for r in laptop.standin.requests if r.method == "POST"} == {"bearer"}
    assert {r.token for r in requests} == {ACCESS}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_repositorys_settings_do_not_change_who_pays(
    make_laptop: Callable[..., Laptop], claude_cli: Path, name: str
) -> None:
    """Keys, helpers, headers and providers in the repository: the login's own token is sent."""
    laptop = make_laptop(claude_cli)
    laptop.repo.commit({".claude/settings.json": json.dumps(HOSTILE[name])})
    assert _hand_off(laptop) == 0
    _paid_by_the_login(laptop)


def test_a_key_on_the_host_stays_there(
    make_laptop: Callable[..., Laptop], claude_cli: Path
) -> None:
    """ANTHROPIC_API_KEY in the user's environment and apiKeyHelper in the user's settings."""
    laptop = make_laptop(claude_cli, env={"ANTHROPIC_API_KEY": KEY})
    (laptop.config / "settings.json").write_text(json.dumps({"apiKeyHelper": f"echo {KEY}"}))
    assert _hand_off(laptop) == 0
    _paid_by_the_login(laptop)
    text = (laptop.home / ".local/state/plandock").rglob("*")
    assert not [p for p in text if p.is_file() and KEY.encode() in p.read_bytes()]
    assert any("ANTHROPIC_API_KEY" in note for note in laptop.json("show", "last")["notes"])


def test_an_explicit_api_key_is_used_and_said(
    make_laptop: Callable[..., Laptop], claude_cli: Path
) -> None:
    """Positive control: with billing = "api-key" the key does pay, and the receipt says so."""
    laptop = make_laptop(claude_cli, env={"ANTHROPIC_API_KEY": KEY, "PLANDOCK_BILLING": "api-key"})
    assert _hand_off(laptop) == 0
    assert {r.auth for r in laptop.standin.model_requests} == {"x-api-key"}
    assert "API key" in laptop.json("receipt", "last")["payer"]


def test_without_a_login_nothing_starts_and_the_exit_code_is_21(
    make_laptop: Callable[..., Laptop], claude_cli: Path
) -> None:
    """No login: refused at the hand-off, with the next step; an expired one is waited for."""
    laptop = make_laptop(claude_cli)
    (laptop.config / ".credentials.json").unlink()
    done = laptop.plandock("run", "--plan", "-", "--wait", stdin="# Plan\n", check=False)
    assert done.returncode == 21
    assert "/login" in done.stderr
    laptop.log_in(expires_in_s=-60)
    laptop.plandock("run", "--plan", "-", stdin="# Plan\n")
    end = time.monotonic() + 60
    while (run := laptop.json("show", "last"))["state"] != "waiting":
        assert time.monotonic() < end, run
        time.sleep(0.2)
    assert run["reason"] == "login"
    assert run["hint"]
    laptop.plandock("stop", "last")
    assert laptop.json("show", "last")["state"] == "stopped"
    assert laptop.standin.model_requests == []


def test_what_cannot_be_pinned_is_refused_with_21_and_no_request_leaves(
    make_laptop: Callable[..., Laptop], claude_cli: Path
) -> None:
    """A socket and a key in the repository: 2.1.197 drops our pins (measured), so it is refused."""
    laptop = make_laptop(claude_cli)
    hostile = {"env": {"ANTHROPIC_UNIX_SOCKET": "/tmp/x.sock", "ANTHROPIC_API_KEY": KEY}}
    laptop.repo.commit({".claude/settings.json": json.dumps(hostile)})
    code = _hand_off(laptop)
    run = laptop.json("show", "last")
    if run["cli_version"] == "2.1.197":
        assert (code, run["state"], run["reason"]) == (21, "failed", "billing")
        assert "ANTHROPIC_API_KEY" in run["message"]
        assert laptop.standin.model_requests == []
    else:
        assert code == 0
        _paid_by_the_login(laptop)
