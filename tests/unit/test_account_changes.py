"""The login is another's at some moment of a run: it waits, and `resume` lets the other pay."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from plandock.box import keeper, launch
from plandock.claude import credentials
from plandock.claude.stream import Progress
from plandock.cli import doctor
from plandock.engines import detect
from plandock.hook import accepted_login
from plandock.runs.model import Run, RunId, State
from plandock.runs.store import Store
from plandock.settings.keys import Settings
from plandock.supervisor import (
    accounts,
    adopting,
    drive,
    freezing,
    logins,
    receipt,
    resuming,
    running,
    waiting,
    watch,
)
from tests.support.signing_in import (
    ANNA,
    BOB,
    T1,
    T2,
    T3,
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
from tests.unit.test_verdict import FINE, failed_result, verdict


def test_the_account_is_recorded_before_a_run_has_its_turn(
    store: Store, machine: Machine, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Accepted as Anna, queued; when its turn comes, the machine is Bob's."""
    machine.sign_in(ANNA, T1)
    run = Run(
        id=RunId("r222"), repo="/r", handoff_key="k", config_dir=str(machine.config),
        settings=Settings().to_dict(), snapshot="s",
    )  # fmt: skip
    run, _ = store.add(run, name_branch=lambda _: "feature/auto")
    monkeypatch.setattr(freezing, "freeze", lambda _, run: run)
    monkeypatch.setattr(store, "admit", lambda *_: False)
    drive._queued(store, run)
    run = store.get(run.id)
    assert run.to_json()["billing"]["account"]["id"] == "aaaaaaaa"
    machine.sign_in(BOB, T2)
    assert accounts.note(store, run).account == run.account
    assert in_the_end(run, clock) == "AnotherAccount"


def test_a_login_that_changes_at_the_very_hand_off_is_looked_at_again(
    store: Store, machine: Machine, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token was written just now: so may the account be."""
    run = Run(id=RunId("r222"), handoff_key="k", config_dir=str(machine.config))
    run, _ = store.add(run, name_branch=lambda _: "feature/auto")
    machine.account(ANNA)
    clock.sleep(60)
    machine.token(T2)
    before, sleep = clock.wall, clock.sleep

    def other_meanwhile(pause_s: float) -> None:
        sleep(pause_s)
        machine.account(BOB)

    monkeypatch.setattr(time, "sleep", other_meanwhile)
    run = accounts.note(store, run)
    assert run.account["shown"]["id"] == "bbbbbbbb"
    assert clock.wall - before <= accounts.SETTLED_S


def test_the_login_that_counts_is_the_one_at_the_hand_off(
    store: Store, machine: Machine, clock: Clock
) -> None:
    """It was changed before a supervisor was there: whose the accepted one was is not known, so
    nobody is billed unasked; unchanged, it is named."""
    machine.sign_in(ANNA, T1)
    left = accepted_login.look("auto", "subscription", {})
    assert left["mark"] == logins.mark_of(next(credentials_here(machine)))
    for number, account in enumerate((ANNA, BOB)):
        run = Run(
            id=RunId(f"r22{number}"), handoff_key=f"{number}", config_dir=str(machine.config),
            settings=Settings().to_dict(), account=dict(left),
        )  # fmt: skip
        run, _ = store.add(run, name_branch=lambda _: "feature/auto")
        if account is BOB:
            machine.sign_in(BOB, T2)
        run = accounts.note(store, run)
        assert (in_the_end(run, clock) == T1) is (account is ANNA)
        assert bool(run.account["shown"]) is (account is ANNA)
    assert in_the_end(run, clock) == "AnotherAccount"


def credentials_here(machine: Machine) -> Iterator[Any]:
    """The logins of this machine."""
    return credentials.each_login(config_dir=machine.config, environ={})


@pytest.mark.parametrize("credentials_setting", ["auto", "token", "host", "sealed", "box"])
def test_what_the_hook_leaves_is_of_the_login_that_the_run_would_use(
    machine: Machine, credentials_setting: str
) -> None:
    """The stored token goes before the host's login, where the setting does not say otherwise."""

    def look() -> dict[str, str]:
        return accepted_login.look(credentials_setting, "subscription", {})

    assert look() == {}
    machine.token(T1)
    assert look().get("kind") == {"token": None, "box": None}.get(credentials_setting, "host")
    credentials.store_setup_token(T2)
    assert look().get("kind") == {"host": "host", "box": None}.get(credentials_setting, "token")
    assert accepted_login.look(credentials_setting, "api-key", {}) == {}
    (machine.config / ".credentials.json").write_text('{"claudeAiOauth": []}')
    assert look().get("kind") == {"host": None, "box": None}.get(credentials_setting, "token")


class Box:
    """An engine, as far as the watch asks it: whether the box was ended, and what it was told."""

    def __init__(self) -> None:
        self.stopped = 0

    def stop(self, _: str) -> None:
        self.stopped += 1


def at_work(store: Store, run: Run) -> Run:
    """The run with its agent at work."""
    store.move(run.id, State.QUEUED, State.STAGING)
    return store.move(run.id, State.STAGING, State.RUNNING) or run


def test_the_box_is_ended_where_the_login_is_anothers_and_the_run_waits(
    store: Store, machine: Machine, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other's token is handed to nobody; the wait names both, and the token that the box had
    does not count as refused."""
    machine.sign_in(ANNA, T1)
    run = at_work(store, begun(store, machine))
    handed: list[str] = []
    monkeypatch.setattr(
        logins, "hand_over", lambda _, __, login: handed.append(login.token.reveal())
    )
    engine: Any = Box()
    looking = watch.Watch(engine, run)
    machine.sign_in(ANNA, T2)
    assert looking._renew(store, run)
    assert handed == [T2]
    machine.account(BOB)
    machine.token(T3)
    with pytest.raises(accounts.Unsettled):
        looking._renew(store, store.get(run.id))
    clock.sleep(accounts.SETTLED_S)
    assert not looking._renew(store, store.get(run.id))
    assert (handed, engine.stopped) == ([T2], 1)
    run = store.get(run.id)
    assert run.reason == "login"
    monkeypatch.setattr("plandock.box.launch.remove_containers", lambda *_: None)
    monkeypatch.setattr("plandock.supervisor.egress.keep", lambda *_: [])
    running.conclude(store, engine, run, Progress(), None)
    run = store.get(run.id)
    assert (run.state, run.reason, run.spent_login) == (State.WAITING, "login", "")
    assert "b…@example.com (bbbbbbbb)" in run.message
    assert "A…@example.org (aaaaaaaa)" in run.message
    assert "plandock resume r222" in run.hint
    waiting.look(store, run)
    assert store.get(run.id).state is State.WAITING
    machine.sign_in(ANNA, T2)
    waiting.look(store, store.get(run.id))
    assert store.get(run.id).state is State.QUEUED


def test_a_file_that_changes_after_the_choice_does_not_choose_another_account(
    store: Store, machine: Machine
) -> None:
    """The token is the first one's; the state file, read once more, already names the other."""
    machine.sign_in(ANNA, T1)
    run = begun(store, machine)
    login, _ = token_of(run)
    machine.account(BOB)
    changes = accounts.paying(run, accounts.whose(run, login))
    assert changes["account"]["shown"]["id"] == "aaaaaaaa"
    assert [payer["account"]["id"] for payer in changes["payers"]] == ["aaaaaaaa"]


def test_work_that_was_done_before_the_box_was_ended_is_done() -> None:
    """The change came in the last second."""
    words: dict[str, Any] = {"reason": "login", "message": "another's"}
    assert verdict(FINE, **words).ending["target"] == "done"
    assert verdict(failed_result(401), **words).kept
    assert not verdict(failed_result(401)).kept
    assert (verdict(**words).kind, verdict(**words).message) == ("wait", "another's")


def test_a_refusal_is_not_answered_with_anothers_login(store: Store, machine: Machine) -> None:
    """A box whose token was refused goes on at once with a renewed one, and waits else."""
    machine.sign_in(ANNA, T1)
    run = at_work(store, begun(store, machine))
    machine.sign_in(BOB, T2)
    assert not logins.is_superseded(store, run)
    machine.sign_in(ANNA, T3)
    assert logins.is_superseded(store, run)


@pytest.mark.parametrize("reason", ["login", "usage_limit", "stopped"])
def test_resume_lets_the_account_that_is_there_pay_and_says_so(
    store: Store, machine: Machine, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    """From a wait as from an end; what was paid before stays told."""
    machine.sign_in(ANNA, T1)
    target = State.STOPPED if reason == "stopped" else State.WAITING
    monkeypatch.setattr(resuming, "_check_ground", lambda _: None)
    run = begun(store, machine, staged=True)
    run = store.move(run.id, State.QUEUED, target, reason=reason) or run
    machine.sign_in(BOB, T2)
    run, told = resuming.resume(store, run)
    assert "b…@example.com (bbbbbbbb) pays from now on, in place of A…@example.org" in told
    assert run.to_json()["billing"]["account"]["id"] == "bbbbbbbb"
    assert [one["account"]["id"] for one in run.to_json()["billing"]["accounts"]] == ["aaaaaaaa"]
    assert any("bbbbbbbb" in note for note in run.notes)
    assert used(run) == T2
    run = store.change(run.id, **accounts.paying(run, accounts.whose(run, token_of(run)[0])))
    paid = run.to_json()["billing"]["accounts"]
    assert [one["account"]["id"] for one in paid] == ["aaaaaaaa", "bbbbbbbb"]
    text = receipt.as_text(run)
    assert "A…@example.org (aaaaaaaa), organisation 0a0a0a0a, max, from " in text
    assert "b…@example.com (bbbbbbbb), organisation 0b0b0b0b, max, from " in text
    machine.sign_in(ANNA, T1)
    assert used(run) != T1


def test_resume_changes_nothing_where_the_account_is_there(store: Store, machine: Machine) -> None:
    """Nor where nobody is signed in: whoever does so next has not been agreed to."""
    machine.sign_in(ANNA, T1)
    run = begun(store, machine)
    run = store.move(run.id, State.QUEUED, State.WAITING, reason="login") or run
    (machine.config / ".credentials.json").unlink()
    run, told = resuming.resume(store, run)
    assert "pays" not in told
    machine.sign_in(ANNA, T2)
    _, told = resuming.resume(store, run)
    assert "pays" not in told
    assert store.get(run.id).account == run.account


def test_a_receipt_says_that_no_account_is_known(store: Store, machine: Machine) -> None:
    """JSON: null; for people: why."""
    machine.sign_in(None, T1)
    run = begun(store, machine)
    shown = run.to_json()["billing"]
    assert shown["account"] is None
    assert [one["account"] for one in shown["accounts"]] == [None]
    assert "not known: Claude Code's files here name none" in receipt.as_text(run)


# -- a login in a volume, a run whose record was lost


@pytest.fixture
def volume(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The files in the volume with a login, by their place."""
    files: dict[str, bytes] = {}
    monkeypatch.setattr(keeper, "read", lambda _, __, ___, file=keeper.FILE: files.get(file))
    monkeypatch.setattr(detect, "choose", lambda _: SimpleNamespace(name="docker"))
    return files


def in_volume(account: dict[str, str] | None, token: str) -> dict[str, bytes]:
    """The CLI's files with this login."""
    held = {"accessToken": token, "scopes": ["user:inference"], "subscriptionType": "max"}
    return {
        keeper.FILE: json.dumps({"claudeAiOauth": held}).encode(),
        keeper.STATE: json.dumps({"oauthAccount": account}).encode(),
    }


def test_a_login_in_a_volume_is_held_to_its_account_too(
    store: Store, machine: Machine, volume: dict[str, bytes]
) -> None:
    """`plandock login --box` signed somebody else in: the run waits, and `resume` takes it."""
    run = Run(
        id=RunId("r222"), handoff_key="k", image="i",
        settings=Settings().to_dict() | {"credentials": "box"},
    )  # fmt: skip
    run, _ = store.add(run, name_branch=lambda _: "feature/auto")
    assert accounts.note(store, run).account == {}
    engine: Any = SimpleNamespace(name="docker")
    volume |= in_volume(ANNA, T1)
    _, whose = logins.kept_in_a_volume(engine, "i", run)
    run = store.change(run.id, **accounts.paying(run, whose))
    volume |= in_volume(ANNA, T2)
    assert logins.kept_in_a_volume(engine, "i", run)[0].token.reveal() == T2
    volume |= in_volume(BOB, T3)
    with pytest.raises(accounts.AnotherAccount) as caught:
        logins.kept_in_a_volume(engine, "i", run)
    assert "plandock login --box" in caught.value.hint
    run = store.move(run.id, State.QUEUED, State.WAITING, reason="login") or run
    run, told = resuming.resume(store, run)
    assert "b…@example.com (bbbbbbbb) pays from now on" in told
    assert logins.kept_in_a_volume(engine, "i", run)[0].token.reveal() == T3


def test_a_run_whose_record_was_lost_is_still_held_to_its_account(
    store: Store, machine: Machine, clock: Clock, repo: Any
) -> None:
    """The label in the engine names it, by digests; one of an older version does not."""
    machine.sign_in(ANNA, T1)
    run = begun(store, machine)
    run.repo, run.snapshot = str(repo.root), "0" * 40
    label = launch.labels_of(run, "work")[launch.RECORD]
    found = adopting.read_label(label, run.id)
    assert found is not None
    machine.sign_in(BOB, T2)
    assert in_the_end(found, clock) == "AnotherAccount"
    data = json.loads(base64.b64decode(label))
    assert "@example.org" in json.dumps(data["account"])
    assert ANNA["emailAddress"] not in json.dumps(data)
    del data["account"]
    older = adopting.read_label(base64.b64encode(json.dumps(data).encode()).decode(), run.id)
    assert older is not None
    assert older.account == {}


def test_doctor_names_the_account_of_the_login(machine: Machine, monkeypatch: Any) -> None:
    """In short."""
    machine.sign_in(ANNA, T1)
    ground = doctor.Ground({}, machine.config, None, Settings())
    (found,) = doctor._login(ground)
    assert found.detail.partition("; ")[0].endswith("max, of A…@example.org (aaaaaaaa)")
