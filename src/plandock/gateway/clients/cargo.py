"""cargo: its own registry or what replaces it, further registries, and its certificates.

https://doc.rust-lang.org/cargo/reference/config.html and …/source-replacement.html.  cargo has no
stable command that prints its settings, so its file is read, and its cache for where an index
has its files (https://doc.rust-lang.org/cargo/reference/registry-index.html, `dl`).  Logins are
in another file (`credentials.toml`), which is not opened.
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from plandock.gateway.clients.found import Found
from plandock.gateway.clients.user import User

# cargo's own registry: the source's name is that of its domain, with a dot.
_SOURCE = "crates-io"
_CACHED = re.compile(r"(.{1,253})-[0-9a-f]{16}")
_MOST_CACHED = 256
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_VARIABLE = re.compile(r"CARGO_REGISTRIES_([A-Z0-9_]{1,64})_INDEX")
_MOST_STEPS = 16


def read(user: User) -> Found:
    """Where cargo takes crates from."""
    found = Found("cargo")
    named = user.environ.get("CARGO_HOME", "")
    folder = Path(named) if named.startswith("/") else user.home / ".cargo"
    config = _config(user, folder)
    cache = _Cache(user, folder / "registry/index")
    registries = _registries(user, config)
    index = _replacement(_table(config, "source"), registries, found)
    if index is None and not cache.allow_own(found):
        found.names_nothing()
    others = {}
    for name, text in registries.items():
        if own := _index(found, text):
            others[name] = own
    for host in tuple(found.hosts):
        cache.allow_files(found, host)
    found.box = {"index": index or "", "registries": others}
    if any("token" in _table(_table(config, "registries"), name) for name in registries):
        found.needs_login()
    cainfo = user.environ.get("CARGO_HTTP_CAINFO") or _table(config, "http").get("cainfo")
    if isinstance(cainfo, str):
        found.ca_files.append(cainfo)
    return found


class _Cache:
    """What cargo has kept of the indexes that it has used: ``<host>-<hash>/config.json``."""

    def __init__(self, user: User, folder: Path) -> None:
        self._user, self._folder = user, folder
        try:
            names = sorted(p.name for p in folder.iterdir())[:_MOST_CACHED]
        except OSError:
            names = []
        self._hosts = {n: m[1] for n in names if (m := _CACHED.fullmatch(n))}

    def allow_own(self, found: Found) -> bool:
        """Allow the index of cargo's own registry; false where cargo has not used it."""
        domain = _SOURCE.replace("-", ".")
        own = [h for h in self._hosts.values() if f".{h}".endswith(f".{domain}")]
        for host in own:
            found.host(host)
        return bool(own)

    def allow_files(self, found: Found, host: str) -> None:
        """Allow the hosts from which the index on this one has its files downloaded."""
        for name in [n for n, h in self._hosts.items() if h == host]:
            try:
                said = json.loads(self._user.text(self._folder / name / "config.json"))
                files = urlsplit(said["dl"]).hostname if isinstance(said, dict) else None
            except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
                continue
            if isinstance(files, str):
                found.host(files)


def _config(user: User, folder: Path) -> dict[str, Any]:
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
    """The index that stands in for cargo's own registry; ``None`` where that itself is used.

    Empty where it is replaced by something that the box cannot have.
    """
    name = _SOURCE
    for _ in range(_MOST_STEPS):
        source = _table(sources, name)
        following = source.get("replace-with")
        if isinstance(following, str):
            name = following
            continue
        if name == _SOURCE:
            return None
        index = source.get("registry") or registries.get(name)
        if isinstance(index, str):
            return _index(found, index) or ""
        break
    found.note("what replaces cargo's own registry is a folder here; it isn't taken along")
    return ""


def _index(found: Found, text: str) -> str | None:
    """An index as cargo writes it: `sparse+https://…` or the address of a git repository."""
    sparse = text.startswith("sparse+")
    address = found.address(text.removeprefix("sparse+"))
    return ("sparse+" if sparse else "") + address if address else None
