"""Which login this machine had when the plan was accepted, by a digest of its token.

The hook has no time to see whose it is; the supervisor does so a moment later, and by this knows
whether it still looks at the same login.  Standard library only.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping

from plandock import paths

_MOST_BYTES = 1 << 20


def look(credentials: str, billing: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The kind of login that a run would use, and the digest of its token.

    {} where that takes more than a small file: a Keychain, a volume, an API key; and where there
    is none that can be read.  Never raises.
    """
    if billing == "api-key" or credentials == "box":
        return {}
    kind, token = "token", ""
    if credentials != "host":
        token = _text(paths.config_dir() / "setup-token").strip()
    if not token and credentials != "token":
        if sys.platform == "darwin" or environ.get("PLANDOCK_SECURITY"):
            return {}
        kind = "host"
        try:
            held = json.loads(_text(paths.claude_config_dir() / ".credentials.json"))
            token = held["claudeAiOauth"]["accessToken"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return {}
    if not token or not isinstance(token, str):
        return {}
    # As `plandock.claude.account.mark_of` makes it.
    mark = hashlib.sha256(b"plandock\0" + token.encode("utf-8", "surrogatepass")).hexdigest()
    return {"kind": kind, "mark": mark[:16]}


def _text(path: os.PathLike[str]) -> str:
    """A small file's text; "" where there is none."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            return file.read(_MOST_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
