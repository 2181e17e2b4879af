"""Which login a run uses, and the one way by which it is handed to whom it belongs."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from pathlib import Path

from plandock.box import keeper, launch
from plandock.claude import credentials
from plandock.claude.login import Login, check_life, parse_credentials
from plandock.engines.protocol import Engine
from plandock.errors import CredentialsError, PlandockError
from plandock.runs.model import Run
from plandock.runs.store import Store
from plandock.settings.environment import LOGIN_VOLUME
from plandock.settings.keys import Settings

SIGN_IN_AGAIN = "plandock login --box"


def on_this_machine(run: Run, settings: Settings, *, min_life_s: float = 600.0) -> Login | None:
    """The login that the user's machine has for a run; None where it lies in the engine."""
    if settings.credentials == "box" and settings.billing != "api-key":
        return None
    return credentials.find_login(
        mode=settings.credentials,
        billing=settings.billing,
        config_dir=Path(run.config_dir),
        environ=os.environ,
        min_life_s=min_life_s,
    )


def kept_in_a_volume(engine: Engine, image: str, run: Run) -> Login:
    """The login of `plandock login --box`; the CLI is let renew it where it is about to end.

    Raises :class:`CredentialsError` where there is none, or none that can be used any more.
    """
    volume = run.login_volume or LOGIN_VOLUME
    with keeper.held():
        login = _read(engine, image, volume)
        try:
            check_life(login, keeper.ENOUGH_LIFE_S, time.time())
        except CredentialsError:
            keeper.renew(engine, image, run.upstream, volume)
            login = _read(engine, image, volume)
    try:
        check_life(login, keeper.ENOUGH_LIFE_S, time.time())
    except CredentialsError as error:
        said = error.message.replace("the host's login", f"the login in {login.where}")
        raise CredentialsError(
            f"{said}, and Claude Code did not renew it", hint=SIGN_IN_AGAIN
        ) from error
    return login


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


def mark_of(login: Login) -> str:
    """A word by which a token is known again; the token cannot be read from it."""
    return hashlib.sha256(b"plandock\0" + login.token.reveal().encode()).hexdigest()[:16]


def is_superseded(store: Store, run: Run) -> bool:
    """Whether this machine has another login than the one that was refused in this attempt, or
    handed one in meanwhile: whether the agent had the time to use that shows in the next box."""
    renewed = [e["at"] for e in store.events(run.id) if e["kind"] == "login-renewed"]
    if renewed and renewed[-1] > store.last_move(run.id):
        return True
    with contextlib.suppress(PlandockError):
        login = on_this_machine(run, Settings.from_dict(run.settings))
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
