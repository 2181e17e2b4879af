"""cargo: what replaces crates.io, further registries, and its certificates.

https://doc.rust-lang.org/cargo/reference/config.html and …/source-replacement.html.  cargo has no
stable command that prints its settings, so its file is read.  Logins are in another file
(`credentials.toml`), which is not opened.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from plandock.gateway.clients.found import Found
from plandock.gateway.clients.user import User

# The index, and the files that it points to: https://index.crates.io/config.json.
DEFAULT_HOSTS = ("index.crates.io", "static.crates.io")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_VARIABLE = re.compile(r"CARGO_REGISTRIES_([A-Z0-9_]{1,64})_INDEX")
_MOST_STEPS = 16


def read(user: User) -> Found:
    """Where cargo takes crates from."""
    found = Found("cargo")
    config = _config(user)
    registries = _registries(user, config)
    index = _replacement(_table(config, "source"), registries, found)
    if index is None:
        found.hosts += DEFAULT_HOSTS
    others = {}
    for name, text in registries.items():
        if own := _index(found, text):
            others[name] = own
    found.box = {"index": index or "", "registries": others}
    if any("token" in _table(_table(config, "registries"), name) for name in registries):
        found.needs_login()
    cainfo = user.environ.get("CARGO_HTTP_CAINFO") or _table(config, "http").get("cainfo")
    if isinstance(cainfo, str):
        found.ca_files.append(cainfo)
    return found


def _config(user: User) -> dict[str, Any]:
    named = user.environ.get("CARGO_HOME", "")
    folder = Path(named) if named.startswith("/") else user.home / ".cargo"
    text = user.text(folder / "config") or user.text(folder / "config.toml")
    # tomllib walks every part of a key for every part of it.
    if any(line.count(".") > 64 for line in text.splitlines()):
        return {}
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError):
        return {}


def _table(table: dict[str, Any], name: str) -> dict[str, Any]:
    inner = table.get(name)
    return inner if isinstance(inner, dict) else {}


def _registries(user: User, config: dict[str, Any]) -> dict[str, str]:
    """Every named registry and its index, variables before the file."""
    found: dict[str, str] = {}
    table = _table(config, "registries")
    for name in table:
        index = _table(table, name).get("index")
        if _NAME.fullmatch(name) and isinstance(index, str):
            found[name] = index
    for variable, value in user.environ.items():
        if matched := _VARIABLE.fullmatch(variable):
            wanted = matched[1]
            same = [n for n in found if n.upper().replace("-", "_") == wanted]
            found[same[0] if same else wanted.lower().replace("_", "-")] = value
    return found


def _replacement(sources: dict[str, Any], registries: dict[str, str], found: Found) -> str | None:
    """The index that stands in for crates.io; ``None`` where crates.io itself is used.

    Empty where it is replaced by something that the box cannot have.
    """
    name = "crates-io"
    for _ in range(_MOST_STEPS):
        source = _table(sources, name)
        following = source.get("replace-with")
        if isinstance(following, str):
            name = following
            continue
        if name == "crates-io":
            return None
        index = source.get("registry") or registries.get(name)
        if isinstance(index, str):
            return _index(found, index) or ""
        break
    found.note("what replaces crates.io in cargo's settings is a folder here; it isn't taken along")
    return ""


def _index(found: Found, text: str) -> str | None:
    """An index as cargo writes it: `sparse+https://…` or the address of a git repository."""
    sparse = text.startswith("sparse+")
    address = found.address(text.removeprefix("sparse+"))
    return ("sparse+" if sparse else "") + address if address else None
