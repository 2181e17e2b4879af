"""Whose login a run uses, and the little of it that goes into the box.

plandock signs nobody in and renews nothing: it reads what the user's own Claude Code, or
``claude setup-token``, has left.  Refresh tokens are single-use, so a copy that were renewed
elsewhere would sign the host out (shared facts, section 5): the one in the file is never carried
along, because the box's copy is built from a list of what it may hold.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from plandock import paths
from plandock.claude import jsonfile, keychain
from plandock.claude.redact import Secret as Secret
from plandock.errors import CredentialsError

Kind = Literal["setup-token", "file", "keychain", "api-key"]

INFERENCE = "user:inference"
MODES = ("auto", "token", "host")
# Settings that promise more than this version does are refused, never taken for something weaker.
_TO_COME = ("box", "sealed")

# What goes into an HTTP header: printable ASCII, no space.
_TOKEN = re.compile(r"[\x21-\x7e]{8,8192}")
_SETUP_TOKEN = re.compile(r"sk-ant-oat[0-9]{2}-[A-Za-z0-9_-]{20,1024}")
_NAME = re.compile(r"[A-Za-z0-9_.: -]{1,100}")

_SIGN_IN = "run `claude` and type /login, or: plandock login"
_RENEW = "open `claude` once on this machine: it renews its login by itself"


@dataclass(frozen=True)
class Login:
    """One usable login.

    ``expires_at`` is in Unix seconds, None where nothing says when it ends; ``where`` names the
    place it was read from, for people.
    """

    kind: Kind
    token: Secret
    expires_at: float | None
    subscription: str
    scopes: tuple[str, ...]
    rate_limit_tier: str = ""
    where: str = ""

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


def find_login(
    *,
    mode: str = "auto",
    billing: str = "subscription",
    config_dir: Path,
    environ: Mapping[str, str],
    min_life_s: float = 600.0,
    now: Callable[[], float] = time.time,
) -> Login:
    """The login that a run starts with.

    ``mode`` is the setting ``credentials``: ``auto`` takes a stored setup token, else
    the host's login; ``token`` and ``host`` take only the one.  ``config_dir`` is Claude
    Code's folder, ``environ`` the user's own environment.  With ``billing="api-key"`` it is
    ``ANTHROPIC_API_KEY`` of ``environ``, and nothing else.  Raises :class:`CredentialsError`
    where there is none, or less than ``min_life_s`` seconds of life in it.
    """
    if billing == "api-key":
        return _api_key(environ)
    if billing != "subscription":
        raise CredentialsError(f"billing “{billing}” is not known", hint="subscription or api-key")
    if mode in _TO_COME:
        raise CredentialsError(
            f"credentials = “{mode}” is not there yet", hint="use auto, token or host"
        )
    if mode not in MODES:
        raise CredentialsError(f"a login of the kind “{mode}” is not on this machine")
    if mode != "host":
        stored = _stored_setup_token()
        if stored is not None:
            return stored
    if mode == "token":
        raise CredentialsError(
            "no setup token is stored", hint="make one with `claude setup-token`, then: "
            "plandock login",
        )  # fmt: skip
    return _host_login(config_dir, environ, min_life_s, now())


def reread(
    login: Login,
    *,
    config_dir: Path,
    environ: Mapping[str, str],
    now: Callable[[], float] = time.time,
) -> Login | None:
    """A newer login from where ``login`` came, or None where there is none (yet).

    Newer means another token that has not expired.  Never raises for what it finds: while a run
    is going a locked Keychain or half a file is just no news.
    """
    if login.kind == "api-key":
        return None
    mode = "token" if login.kind == "setup-token" else "host"
    try:
        found = find_login(
            mode=mode, config_dir=config_dir, environ=environ, min_life_s=0.0, now=now
        )
    except CredentialsError:
        return None
    return None if found.token == login.token else found


def setup_token_file() -> Path:
    """Where :func:`store_setup_token` keeps the token."""
    return paths.config_dir() / "setup-token"


def store_setup_token(token: str) -> Path:
    """Keep a token that the user made with ``claude setup-token``; returns the file (0600).

    White space is dropped: a terminal breaks the line in the middle of the token.  Raises
    :class:`CredentialsError` for anything that is not such a token.
    """
    plain = _setup_token("".join(token.split()))
    file = setup_token_file()
    try:
        paths.make_private(file.parent)
        jsonfile.write_private(file, plain.encode("ascii") + b"\n")
    except OSError as error:
        raise CredentialsError(f"{file} cannot be written: {error.strerror}") from None
    return file


def forget_setup_token() -> bool:
    """Remove the stored token; returns whether there was one."""
    try:
        setup_token_file().unlink()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise CredentialsError(
            f"{setup_token_file()} cannot be removed: {error.strerror}"
        ) from None
    return True


def parse_credentials(
    data: bytes | str, *, kind: Literal["file", "keychain"], where: str
) -> Login | None:
    """The login in the text of a ``.credentials.json`` or Keychain item.

    None where it holds no ``claudeAiOauth`` (other programs' tokens may stand beside it).
    Raises :class:`CredentialsError` where it is malformed or may not be used for the model.
    """
    try:
        held = jsonfile.parse_object(data).get("claudeAiOauth")
    except jsonfile.Unreadable as error:
        raise CredentialsError(f"{where} {error}", hint=_SIGN_IN) from None
    if held is None:
        return None
    if not isinstance(held, dict):
        raise _malformed(where, "claudeAiOauth is not an object")
    token = held.get("accessToken")
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise _malformed(where, "accessToken is not a token")
    return Login(
        kind=kind,
        token=Secret(token),
        expires_at=_expiry(held.get("expiresAt"), where),
        subscription=_name(held.get("subscriptionType")),
        scopes=_scopes(held.get("scopes"), where),
        rate_limit_tier=_name(held.get("rateLimitTier")),
        where=where,
    )


def _host_login(
    config_dir: Path, environ: Mapping[str, str], min_life_s: float, now: float
) -> Login:
    """Keychain first, where there is one; the file else.  The first good one wins."""
    problem: CredentialsError | None = None
    for read in (_from_keychain, _from_file):
        try:
            login = read(config_dir, environ)
            if login is not None:
                _check_life(login, min_life_s, now)
                return login
        except CredentialsError as error:
            # A locked Keychain or an old item is no reason to pass over a good file.
            problem = problem or error
    if problem is not None:
        raise problem
    hint = _SIGN_IN
    if environ.get("CLAUDE_CODE_OAUTH_TOKEN"):
        hint = "CLAUDE_CODE_OAUTH_TOKEN is set here; give that token to: plandock login"
    raise CredentialsError("Claude Code is not logged in on this machine", hint=hint)


def _from_keychain(config_dir: Path, environ: Mapping[str, str]) -> Login | None:
    program = keychain.security_program(environ)
    if program is None:
        return None
    text = keychain.read_keychain(
        account=keychain.account_name(environ),
        config_dir=keychain.own_config_dir(environ),
        security=program,
    )
    if text is None:
        return None
    return parse_credentials(text, kind="keychain", where="the Keychain's Claude Code item")


def _from_file(config_dir: Path, environ: Mapping[str, str]) -> Login | None:
    file = config_dir / ".credentials.json"
    try:
        opened = jsonfile.read_bytes(file)
    except jsonfile.Unreadable as error:
        raise CredentialsError(f"{file} {error}", hint=_SIGN_IN) from None
    return None if opened is None else parse_credentials(opened.data, kind="file", where=str(file))


def _check_life(login: Login, min_life_s: float, now: float) -> None:
    left = login.remaining_s(now)
    if left is None or left >= max(min_life_s, 1.0):
        return
    if left <= 0:
        raise CredentialsError(f"the host's login expired {_span(-left)} ago", hint=_RENEW)
    raise CredentialsError(
        f"the host's login is good for {_span(left)} more, {_span(min_life_s)} are asked for",
        hint=_RENEW,
    )


def _stored_setup_token() -> Login | None:
    file = setup_token_file()
    try:
        opened = jsonfile.read_bytes(file, limit=65536)
    except jsonfile.Unreadable as error:
        raise CredentialsError(f"{file} {error}", hint="plandock login stores it anew") from None
    if opened is None:
        return None
    if opened.mode & 0o077:
        # As ssh does with a key: it may have been read, and only its owner can judge that.
        raise CredentialsError(f"{file} is open to other users", hint=f"chmod 600 {file}")
    if opened.owner not in (os.geteuid(), 0):
        raise CredentialsError(f"{file} belongs to another user", hint="plandock login")
    token = _setup_token(opened.data.decode("ascii", "replace").strip())
    return Login(
        kind="setup-token",
        token=Secret(token),
        # It lasts a year (facts, section 5), and nothing in it says since when.
        expires_at=None,
        subscription="",
        scopes=(INFERENCE,),
        where=str(file),
    )


def _setup_token(plain: str) -> str:
    if _SETUP_TOKEN.fullmatch(plain):
        return plain
    if plain.startswith("sk-ant-api"):
        raise CredentialsError(
            "that is an API key, which is billed per token; a setup token begins sk-ant-oat",
            hint="make one with: claude setup-token",
        )
    raise CredentialsError(
        "that is not a setup token (sk-ant-oat…)", hint="make one with: claude setup-token"
    )


def _api_key(environ: Mapping[str, str]) -> Login:
    key = environ.get("ANTHROPIC_API_KEY", "").strip()
    if not key:
        raise CredentialsError(
            "billing is set to api-key and ANTHROPIC_API_KEY is not set",
            hint="set the variable, or billing = \"subscription\"",
        )  # fmt: skip
    if not _TOKEN.fullmatch(key):
        raise CredentialsError("ANTHROPIC_API_KEY is not a key", hint="it has a stray character")
    return Login("api-key", Secret(key), None, "", (), where="ANTHROPIC_API_KEY")


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
            f"the login in {where} may not ask the model (no scope {INFERENCE})", hint=_SIGN_IN
        )
    return scopes


def _name(value: object) -> str:
    """A plan's or tier's name; anything else is as good as none, since nothing rests on it."""
    return value if isinstance(value, str) and _NAME.fullmatch(value) else ""


def _malformed(where: str, what: str) -> CredentialsError:
    return CredentialsError(f"{where} is not as Claude Code writes it: {what}", hint=_SIGN_IN)


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
