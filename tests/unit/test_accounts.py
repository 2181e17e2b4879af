"""A run uses the login of the account that it began with, and no other that is here."""

from __future__ import annotations

import json
from typing import Any

import pytest

from plandock.claude import credentials, keychain
from plandock.errors import CredentialsError
from plandock.runs.model import State
from plandock.runs.store import Store
from plandock.supervisor import (
    accounts,
    resuming,
)
from tests.support.signing_in import (
    ANNA,
    BOB,
    T1,
    T2,
    T3,
    TEAM,
    Clock,
    Machine,
    begun,
    in_the_end,
    token_of,
    used,
)
from tests.support.signing_in import clock as clock
from tests.support.signing_in import machine as machine
from tests.support.signing_in import nobody_is_started as nobody_is_started
from tests.support.signing_in import store as store


def test_a_renewed_token_of_the_same_account_is_used(
    store: Store, machine: Machine, clock: Clock
) -> None:
    """After a moment, for another account may be about to be named; at once where the file with
    the token names the same."""
    machine.sign_in(ANNA, T1)
    run = begun(store, machine)
    assert used(run) == T1
    machine.token(T2)
    assert used(run) == "Unsettled"
    clock.sleep(accounts.UNHURRIED_S)
    assert used(run) == T2
    machine.token(T3, accountUuid=ANNA["accountUuid"], organizationUuid=ANNA["organizationUuid"])
    assert used(run) == T3


@pytest.mark.parametrize("other", [BOB, TEAM, None])
def test_another_account_is_not_used_and_the_first_one_is_when_it_is_back(
    store: Store, machine: Machine, clock: Clock, other: dict[str, str] | None
) -> None:
    """Nor another organisation of the same account, nor a login that no longer says whose it is;
    back with the same token, and with another one."""
    machine.sign_in(ANNA, T1)
    run = begun(store, machine)
    machine.sign_in(other, T2)
    assert in_the_end(run, clock) == "AnotherAccount"
    machine.sign_in(ANNA, T1)
    assert used(run) == T1
    machine.sign_in(ANNA, T3)
    assert used(run) == T3


def test_neither_half_of_a_change_is_taken_for_a_renewal(
    store: Store, machine: Machine, clock: Clock
) -> None:
    """Whichever of the two files is written first, both ways."""
    machine.sign_in(ANNA, T1)
    run = begun(store, machine)
    machine.token(T2)
    assert used(run) == "Unsettled"
    clock.sleep(3.0)
    assert used(run) == "Unsettled"
    machine.account(BOB)
    assert in_the_end(run, clock) == "AnotherAccount"
    machine.account(ANNA)  # the token is still the other's
    assert used(run) == "Unsettled"
    clock.sleep(3.0)
    assert used(run) == "Unsettled"
    machine.token(T1)
    assert used(run) == T1


@pytest.mark.parametrize("text", ["", '{"oauthAcc', "[]"])
def test_half_a_state_file_proves_nothing(
    store: Store, machine: Machine, clock: Clock, text: str
) -> None:
    """The token in use stays; a new one waits until the file can be read."""
    machine.sign_in(ANNA, T1)
    run = begun(store, machine)
    machine.state.write_text(text)
    assert used(run) == T1
    machine.token(T2)
    assert used(run) == "Unsettled"
    machine.sign_in(ANNA, T2)
    assert used(run) == T2


def test_a_machine_that_names_no_account_goes_on_renewing(store: Store, machine: Machine) -> None:
    """A login that was copied there; another plan is another login."""
    machine.sign_in(None, T1)
    run = begun(store, machine)
    machine.sign_in(None, T2)
    assert used(run) == T2
    machine.sign_in(None, T3, plan="pro")
    assert used(run) == "AnotherAccount"


def test_a_login_that_is_named_later_is_known_from_then_on(
    store: Store, machine: Machine, clock: Clock
) -> None:
    """By its token; one that is named together with a new token was never seen before."""
    machine.sign_in(None, T1)
    run = begun(store, machine)
    machine.sign_in(BOB, T2)
    assert in_the_end(run, clock) == "AnotherAccount"
    machine.sign_in(ANNA, T1)
    run = store.change(run.id, **accounts.paying(run, accounts.whose(run, token_of(run)[0])))
    assert [payer["account"]["id"] for payer in run.payers] == ["aaaaaaaa"]
    machine.sign_in(ANNA, T3)
    assert used(run) == T3


def paid_after(store: Store, machine: Machine, *told: str) -> list[Any]:
    """The accounts of a run's payers after `plandock resume`, from a wait, and a token handed
    to the box; ``told`` are words of what the user is told."""
    waits = store.move("r222", State.QUEUED, State.WAITING) or store.get("r222")
    run, said = resuming.resume(store, waits)
    assert all(words in said for words in told)
    run = store.change(run.id, **accounts.paying(run, accounts.whose(run, token_of(run)[0])))
    shown = run.to_json()["billing"]["accounts"]
    assert {key for payer in shown for key in payer} == {"account", "login", "since"}
    return [payer["account"] and payer["account"]["id"] for payer in shown]


def test_who_paid_before_stays_when_a_login_that_names_no_account_takes_over(
    store: Store, machine: Machine
) -> None:
    """And once that is named, it takes its own place alone."""
    machine.sign_in(ANNA, T1)
    first = begun(store, machine).payers[0]["since"]
    machine.sign_in(None, T2)
    assert paid_after(store, machine, "in place of A…@example.org") == ["aaaaaaaa", None]
    machine.sign_in(BOB, T2)
    run = store.get("r222")
    run = store.change(run.id, **accounts.paying(run, accounts.whose(run, token_of(run)[0])))
    assert [payer["account"]["id"] for payer in run.payers] == ["aaaaaaaa", "bbbbbbbb"]
    assert run.payers[0]["since"] == first


def test_who_paid_before_stays_when_a_stored_token_takes_over(
    store: Store, machine: Machine, clock: Clock
) -> None:
    """As after `plandock setup-token`, where the old login was removed."""
    machine.sign_in(ANNA, T1)
    begun(store, machine)
    (machine.config / ".credentials.json").unlink()
    credentials.store_setup_token(T2)
    clock.sleep(60)
    assert paid_after(store, machine, "a stored token pays from now on") == ["aaaaaaaa", None]
    lines = accounts.in_words(store.get("r222"))
    assert [line.split(",")[0] for line in lines] == [
        "A…@example.org (aaaaaaaa)", "not known: a stored token names none"
    ]  # fmt: skip


def test_haste_is_made_where_the_token_in_use_is_worth_nothing(
    store: Store, machine: Machine, clock: Clock
) -> None:
    """It was refused, or it is about to end: then a renewal is what is expected."""
    machine.sign_in(ANNA, T1, life_s=900.0)
    run = begun(store, machine)
    machine.token(T2)
    clock.sleep(accounts.SETTLED_S)
    assert used(run) == "Unsettled"
    assert used(run, hurry=True) == T2
    assert used(store.change(run.id, spent_login=run.login_mark)) == T2
    clock.sleep(300.0)
    machine.token(T3)
    clock.sleep(accounts.SETTLED_S)
    assert used(run) == T3


def test_an_account_that_is_back_with_a_token_that_has_ended_is_waited_for(
    store: Store, machine: Machine
) -> None:
    """It is what stands in the way, not the account."""
    machine.sign_in(ANNA, T1)
    run = begun(store, machine)
    machine.sign_in(ANNA, T1, life_s=-3600.0)
    with pytest.raises(CredentialsError, match="expired"):
        token_of(run)


# -- a token of the user's, a key


def test_a_stored_token_belongs_to_whom_it_did_when_the_run_began(
    store: Store, machine: Machine, clock: Clock
) -> None:
    """Another one is another login; and while it is there, the host's login means nothing."""
    machine.sign_in(ANNA, T1)
    credentials.store_setup_token(T2)
    run = begun(store, machine)
    assert used(run) == T2
    machine.sign_in(BOB, T3)
    assert used(run) == T2
    credentials.store_setup_token(T3)
    assert in_the_end(run, clock) == "AnotherAccount"
    credentials.forget_setup_token()
    assert in_the_end(run, clock) == "AnotherAccount"
    credentials.store_setup_token(T2)
    assert used(run) == T2


def test_a_token_that_is_stored_later_does_not_take_the_place_of_a_known_account(
    store: Store, machine: Machine
) -> None:
    """The host's login goes on; where that has ended, the way on is named."""
    machine.sign_in(ANNA, T1)
    run = begun(store, machine)
    credentials.store_setup_token(T2)
    assert used(run) == T1
    machine.sign_in(ANNA, T1, life_s=-60.0)
    with pytest.raises(CredentialsError, match="expired") as caught:
        token_of(run)
    assert "let a stored token pay: plandock resume r222" in caught.value.hint
    _, told = resuming.resume(store, store.move(run.id, State.QUEUED, State.WAITING) or run)
    assert "a stored token pays from now on, in place of A…@example.org (aaaaaaaa)" in told
    assert used(store.get(run.id)) == T2


def test_a_refused_login_that_never_was_named_gives_way_to_a_stored_token(
    store: Store, machine: Machine
) -> None:
    """That the user stored for this; but not in the middle of the agent's work."""
    machine.sign_in(None, T1)
    run = begun(store, machine)
    credentials.store_setup_token(T2)
    assert used(run) == T1
    run = store.change(run.id, spent_login=run.login_mark)
    assert used(run) == T2
    store.move(run.id, State.QUEUED, State.STAGING)
    store.move(run.id, State.STAGING, State.RUNNING)
    assert used(store.get(run.id)) == T1


def test_another_api_key_is_another_payer(
    store: Store, machine: Machine, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A supervisor that another shell has started may meet one."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-api03-" + "1" * 40)
    run = begun(store, machine, settings={"billing": "api-key"})
    assert used(run).endswith("1111")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-api03-" + "2" * 40)
    assert in_the_end(run, clock) == "AnotherAccount"


def test_the_keychain_counts_as_the_hosts_login(
    store: Store, machine: Machine, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose it is stands in the state file alone, and no date says when it was written."""
    items: list[str] = []
    monkeypatch.setenv("PLANDOCK_SECURITY", "/as/on/macos")
    monkeypatch.setattr(keychain, "read_keychain", lambda **_: items[-1])

    def put(token: str) -> None:
        held = {"accessToken": token, "scopes": ["user:inference"]}
        items.append(json.dumps({"claudeAiOauth": held}))

    put(T1)
    machine.account(ANNA)
    run = begun(store, machine)
    put(T2)
    assert used(run) == "Unsettled"
    assert in_the_end(run, clock) == T2
    put(T3)
    machine.account(BOB)
    assert in_the_end(run, clock) == "AnotherAccount"
