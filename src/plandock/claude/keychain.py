"""The login that Claude Code keeps in the macOS Keychain, asked for through ``security``.

Read only: plandock writes and deletes nothing there.  What is known about the items (shared
facts, section 5; names and account read in the CLI itself, 2.1.330): a generic password, service
``Claude Code-credentials`` (older: ``Claude Code``), account ``$USER``.  With a configuration
folder of its own the service gets ``-`` and the first eight hex digits of that folder's SHA-256.
The newer CLI keeps an API key of a Console login under the plain ``Claude Code``: that is no
subscription login, and is passed over.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import re
import sys
import unicodedata
from collections.abc import Mapping

from plandock import proc
from plandock.claude import jsonfile
from plandock.claude.redact import redact
from plandock.errors import CredentialsError

SECURITY = "/usr/bin/security"
LABELS = ("Claude Code-credentials", "Claude Code")

# security(1) exits with the low byte of the OSStatus.
_NOT_FOUND = frozenset(
    {
        44,  # errSecItemNotFound
        37,  # errSecNoDefaultKeychain: an account without a login keychain (CI, daemons)
        50,  # errSecNoSuchKeychain
    }
)
_INTERACTION_NOT_ALLOWED = 36  # errSecInteractionNotAllowed: locked, and nobody to ask (ssh)
_AUTH_FAILED = 51  # errSecAuthFailed: wrong password, or "Deny" in the dialog
_CANCELLED = 128  # errSecUserCanceled

_ACCOUNT = re.compile(r"[a-zA-Z0-9._-]+")
_HEX = re.compile(r"(?:[0-9a-fA-F]{2})+")

_UNLOCK = "run: security unlock-keychain   (or store a token: plandock login)"
_ALLOW = "allow `security` to read the item when macOS asks (or store a token: plandock login)"


def security_program(environ: Mapping[str, str]) -> str | None:
    """The program to ask, or None where no Keychain is consulted (anything but macOS).

    ``PLANDOCK_SECURITY`` of the user's own environment names another one, for tests.
    """
    named = environ.get("PLANDOCK_SECURITY", "")
    if named:
        return named
    return SECURITY if sys.platform == "darwin" else None


def account_name(environ: Mapping[str, str]) -> str:
    """The account under which Claude Code files its items: ``$USER``, else the login name."""
    name = environ.get("USER", "")
    if not name:
        try:
            name = pwd.getpwuid(os.getuid()).pw_name
        except KeyError:
            name = ""
    # The CLI's own rule for names that it does not trust on a command line.
    return name if _ACCOUNT.fullmatch(name) else "claude-code-user"


def own_config_dir(environ: Mapping[str, str]) -> str | None:
    """The folder whose hash is part of the service's name, as the CLI spells it; None for none."""
    stored = environ.get("CLAUDE_SECURESTORAGE_CONFIG_DIR")
    if stored is not None:
        return stored or None
    return environ.get("CLAUDE_CONFIG_DIR") or None


def labels(config_dir: str | None) -> tuple[str, ...]:
    """The services to try, in order.

    With a configuration folder both carry its suffix: the plain names belong to another login.
    """
    if not config_dir:
        return LABELS
    plain = unicodedata.normalize("NFC", config_dir).encode("utf-8", "surrogateescape")
    suffix = hashlib.sha256(plain).hexdigest()[:8]
    return tuple(f"{label}-{suffix}" for label in LABELS)


def read_keychain(
    *, account: str, config_dir: str | None, security: str = SECURITY, timeout_s: float = 60.0
) -> str | None:
    """The text of the first item that holds a subscription login, or None where there is none.

    The text is JSON as in ``.credentials.json``; an item of JSON that cannot be parsed is
    returned as it is, for the caller to complain about.  ``timeout_s`` is long because macOS may
    be asking the user.  Raises :class:`CredentialsError` when the Keychain is locked or the user
    said no.
    """
    for label in labels(config_dir):
        text = _read_item(label, account, security, timeout_s)
        if text is None or not text.startswith("{"):
            continue  # nothing, or the bare API key of a Console login
        try:
            held = jsonfile.parse_object(text)
        except jsonfile.Unreadable:
            return text
        if held.get("claudeAiOauth") is not None:
            return text
    return None


def _read_item(label: str, account: str, security: str, timeout_s: float) -> str | None:
    # Always -a: without it a second item of the same service, with MCP tokens only, may answer.
    argv = (security, "find-generic-password", "-s", label, "-a", account, "-w")
    try:
        done = proc.run(argv, check=False, timeout_s=timeout_s)
    except proc.ProcessFailed as error:
        raise CredentialsError(
            f"the Keychain could not be asked: {redact(error.message)}", hint=_ALLOW
        ) from None
    if done.returncode in _NOT_FOUND:
        return None
    if done.returncode == _INTERACTION_NOT_ALLOWED:
        raise CredentialsError("the Keychain is locked", hint=_UNLOCK)
    if done.returncode in (_AUTH_FAILED, _CANCELLED):
        raise CredentialsError(f"macOS was told not to show the item “{label}”", hint=_ALLOW)
    if not done.ok:
        raise CredentialsError(
            f"the Keychain did not give the item “{label}”: {redact(done.complaint)}", hint=_UNLOCK
        )
    text = _plain(done.stdout)
    if not text:
        # Seen over ssh: no password, no complaint, exit code 0.
        raise CredentialsError("the Keychain gave an empty answer; it may be locked", hint=_UNLOCK)
    return text


def _plain(output: bytes) -> str:
    """What ``-w`` printed; a secret with anything unprintable in it comes as hex digits."""
    text = output.decode("utf-8", "replace").strip()
    if _HEX.fullmatch(text):
        decoded = bytes.fromhex(text).decode("utf-8", "replace").strip()
        # Only JSON is looked for, so digits that decode to something else are themselves.
        if decoded.startswith("{"):
            return decoded
    return text
