"""Somebody's machine on which people sign in and out, at a time of the test's own."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plandock import paths
from plandock.errors import CredentialsError
from plandock.runs.model import Run, RunId
from plandock.runs.store import Store
from plandock.settings.keys import Settings
from plandock.supervisor import accounts, logins, queue

ANNA = {
    "accountUuid": "aaaaaaaa-1111-4111-8111-111111111111",
    "organizationUuid": "0a0a0a0a-1111-4111-8111-111111111111",
    "emailAddress": "Anna.Whole@example.org",
}
TEAM = {**ANNA, "organizationUuid": "0c0c0c0c-1111-4111-8111-111111111111"}
BOB = {
    "accountUuid": "bbbbbbbb-2222-4222-8222-222222222222",
    "organizationUuid": "0b0b0b0b-2222-4222-8222-222222222222",
    "emailAddress": "bob@example.com",
}
T1, T2, T3 = (f"sk-ant-oat01-MADE-UP-{x * 40}" for x in "123")


class Clock:
    """The wall clock and the monotonic one, which sleeping moves."""

    def __init__(self) -> None:
        self.wall, self.steady = time.time(), 1000.0

    def sleep(self, pause_s: float) -> None:
        """Time passes."""
        self.wall += pause_s
        self.steady += pause_s


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Time as this test has it."""
    made = Clock()
    monkeypatch.setattr(time, "time", lambda: made.wall)
    monkeypatch.setattr(time, "monotonic", lambda: made.steady)
    monkeypatch.setattr(time, "sleep", made.sleep)
    return made


@pytest.fixture(autouse=True)
def nobody_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumed run gets no supervisor here."""
    monkeypatch.setattr(queue, "wake", lambda _: [])
    monkeypatch.setattr(queue, "start", lambda *_: None)


class Machine:
    """What Claude Code has left on this machine."""

    def __init__(self, home: Path, clock: Clock) -> None:
        self.clock, self.config = clock, home / ".claude"
        self.state = home / ".claude.json"
        self.config.mkdir(exist_ok=True)

    def token(
        self, token: str, *, life_s: float = 8 * 3600.0, plan: str = "max", **more: Any
    ) -> None:
        """Write the token, at this moment."""
        held = {
            "accessToken": token, "refreshToken": "sk-ant-ort01-none", "scopes": ["user:inference"],
            "expiresAt": int((self.clock.wall + life_s) * 1000), "subscriptionType": plan, **more,
        }  # fmt: skip
        self._write(self.config / ".credentials.json", {"claudeAiOauth": held})

    def account(self, account: dict[str, str] | None) -> None:
        """Write the account, at this moment."""
        self._write(self.state, {"oauthAccount": account} if account else {})

    def sign_in(self, account: dict[str, str] | None, token: str, **more: Any) -> None:
        """Write both, and let them stand for long."""
        self.account(account)
        self.token(token, **more)
        self.clock.sleep(60)

    def _write(self, file: Path, content: object) -> None:
        file.write_text(json.dumps(content))
        os.utime(file, (self.clock.wall, self.clock.wall))


@pytest.fixture
def machine(home: Path, clock: Clock) -> Machine:
    """A machine with nobody signed in."""
    return Machine(home, clock)


@pytest.fixture
def store() -> Iterator[Store]:
    """The store of this test's home."""
    with Store() as opened:
        yield opened


def begun(store: Store, machine: Machine, **fields: Any) -> Run:
    """A recorded run whose account is noted; the agent is at work with its token."""
    chosen = Settings().to_dict() | fields.pop("settings", {})
    run = Run(
        id=RunId("r222"), repo="/r", handoff_key="k", config_dir=str(machine.config),
        settings=chosen,
    )  # fmt: skip
    paths.make_private(paths.run_dir(run.id))
    (paths.run_dir(run.id) / "plan.md").write_text("# Plan\n")
    run = accounts.note(store, store.add(run, name_branch=lambda _: "feature/auto")[0])
    login = token_of(run)
    assert login is not None
    mark = {"login_mark": login[1], "attempt": 1} | fields
    return store.change(run.id, **mark, **accounts.paying(run, accounts.whose(run, login[0])))


def token_of(run: Run, **more: Any) -> Any:
    """The login that the run may use, and its mark."""
    found = logins.on_this_machine(run, Settings.from_dict(run.settings), **more)
    return found and (found, logins.mark_of(found))


def used(run: Run, **more: Any) -> str:
    """The token that the run may use, or the name of the reason why there is none."""
    try:
        return str(token_of(run, **more)[0].token.reveal())
    except CredentialsError as error:
        return type(error).__name__


def in_the_end(run: Run, clock: Clock) -> str:
    """The same, looked at for as long as it takes."""
    while (found := used(run)) == "Unsettled":
        clock.sleep(1.0)
    return found
