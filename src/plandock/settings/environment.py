"""``PLANDOCK_*`` variables: which are the user's own, and the stand-in's address.

Claude Code lays the ``env`` block of a repository's ``.claude/settings.json`` over the
environment of every hook.  So a variable that such a block names is the repository's word, not
the user's, and counts for no more than ``.plandock.toml`` does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from plandock.errors import SettingsError

PREFIX = "PLANDOCK_"
# No settings, and somebody else's business.
_OTHERS = ("PLANDOCK_TEST_", "PLANDOCK_SETUP_")

# What Claude Code puts into the environment of what it starts.
_CLAUDES = ("CLAUDECODE", "CLAUDE_PROJECT_DIR", "CLAUDE_CODE_ENTRYPOINT", "CLAUDE_PID")

LOGIN_VOLUME = "plandock-login"
"""The volume with the login of `plandock login --box`, where no variable names another."""
# Of no run, no mirror, and nothing that the keeper of a login makes beside it.
_LOGIN_VOLUME = re.compile(rf"{LOGIN_VOLUME}(-[a-z0-9]{{1,40}})?")

_STAND_IN = re.compile(r"http://(127\.0\.0\.1|localhost|\[::1\]):([0-9]{1,5})/?")


def variable(key: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + key.upper()


def misspelt(environ: Mapping[str, str], known: Iterable[str]) -> tuple[str, str] | None:
    """A variable that can only have been meant as one of ``known``, and which one.

    Passed over, ``PLANDOCK_CREDENTIAL=sealed`` would leave the token in the box unsaid.  Names
    that resemble no setting are let alone: scripts have variables of their own.
    """
    names = set(known)
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in names and not name.startswith(_OTHERS):
            import difflib  # only where there is such a variable

            if near := difflib.get_close_matches(name[:64], names, 1, 0.93):
                return name[:64], near[0]
    return None


def from_repository(environ: Mapping[str, str], repo: Path | None) -> dict[str, Path]:
    """The ``PLANDOCK_*`` variables in ``environ`` that a settings file of the project names.

    Looks from ``repo`` and from ``$CLAUDE_PROJECT_DIR`` up to the repository's top.  A file that
    cannot be read whole may name any of them: then all count as the repository's.

    None where Claude Code has not started this process: in the user's own shell nothing was laid
    over, and a repository that names a variable must not make the user's value of it void.
    """
    ours = {name: value for name, value in environ.items() if name.startswith(PREFIX)}
    place = environ.get("CLAUDE_PROJECT_DIR", "")
    if not ours or not (repo or place):
        return {}
    from plandock.settings import project

    files = project.read(project.folders_of(repo or place, environ))
    named = files.names(environ)
    # A block that names one of Claude Code's own could hide that it is there.
    hidden = bool(files.unreadable) or any(name in files.names(_CLAUDES) for name in _CLAUDES)
    if not hidden and not any(name in environ for name in _CLAUDES):
        return {}
    return {name: path for name, path in named.items() if name in ours}


def trusted(environ: Mapping[str, str], repo: Path | None) -> dict[str, str]:
    """``environ`` less the ``PLANDOCK_*`` variables that are the repository's word.

    For the variables that are no settings (``PLANDOCK_UPSTREAM``, ``PLANDOCK_CLAUDE``,
    ``PLANDOCK_LOGIN_VOLUME``): they are honoured only from the user's own environment.
    """
    theirs = from_repository(environ, repo)
    return {name: value for name, value in environ.items() if name not in theirs}


def upstream(environ: Mapping[str, str]) -> str:
    """``PLANDOCK_UPSTREAM``, checked, without a trailing slash; empty when it is not set.

    It names what stands in for Anthropic's API in tests and the demo, and must be on this
    machine's loopback: a login goes nowhere else.  Raises :class:`SettingsError` otherwise.
    """
    value = environ.get("PLANDOCK_UPSTREAM", "")
    if not value:
        return ""
    found = _STAND_IN.fullmatch(value)
    if not found or not 1 <= int(found[2]) <= 65535:
        raise SettingsError(
            "PLANDOCK_UPSTREAM must be http://127.0.0.1:PORT (or localhost, or [::1])",
            hint="it is for tests and the demo; unset it for a real run",
        )
    return value.rstrip("/")


def login_volume(environ: Mapping[str, str]) -> str:
    """``PLANDOCK_LOGIN_VOLUME``, checked; :data:`LOGIN_VOLUME` when it is not set.

    It lets a test keep a login beside that of the user whose machine it runs on.  Raises
    :class:`SettingsError` for a name that could be another volume's.
    """
    value = environ.get("PLANDOCK_LOGIN_VOLUME", "") or LOGIN_VOLUME
    if not _LOGIN_VOLUME.fullmatch(value):
        raise SettingsError(
            f"PLANDOCK_LOGIN_VOLUME must be {LOGIN_VOLUME}-NAME, NAME of letters a-z and digits",
            hint="it is for tests; unset it for a real run",
        )
    return value
