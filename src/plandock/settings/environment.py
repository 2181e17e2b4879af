"""``PLANDOCK_*`` variables: which are the user's own, and the stand-in's address.

Claude Code lays the ``env`` block of a repository's ``.claude/settings.json`` over the
environment of every hook.  So a variable that such a block names is the repository's word, not
the user's, and counts for no more than ``.plandock.toml`` does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from plandock.errors import SettingsError

PREFIX = "PLANDOCK_"

_STAND_IN = re.compile(r"http://(127\.0\.0\.1|localhost|\[::1\]):([0-9]{1,5})/?")


def variable(key: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + key.upper()


def from_repository(environ: Mapping[str, str], repo: Path | None) -> dict[str, Path]:
    """The ``PLANDOCK_*`` variables in ``environ`` that a settings file of the project names.

    Looks in the repository's top folder and in ``$CLAUDE_PROJECT_DIR``.  A file that cannot be
    read as JSON sets nothing in Claude Code either, and is passed over.
    """
    names = {name for name in environ if name.startswith(PREFIX)}
    folders = [repo] if repo else []
    if environ.get("CLAUDE_PROJECT_DIR"):
        folders.append(Path(environ["CLAUDE_PROJECT_DIR"]))
    if not names or not folders:
        return {}
    import json

    from plandock.settings.files import read_bounded

    found: dict[str, Path] = {}
    for folder in dict.fromkeys(folders):
        for file in ("settings.json", "settings.local.json"):
            path = folder / ".claude" / file
            try:
                data = read_bounded(path, most=8 << 20, follow=True)
                parsed = json.loads(data.decode("utf-8-sig")) if data else None
            except (SettingsError, ValueError, RecursionError):
                continue
            block = parsed.get("env") if isinstance(parsed, dict) else None
            if isinstance(block, dict):
                found.update((name, path) for name in names & set(block))
    return found


def trusted(environ: Mapping[str, str], repo: Path | None) -> dict[str, str]:
    """``environ`` less the ``PLANDOCK_*`` variables that are the repository's word.

    For the variables that are no settings (``PLANDOCK_UPSTREAM``, ``PLANDOCK_CLAUDE``): they are
    honoured only from the user's own environment.
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
