"""Which login a run uses, and the one way by which it is handed to whom it belongs."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from plandock.box import keeper, launch
from plandock.claude.account import Account, Owner, account_of, parse_owner
from plandock.claude.account import mark_of as mark_of
from plandock.claude.login import Login, check_life, parse_credentials
from plandock.engines import detect
from plandock.engines.protocol import Engine
from plandock.errors import CredentialsError, PlandockError
from plandock.runs.model import Run
from plandock.runs.store import Store
from plandock.settings.environment import LOGIN_VOLUME
from plandock.settings.keys import Settings
from plandock.supervisor import accounts

SIGN_IN_AGAIN = "plandock login --box"


# How long a login that has just changed is looked at until it is judged (seconds).
_PATIENCE_S = 20.0
_LOOK_S = 0.5


def on_this_machine(
    run: Run, settings: Settings, *, min_life_s: float = 600.0, hurry: bool = False
) -> Login | None:
    """The login that the user's machine has for a run; None where it lies in the engine.

    Of the account that the run began with: raises as :func:`plandock.supervisor.accounts.choose`.
    """
    if settings.credentials == "box" and settings.billing != "api-key":
        return None
    return accounts.choose(run, settings, min_life_s=min_life_s, hurry=hurry)


def settled(run: Run, settings: Settings, *, hurry: bool = False) -> Login | None:
    """As :func:`on_this_machine`; waits for a moment where the login has just changed."""
    end = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return on_this_machine(run, settings, hurry=hurry)
        except accounts.Unsettled:
            if time.monotonic() > end:
                raise
            time.sleep(_LOOK_S)


def kept_in_a_volume(engine: Engine, image: str, run: Run) -> tuple[Login, Account]:
    """The login of `plandock login --box`, and whose it is; the CLI is let renew it where it is
    about to end.

    Raises :class:`CredentialsError` where there is none, or none that can be used any more, or
    it is of another account than the run began with.
    """
    volume = run.login_volume or LOGIN_VOLUME
    with keeper.held():
        login = _read(engine, image, volume)
        accounts.check(run, whose := _whose(engine, image, volume, login))
        try:
            check_life(login, keeper.ENOUGH_LIFE_S, time.time())
        except CredentialsError:
            keeper.renew(engine, image, run.upstream, volume)
            login = _read(engine, image, volume)
            accounts.check(run, whose := _whose(engine, image, volume, login))
    try:
        check_life(login, keeper.ENOUGH_LIFE_S, time.time())
    except CredentialsError as error:
        said = error.message.replace("the host's login", f"the login in {login.where}")
        raise CredentialsError(
            f"{said}, and Claude Code did not renew it", hint=SIGN_IN_AGAIN
        ) from error
    return login, whose


def _whose(engine: Engine, image: str, volume: str, login: Login) -> Account:
    """The account of a login in a volume: as its own file says, or the state file beside it."""
    owner = None
    if not login.account:
        data = keeper.read(engine, image, volume, keeper.STATE)
        owner = None if data is None else parse_owner(data)
    return account_of(login, owner or Owner(), kind="box")


def adopted(run: Run) -> tuple[dict[str, Any], str]:
    """What changes when the user lets a run go on, and a sentence of it: where the login here is
    of another account, that is the one from now on.  Nothing changes where none can be read."""
    if not run.account:
        return {}, ""
    settings = Settings.from_dict(run.settings)
    try:
        if settings.credentials == "box" and settings.billing != "api-key":
            volume = run.login_volume or LOGIN_VOLUME
            engine = detect.choose(run.engine or settings.engine)
            # Not held: somebody may be signing in just now, and nothing is renewed here.
            login = _read(engine, run.image, volume)
            accounts.check(run, _whose(engine, run.image, volume, login))
            return {}, ""
        end = time.monotonic() + _PATIENCE_S
        while True:
            try:
                accounts.choose(run, settings, min_life_s=0.0, hurry=True, any_of=True)
                return {}, ""
            except accounts.Unsettled:
                if time.monotonic() > end:
                    return {}, ""
                time.sleep(_LOOK_S)
    except accounts.AnotherAccount as another:
        return accounts.adopt(run, another.now)
    except PlandockError:
        return {}, ""


def _read(engine: Engine, image: str, volume: str) -> Login:
    where = f"the volume {volume} of {engine.name}"
    data = keeper.read(engine, image, volume)
    try:
        login = None if data is None else parse_credentials(data, kind="file", where=where)
    except CredentialsError as error:
        raise CredentialsError(error.message, hint=SIGN_IN_AGAIN) from error
    if login is None:
        raise CredentialsError(f"there is no login in {where}", hint=SIGN_IN_AGAIN)
    return login


def is_superseded(store: Store, run: Run) -> bool:
    """Whether this machine has another login than the one that was refused in this attempt, or
    handed one in meanwhile: whether the agent had the time to use that shows in the next box."""
    renewed = [e["at"] for e in store.events(run.id) if e["kind"] == "login-renewed"]
    if renewed and renewed[-1] > store.last_move(run.id):
        return True
    with contextlib.suppress(PlandockError):
        login = settled(run, Settings.from_dict(run.settings), hurry=True)
        return login is not None and mark_of(login) != run.login_mark
    return False


def hand_over(engine: Engine, run: Run, login: Login) -> None:
    """Give a run that has its containers this login: the first one, or a renewed one.

    In a sealed run the gateway gets the token and the box nothing; else the steward replaces the
    box's credentials file.  An API key is not renewed.  By standard input into a tmpfs, always.
    """
    if login.kind == "api-key":
        raise CredentialsError("an API key is not handed over while a run goes on")
    if run.settings.get("credentials") == "sealed":
        launch.tell_gateway(engine, run, {"token": login.token.reveal()})
    else:
        launch.tell(engine, run, {"op": "credentials", "credentials": login.box_file()})
