"""pip: its index, further indexes, and its certificates.

https://pip.pypa.io/en/stable/topics/configuration/; later sources win: global, user, site,
``PIP_CONFIG_FILE``, then the variables; within a file `install` goes before `global`.
"""

from __future__ import annotations

import ast
import configparser
import re
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from plandock.gateway.clients.found import Found
from plandock.gateway.clients.user import User

# pip's own package has the index that it falls back on, and the host of that index's files.  A
# mirror's files are where its index is.
_DEFAULT_IN = "_internal/models/index.py"
_DEFAULT = re.compile(
    r"""^PyPI = PackageIndex\(\s*["']([^"']+)["'],\s*file_storage_domain=["']([^"']+)["']""",
    re.MULTILINE,
)
_PLACE = re.compile(r"pip \S+ from (/.+) \(python [^()]*\)\s*")
_LINE = re.compile(r"([A-Za-z:_.-]{1,100})=(.{1,8192})")


def read(user: User) -> Found:
    """Where pip takes packages from."""
    found = Found("pip")
    program, said = _settings(user)
    default, files = _defaults(user, program)
    index: str | None = ""
    if text := said.get("index-url") or default:
        index = found.address(text)
    else:
        found.names_nothing()
    extra = [found.address(text) for text in said.get("extra-index-url", "").split()]
    found.box = {"index": index, "extra": [a for a in extra if a]}
    if files and urlsplit(default).hostname in found.hosts:
        found.host(files)
    if said.get("cert"):
        found.ca_files.append(said["cert"])
    return found


def _settings(user: User) -> tuple[str, dict[str, str]]:
    """Which pip there is, and its settings for `pip install` by name."""
    for program in ("pip3", "pip"):
        said = user.ask(program, "config", "list")
        if said is not None:
            return program, _listed(said)
    return "", _read_files(user)


def _defaults(user: User, program: str) -> tuple[str, str]:
    """The index that pip falls back on and the host of its files; empty where it doesn't say."""
    place = _PLACE.fullmatch((program and user.ask(program, "--version")) or "")
    text = user.text(Path(place[1]) / _DEFAULT_IN) if place else ""
    named = _DEFAULT.search(text)
    return (urljoin(named[1], "simple"), named[2]) if named else ("", "")


def _listed(said: str) -> dict[str, str]:
    """What `pip config list` prints: `section.name='value'`, the value as Python writes it."""
    sections: dict[str, dict[str, str]] = {}
    for line in said.splitlines():
        matched = _LINE.fullmatch(line.strip())
        if not matched:
            continue
        section, _, name = matched[1].rpartition(".")
        try:
            value = ast.literal_eval(matched[2])
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(value, str):
            sections.setdefault(section, {})[name.replace("_", "-")] = value
    return {k: v for s in ("global", "install", ":env:") for k, v in sections.get(s, {}).items()}


def _read_files(user: User) -> dict[str, str]:
    """The same without pip."""
    named = user.environ.get("PIP_CONFIG_FILE", "")
    places: list[str | Path] = [
        "/etc/xdg/pip/pip.conf",
        "/etc/pip.conf",
        user.home / ".pip/pip.conf",
        user.home / "Library/Application Support/pip/pip.conf",
        user.config_home() / "pip/pip.conf",
        *([named] if named else []),
    ]
    said: dict[str, str] = {}
    for place in places if named != "/dev/null" else []:
        parser = configparser.RawConfigParser(strict=False)
        try:
            parser.read_string(user.text(place))
        except (configparser.Error, ValueError):
            continue
        for section in ("global", "install"):
            if parser.has_section(section):
                said |= {k.replace("_", "-"): v for k, v in parser.items(section)}
    for name in ("index-url", "extra-index-url", "cert"):
        value = user.environ.get("PIP_" + name.upper().replace("-", "_"))
        if value:
            said[name] = value
    return said
