"""The host's login is changed to another account while a run goes, with the real CLI in the box,
and while a plan is accepted in a real terminal.

There it is held between the acceptance and what follows; a control shows what follows without
plandock.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from plandock.standin import LOCAL_EXECUTION_FILE, Failure, bash, commit, write_file
from tests.support import claude_screen
from tests.support.laptop import ACCESS, Laptop
from tests.support.pairs import PAIRS
from tests.support.run_batch import CaseResult, cases, looks_at
from tests.support.run_batch import batch as batch
from tests.support.run_batch import case as case
from tests.support.tmux import Tmux

pytestmark = [pytest.mark.timeout(1800), pytest.mark.e2e, pytest.mark.engine]

OTHER = ACCESS.replace("made-up", "others")
RENEWED = ACCESS.replace("made-up", "renewed")
ANNA = {
    "accountUuid": "aaaaaaaa-1111-4111-8111-111111111111",
    "organizationUuid": "0a0a0a0a-1111-4111-8111-111111111111",
    "emailAddress": "anna.whole@example.org",
}
BOB = {
    "accountUuid": "bbbbbbbb-2222-4222-8222-222222222222",
    "organizationUuid": "0b0b0b0b-2222-4222-8222-222222222222",
    "emailAddress": "bob.whole@example.com",
}
# In the first box it stands still; in the one after it there is nothing to wait for.
HANGS_ONCE = bash(
    "test -e once || { touch once /tmp/plandock-test-held; tail -f /dev/null; }", timeout_s=600.0
)
WORK = (write_file("one.txt", "1\n"), commit("One"), HANGS_ONCE, commit("Two"))


def sign_in(laptop: Laptop, account: dict[str, str], token: str) -> None:
    """Change the login, the token first; Claude Code itself does it the other way round."""
    laptop.log_in(token=token)
    time.sleep(1.0)  # less than it takes to believe a token
    laptop.trust(oauthAccount=account)


def sign_in_as_another(result: CaseResult) -> None:
    """Begin as Anna; be Bob while the agent works, and until the run waits."""
    result.laptop.log_in()
    result.laptop.trust(oauthAccount=ANNA)
    result.hand_off()
    result.until_held()
    sign_in(result.laptop, BOB, OTHER)
    result.seen["waiting"] = result.until("waiting")
    result.seen["shown"] = result.laptop.json("show", result.run_id)
    result.seen["tokens"] = {r.token for r in result.laptop.standin.model_requests}


def come_back(result: CaseResult) -> None:
    """Be Anna again, with a token that is new."""
    sign_in_as_another(result)
    sign_in(result.laptop, ANNA, RENEWED)
    result.until_over()


def let_the_other_pay(result: CaseResult) -> None:
    """Stay Bob, and say so."""
    sign_in_as_another(result)
    result.seen["said"] = result.laptop.plandock("resume", result.run_id).stdout
    result.until_over()


CASES = [
    *cases("back", come_back, WORK, among=PAIRS[:1]),
    *cases(
        "other", let_the_other_pay, WORK, among=PAIRS[1:] or PAIRS,
        env={"PLANDOCK_CREDENTIALS": "sealed"},
    ),
]  # fmt: skip


def assert_waited(case: CaseResult) -> None:
    """Nobody but Anna was billed up to then; the wait names both, and what to do."""
    waiting, shown = case.seen["waiting"], case.seen["shown"]
    assert waiting.reason == "login"
    assert case.seen["tokens"] == {ACCESS}
    assert "a…@example.org (aaaaaaaa)" in waiting.message
    assert "b…@example.com (bbbbbbbb)" in waiting.message
    assert f"plandock resume {case.run_id}" in waiting.hint
    assert shown["billing"]["account"] == {
        "email": "a…@example.org", "id": "aaaaaaaa", "organization": "0a0a0a0a", "plan": "max",
    }  # fmt: skip
    assert case.run["state"] == "done"
    subjects = case.laptop.repo.git("log", "--format=%s", f"main..{case.run['branch']}")
    assert subjects.splitlines().count("One") == 1


def assert_no_address_is_kept(case: CaseResult) -> None:
    """Logs, store and receipt hold no whole address and no whole identifier."""
    kept = [p for p in (case.laptop.home / ".local/state/plandock").rglob("*") if p.is_file()]
    assert kept
    for word in (ANNA["emailAddress"], BOB["emailAddress"], ANNA["accountUuid"]):
        assert not [p for p in kept if word.encode() in p.read_bytes()]


@looks_at(CASES, "back")
def test_a_run_waits_for_the_account_that_it_began_with(case: CaseResult) -> None:
    """It goes on by itself when that is back, though with another token; the other pays nothing."""
    assert_waited(case)
    assert {r.token for r in case.laptop.standin.model_requests} == {ACCESS, RENEWED}
    receipt = case.laptop.json("receipt", case.run_id)
    paid = [payer["account"]["id"] for payer in receipt["billing"]["accounts"]]
    assert paid == ["aaaaaaaa"]
    text = case.laptop.plandock("receipt", case.run_id).stdout
    assert "a…@example.org (aaaaaaaa)" in text
    assert "b…@example.com" not in text
    assert_no_address_is_kept(case)


@looks_at(CASES, "other")
def test_another_account_pays_after_an_explicit_resume(case: CaseResult) -> None:
    """In sealed mode, so by the gateway; the command and the receipt name both."""
    assert_waited(case)
    tokens = [r.token for r in case.laptop.standin.model_requests]
    assert set(tokens) == {ACCESS, OTHER}
    assert tokens.index(OTHER) == len(tokens) - tokens.count(OTHER)
    assert "b…@example.com (bbbbbbbb) pays from now on" in case.seen["said"]
    receipt = case.laptop.json("receipt", case.run_id)
    paid = [payer["account"]["id"] for payer in receipt["billing"]["accounts"]]
    assert paid == ["aaaaaaaa", "bbbbbbbb"]
    assert receipt["billing"]["account"]["id"] == "bbbbbbbb"
    text = case.laptop.plandock("receipt", case.run_id).stdout
    assert all(name in text for name in ("a…@example.org", "b…@example.com"))
    assert_no_address_is_kept(case)


def accept_while_another_signs_in(
    laptop: Laptop, tmux: Tmux, *, init: bool, is_known: Callable[[], object] = lambda: True
) -> None:
    """Plan and accept as Anna; be Bob before anything follows, once it is known who accepted."""
    gate, held = laptop.home / "gate", laptop.home / "held"
    hold = f"touch {held}; while [ ! -e {gate} ]; do sleep 0.1; done"
    hook = {"matcher": "ExitPlanMode", "hooks": [{"type": "command", "command": hold}]}
    (laptop.config / "settings.json").write_text(json.dumps({"hooks": {"PostToolUse": [hook]}}))
    if init:
        laptop.plandock("init", "--scope", "user")
    laptop.trust(oauthAccount=ANNA)
    laptop.plan(tmux)
    claude_screen.choose(tmux, claude_screen.AUTOMATIC)
    claude_screen.wait_until(tmux, lambda: held.exists() and is_known())
    sign_in(laptop, BOB, OTHER)
    gate.touch()


def test_a_plan_accepted_in_a_terminal_waits_where_another_signs_in(
    make_laptop: Callable[..., Laptop], engine: str, claude_cli: Path, tmux: Tmux
) -> None:
    """With both versions; the other pays nothing, here or in the box."""
    laptop = make_laptop(claude_cli, engine)
    # So that the agent is at work still when the other has signed in.
    laptop.standin.inject(Failure("silence", scene="execute", silent_s=1200.0))

    def is_known() -> bool:
        return any("shown" in run.account for run in laptop.recorded())

    accept_while_another_signs_in(laptop, tmux, init=True, is_known=is_known)
    tmux.wait_for("handed off as", claude_screen.PATIENCE_S)
    run = laptop.until(laptop.recorded()[0].id, "waiting")
    assert run.reason == "login"
    assert "a…@example.org (aaaaaaaa)" in run.message
    assert "b…@example.com (bbbbbbbb)" in run.message
    assert {r.token for r in laptop.standin.model_requests} == {ACCESS}
    assert not (laptop.repo.root / LOCAL_EXECUTION_FILE).exists()


def test_control_without_plandock_the_other_pays_for_the_plan_on_the_host(
    make_laptop: Callable[..., Laptop], claude_cli: Path, tmux: Tmux
) -> None:
    """The same conversation goes on by itself, and by the other's token."""
    laptop = make_laptop(claude_cli)
    accept_while_another_signs_in(laptop, tmux, init=False)
    claude_screen.wait_until(tmux, (laptop.repo.root / LOCAL_EXECUTION_FILE).exists)
    tokens = [r.token for r in laptop.standin.model_requests]
    assert (tokens[0], tokens[-1]) == (ACCESS, OTHER)
