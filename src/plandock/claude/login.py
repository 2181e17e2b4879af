"""One login: what it is made of, how it is read, and the little of it that goes into a box.

Refresh tokens are single-use, so a copy that were renewed elsewhere would sign the host out
(shared facts, section 5): the one in the file is never carried along, because the box's copy is
built from a list of what it may hold.
"""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass
from typing import Any, Literal

from plandock.claude import jsonfile
from plandock.claude.redact import Secret, register
from plandock.errors import CredentialsError

Kind = Literal["setup-token", "file", "keychain", "api-key"]

INFERENCE = "user:inference"
# What a sealed box holds in a token's place: looks like one to the CLI, and is obviously none.
PLACEHOLDER = "sk-ant-oat01-plandock-placeholder-this-is-no-token"

# What goes into an HTTP header: printable ASCII, no space.
TOKEN = re.compile(r"[\x21-\x7e]{8,8192}")
_NAME = re.compile(r"[A-Za-z0-9_.: -]{1,100}")
_A_YEAR_S = 365 * 24 * 3600.0

SIGN_IN = "run `claude` and type /login, or: plandock login"
RENEW = "open `claude` once on this machine: it renews its login by itself"


@dataclass(frozen=True)
class Login:
    """One usable login.

    ``expires_at`` is in Unix seconds, None where nothing says when it ends; ``where`` names the
    place it was read from, for people.  ``account`` and ``organization`` are Claude Code's own
    identifiers, "" where they are not told; ``written_at`` is the file's, in Unix seconds.
    """

    kind: Kind
    token: Secret
    expires_at: float | None
    subscription: str
    scopes: tuple[str, ...]
    rate_limit_tier: str = ""
    where: str = ""
    # Whose it is, where that stands beside the token (2.1.332), and when that was written there.
    account: str = ""
    organization: str = ""
    written_at: float | None = None

    def remaining_s(self, now: float) -> float | None:
        """Seconds left at Unix time ``now`` (negative: over), None where that is not known."""
        return None if self.expires_at is None else self.expires_at - now

    def box_secrets(self) -> dict[str, Any]:
        """What goes into the box, through standard input and into a tmpfs alone.

        ``{"credentials": {"claudeAiOauth": {…}}}`` for the host's login (the box's
        ``.credentials.json``, without a refresh token), ``{"oauth_token": …}`` for a setup token,
        ``{"api_key": …}`` for an API key.
        """
        if self.kind == "setup-token":
            return {"oauth_token": self.token.reveal()}
        if self.kind == "api-key":
            return {"api_key": self.token.reveal()}
        held: dict[str, Any] = {"accessToken": self.token.reveal(), "scopes": list(self.scopes)}
        if self.expires_at is not None:
            held["expiresAt"] = round(self.expires_at * 1000)
        if self.subscription:
            held["subscriptionType"] = self.subscription
        if self.rate_limit_tier:
            held["rateLimitTier"] = self.rate_limit_tier
        return {"credentials": {"claudeAiOauth": held}}

    def box_file(self, *, sealed: bool = False) -> dict[str, Any]:
        """The box's ``.credentials.json``: this login without a refresh token.

        A setup token travels so, too: a file can be renewed while the run goes on, and no
        variable of the repository's settings goes before it (measured with both versions).
        ``sealed`` puts the placeholder in the token's place, with a long life: its end is for
        the host to watch.  Not for an API key.
        """
        secrets = self.box_secrets()
        held: dict[str, Any] = {"accessToken": self.token.reveal(), "scopes": [INFERENCE]}
        if "credentials" in secrets:
            held = dict(secrets["credentials"]["claudeAiOauth"])
        if sealed:
            held["accessToken"] = PLACEHOLDER
        if sealed or self.kind == "setup-token":
            held["expiresAt"] = int((time.time() + _A_YEAR_S) * 1000)
        return {"claudeAiOauth": held}


def parse_credentials(
    data: bytes | str,
    *,
    kind: Literal["file", "keychain"],
    where: str,
    written_at: float | None = None,
) -> Login | None:
    """The login in the text of a ``.credentials.json`` or Keychain item.

    None where it holds no ``claudeAiOauth`` (other programs' tokens may stand beside it).
    Raises :class:`CredentialsError` where it is malformed or may not be used for the model.
    """
    try:
        held = jsonfile.parse_object(data).get("claudeAiOauth")
    except jsonfile.Unreadable as error:
        raise CredentialsError(f"{where} {error}", hint=SIGN_IN) from None
    if held is None:
        return None
    if not isinstance(held, dict):
        raise _malformed(where, "claudeAiOauth is not an object")
    token = held.get("accessToken")
    if not isinstance(token, str) or not TOKEN.fullmatch(token):
        raise _malformed(where, "accessToken is not a token")
    if isinstance(refresh := held.get("refreshToken"), str):
        register(refresh)  # so that no message of ours shows it; it goes no further than here
    return Login(
        kind=kind,
        token=Secret(token),
        expires_at=_expiry(held.get("expiresAt"), where),
        subscription=_name(held.get("subscriptionType")),
        scopes=_scopes(held.get("scopes"), where),
        rate_limit_tier=_name(held.get("rateLimitTier")),
        where=where,
        account=_name(held.get("accountUuid")),
        organization=_name(held.get("organizationUuid")),
        written_at=written_at,
    )


def check_life(login: Login, min_life_s: float, now: float) -> None:
    """Raise :class:`CredentialsError` where less than ``min_life_s`` seconds are left."""
    left = login.remaining_s(now)
    if left is None or left >= max(min_life_s, 1.0):
        return
    if left <= 0:
        raise CredentialsError(f"the host's login expired {_span(-left)} ago", hint=RENEW)
    raise CredentialsError(
        f"the host's login is good for {_span(left)} more, {_span(min_life_s)} are asked for",
        hint=RENEW,
    )


def _expiry(value: object, where: str) -> float | None:
    if value is None:
        return None
    # bool is an int to Python; NaN and numbers beyond any clock are no time.
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _malformed(where, "expiresAt is not a number")
    if (isinstance(value, float) and not math.isfinite(value)) or not 0 <= value <= 10**15:
        raise _malformed(where, "expiresAt is not a time")
    return value / 1000


def _scopes(value: object, where: str) -> tuple[str, ...]:
    if value is None:
        value = []
    if not isinstance(value, list) or not all(isinstance(x, str) for x in value):
        raise _malformed(where, "scopes is not a list of names")
    scopes = tuple(x for x in value if _NAME.fullmatch(x))
    # Measured: without this scope, or without any, the CLI says that it is not logged in.
    if INFERENCE not in scopes:
        raise CredentialsError(
            f"the login in {where} may not ask the model (no scope {INFERENCE})", hint=SIGN_IN
        )
    return scopes


def _name(value: object) -> str:
    """A plan's or tier's name; anything else is as good as none, since nothing rests on it."""
    return value if isinstance(value, str) and _NAME.fullmatch(value) else ""


def _malformed(where: str, what: str) -> CredentialsError:
    return CredentialsError(f"{where} is not as Claude Code writes it: {what}", hint=SIGN_IN)


def _span(seconds: float) -> str:
    """A length of time, in its largest unit or two."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h" if hours else f"{days} d"
    if hours:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{minutes} min" if minutes else f"{rest} s"
