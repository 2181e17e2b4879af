"""Whose login a run uses, and the little of it that goes into the box.

plandock signs nobody in and renews nothing: it reads what the user's own Claude Code, or
``claude setup-token``, has left.  What a login is made of is in :mod:`plandock.claude.login`.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from plandock import paths
from plandock.claude import jsonfile, keychain
from plandock.claude.login import INFERENCE as INFERENCE
from plandock.claude.login import SIGN_IN, TOKEN, check_life
from plandock.claude.login import Login as Login
from plandock.claude.login import parse_credentials as parse_credentials
from plandock.claude.redact import Secret as Secret
from plandock.errors import CredentialsError
from plandock.settings.keys import WITH_CREDITS

MODES = ("auto", "token", "host", "sealed")

_SETUP_TOKEN = re.compile(r"sk-ant-oat[0-9]{2}-[A-Za-z0-9_-]{20,1024}")


def find_login(
    *,
    mode: str = "auto",
    billing: str = "subscription",
    config_dir: Path,
    environ: Mapping[str, str],
    min_life_s: float = 600.0,
    now: Callable[[], float] = time.time,
) -> Login:
    """The login that a new run starts with: the first good one of :func:`each_login`.

    Raises :class:`CredentialsError` where there is none, or less than ``min_life_s`` seconds of
    life in it.
    """
    problem: CredentialsError | None = None
    for login in each_login(mode=mode, billing=billing, config_dir=config_dir, environ=environ):
        try:
            if isinstance(login, CredentialsError):
                raise login
            check_life(login, min_life_s, now())
            return login
        except CredentialsError as error:
            # A locked Keychain or an old item is no reason to pass over a good file.
            problem = problem or error
    raise problem or absent(environ)


def each_login(
    *, mode: str = "auto", billing: str = "subscription", config_dir: Path,
    environ: Mapping[str, str],
) -> Iterator[Login | CredentialsError]:  # fmt: skip
    """Every login that a run may use, the preferred one first, however much life is in them; in
    the place of one that cannot be read, why.  None is read before it is asked for.

    ``mode`` is the setting ``credentials``: ``auto`` and ``sealed`` take a stored setup token,
    else the host's login (sealed differs in what is done with it); ``token`` and ``host`` take
    only the one.  ``box`` is no login of this machine: see ``plandock.box.keeper``.
    ``config_dir`` is Claude Code's folder, ``environ`` the user's own environment.  With
    ``billing="api-key"`` it is ``ANTHROPIC_API_KEY`` of ``environ``, and nothing else.  Raises
    :class:`CredentialsError` for settings that exclude each other, and for a stored token that
    cannot be used.
    """
    if billing == "api-key":
        if mode == "sealed":
            raise CredentialsError(
                "credentials = “sealed” lets no API key reach Anthropic, and billing is api-key",
                hint='set billing = "subscription", or credentials = "auto"',
            )
        yield _api_key(environ)
        return
    if billing not in ("subscription", WITH_CREDITS):
        known = f"subscription, {WITH_CREDITS} or api-key"
        raise CredentialsError(f"billing “{billing}” is not known", hint=known)
    if mode not in MODES:
        raise CredentialsError(f"a login of the kind “{mode}” is not on this machine")
    stored = _stored_setup_token() if mode != "host" else None
    if stored is not None:
        yield stored
    elif mode == "token":
        raise CredentialsError(
            "no setup token is stored", hint="make one with `claude setup-token`, then: "
            "plandock login",
        )  # fmt: skip
    if mode == "token":
        return
    for read in (_from_keychain, _from_file):  # the Keychain first, where there is one
        try:
            if (login := read(config_dir, environ)) is not None:
                yield login
        except CredentialsError as error:
            yield error


def absent(environ: Mapping[str, str]) -> CredentialsError:
    """What to say where there is no login at all."""
    hint = SIGN_IN
    if environ.get("CLAUDE_CODE_OAUTH_TOKEN"):
        hint = "CLAUDE_CODE_OAUTH_TOKEN is set here; give that token to: plandock login"
    return CredentialsError("Claude Code is not logged in on this machine", hint=hint)


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
        raise CredentialsError(f"{file} {error}", hint=SIGN_IN) from None
    if opened is None:
        return None
    return parse_credentials(
        opened.data, kind="file", where=str(file), written_at=opened.written_at
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
    if not TOKEN.fullmatch(key):
        raise CredentialsError("ANTHROPIC_API_KEY is not a key", hint="it has a stray character")
    return Login("api-key", Secret(key), None, "", (), where="ANTHROPIC_API_KEY")
