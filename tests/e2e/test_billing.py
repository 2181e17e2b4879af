"""The billing guard, with both real CLIs: no request with an API key ever leaves the box."""

from __future__ import annotations

import json

import pytest

from plandock.standin import commit, write_file
from tests.support.laptop import ACCESS
from tests.support.run_batch import CaseResult, cases, looks_at
from tests.support.run_batch import batch as batch
from tests.support.run_batch import case as case

pytestmark = [pytest.mark.timeout(1800), pytest.mark.e2e, pytest.mark.engine]

KEY = "sk-ant-api03-made-up-key-" + "x" * 40
HOSTILE: dict[str, dict[str, object]] = {
    "key-in-env": {"env": {"ANTHROPIC_API_KEY": KEY}},
    "token-in-env": {"env": {"ANTHROPIC_AUTH_TOKEN": KEY}},
    "header-in-env": {"env": {"ANTHROPIC_CUSTOM_HEADERS": f"x-api-key: {KEY}"}},
    "helper": {"apiKeyHelper": f"echo {KEY}"},
    "provider": {"env": {"CLAUDE_CODE_USE_BEDROCK": "1"}},
    # Which no pin of ours holds against with 2.1.197: it must not be read at all.
    "unpinnable": {"env": {"ANTHROPIC_UNIX_SOCKET": "/tmp/x.sock", "ANTHROPIC_API_KEY": KEY}},
}
# So that a run asks more than once.
WORK = (write_file("one.txt", "1\n"), commit("One"))


def run_in_a_hostile_repository(result: CaseResult) -> None:
    """The repository's own settings would have somebody else pay."""
    settings = HOSTILE[result.case.name]
    result.laptop.repo.commit({".claude/settings.json": json.dumps(settings)})
    result.run_through()


def run_beside_a_key_of_the_users(result: CaseResult) -> None:
    """A key in the user's environment, a helper in the user's settings."""
    settings = result.laptop.config / "settings.json"
    settings.write_text(json.dumps({"apiKeyHelper": f"echo {KEY}"}))
    result.run_through()


def hand_off_without_a_login(result: CaseResult) -> None:
    """First there is none, then one that has expired."""
    laptop, seen = result.laptop, result.seen
    (laptop.config / ".credentials.json").unlink()
    seen["refused"] = laptop.plandock(
        "run", "--plan", "-", "--wait", stdin=result.plan, check=False
    )
    laptop.log_in(expires_in_s=-60)
    result.hand_off()
    seen["waiting"] = result.until("waiting")
    laptop.plandock("stop", result.run_id)


CASES = [
    *(run for name in HOSTILE for run in cases(name, run_in_a_hostile_repository, WORK)),
    *cases("key-of-the-users", run_beside_a_key_of_the_users, WORK, env={"ANTHROPIC_API_KEY": KEY}),
    *cases(
        "explicit-key",
        CaseResult.run_through,
        WORK,
        env={"ANTHROPIC_API_KEY": KEY, "PLANDOCK_BILLING": "api-key"},
    ),
    *cases("no-login", hand_off_without_a_login),
]


def assert_paid_by_the_login(case: CaseResult) -> None:
    """Every request of the run, the CLI's own side requests among them."""
    standin = case.laptop.standin
    assert (case.run["state"], case.run["commits"]) == ("done", 1)
    assert standin.model_requests
    assert {r.auth for r in standin.requests if r.method == "POST"} == {"bearer"}
    assert {r.token for r in standin.model_requests} == {ACCESS}


@looks_at(CASES, *HOSTILE)
def test_a_repositorys_settings_do_not_change_who_pays(case: CaseResult) -> None:
    """Keys, helpers, headers and providers in the repository: the login's own token is sent."""
    assert_paid_by_the_login(case)


@looks_at(CASES, "key-of-the-users")
def test_a_key_on_the_host_stays_there(case: CaseResult) -> None:
    """ANTHROPIC_API_KEY in the user's environment and apiKeyHelper in the user's settings."""
    assert_paid_by_the_login(case)
    kept = [p for p in (case.laptop.home / ".local/state/plandock").rglob("*") if p.is_file()]
    assert kept
    assert not [p for p in kept if KEY.encode() in p.read_bytes()]
    assert any("ANTHROPIC_API_KEY" in note for note in case.run["notes"])


@looks_at(CASES, "explicit-key")
def test_an_explicit_api_key_is_used_and_said(case: CaseResult) -> None:
    """Positive control: with billing = "api-key" the key does pay, and the receipt says so."""
    assert case.run["state"] == "done"
    assert {r.auth for r in case.laptop.standin.model_requests} == {"x-api-key"}
    assert "API key" in case.laptop.json("receipt", case.run_id)["payer"]


@looks_at(CASES, "no-login")
def test_without_a_login_nothing_starts_and_the_exit_code_is_21(case: CaseResult) -> None:
    """No login: refused at the hand-off, with the next step; an expired one is waited for."""
    refused, waiting = case.seen["refused"], case.seen["waiting"]
    assert refused.returncode == 21
    assert "/login" in refused.stderr
    assert waiting.reason == "login"
    assert waiting.hint
    assert case.run["state"] == "stopped"
    assert case.laptop.standin.model_requests == []
