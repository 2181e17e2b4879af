"""npm: the registry, the scopes' own registries, and its certificates.

https://docs.npmjs.com/cli/v10/using-npm/config; `npm config list --json` leaves logins out, and
has npm's own defaults in it.
"""

from __future__ import annotations

import json
import re
from typing import Any

from plandock.claude.registry import from_variables, read_npmrc
from plandock.gateway.clients.found import Found
from plandock.gateway.clients.user import User

_SCOPE = re.compile(r"(@[a-z0-9~._-]{1,214}):registry", re.IGNORECASE)
_REPLACE = ("npmjs", "always", "never")


def read(user: User) -> Found:
    """Where npm takes packages from."""
    found = Found("npm")
    settings, said = _settings(user)
    registry = said.get("registry")
    address = None
    if isinstance(registry, str):
        address = found.address(registry)
    else:
        found.names_nothing()
    scopes = {}
    for key, value in said.items():
        scope = _SCOPE.fullmatch(key)
        if scope and isinstance(value, str) and (own := found.address(value)):
            scopes[scope[1]] = own
    # npm itself keeps these to itself; the files do not.
    if any(key.startswith("//") and ":_" in key for key in settings):
        found.needs_login()
    found.box = {"registry": address, "scopes": scopes}
    if said.get("replace-registry-host") in _REPLACE:
        found.box["replace_registry_host"] = said["replace-registry-host"]
    cafile, inline = said.get("cafile"), said.get("ca")
    if isinstance(cafile, str):
        found.ca_files.append(cafile)
    for text in inline if isinstance(inline, list) else [inline]:
        if isinstance(text, str):
            found.ca_texts.append(text.replace("\\n", "\n"))
    return found


def _settings(user: User) -> tuple[dict[str, str], dict[str, Any]]:
    """What the files and variables say, and what npm makes of them (or the same without npm)."""
    variables = from_variables(user.environ)
    files: dict[str, str] = {}
    for path in (
        variables.get("globalconfig") or "/etc/npmrc",
        variables.get("userconfig") or str(user.home / ".npmrc"),
    ):
        files |= read_npmrc(user.text(path), user.environ)
    merged: dict[str, str] = {**files, **variables}
    try:
        said = json.loads(user.ask("npm", "config", "list", "--json") or "")
    except (ValueError, RecursionError):
        said = None
    return merged, said if isinstance(said, dict) else dict(merged)
