"""apt: where this machine takes Debian's archive from, if it is a Debian at all.

sources.list(5): lines of one style, stanzas of the other.  Only Debian's own archive counts: the
box is a Debian of its own and has no key of anybody else's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from plandock.gateway.clients.found import Found
from plandock.gateway.clients.user import User

ETC = Path("/etc/apt")
_KINDS = ("debian", "debian-security")
_SUITE = re.compile(
    r"(oldoldstable|oldstable|stable|testing|unstable|sid|bullseye|bookworm|trixie|forky|duke)"
    r"(-updates|-backports|-proposed-updates|-security|/updates)?"
)
_ONE_LINE = re.compile(r"deb\s+(?:\[[^\]]*\]\s*)?(\S+)\s+(\S+)((?:\s+\S+)*)\s*")


def read(user: User, etc: Path = ETC) -> Found:
    """Where apt takes Debian's packages from."""
    found = Found("apt")
    archives: dict[str, str] = {}
    for address, suites, components in _entries(user, etc):
        if "main" not in components or not all(_SUITE.fullmatch(s) for s in suites):
            continue
        plain = address.removeprefix("mirror+")
        security = all(s.endswith(("-security", "/updates")) for s in suites)
        kind = _KINDS[security]
        if kind not in archives and (own := found.address(plain, http_too=True)):
            archives[kind] = own.rstrip("/")
    if not archives:
        found.names_nothing()
    for kind in _KINDS:
        # The box's own file names both, each on a host that is not known here.
        if archives and kind not in archives:
            found.note(f"apt here has no archive for {kind}; the box doesn't reach it")
    found.box = {"archives": archives}
    return found


def _entries(user: User, etc: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Address, suites and components of every enabled source."""
    folder = etc / "sources.list.d"
    try:
        names = sorted(p.name for p in folder.iterdir())[:256]
    except OSError:
        names = []
    for path in [etc / "sources.list", *(folder / n for n in names if n.endswith(".list"))]:
        for line in user.text(path).splitlines():
            if matched := _ONE_LINE.fullmatch(line.partition("#")[0].strip()):
                yield matched[1], [matched[2]], matched[3].split()
    for path in [folder / n for n in names if n.endswith(".sources")]:
        for stanza in re.split(r"\n[ \t]*\n", user.text(path)):
            fields = _fields(stanza)
            if fields.get("enabled", ["yes"])[:1] != ["no"] and "deb" in fields.get("types", []):
                for address in fields.get("uris", []):
                    yield address, fields.get("suites", []), fields.get("components", [])


def _fields(stanza: str) -> dict[str, list[str]]:
    """The fields of one stanza, in lower case, and their words; continued lines are joined."""
    fields: dict[str, list[str]] = {}
    name = ""
    for line in stanza.splitlines():
        if line.startswith("#"):
            continue
        if line[:1] in (" ", "\t") and name:
            fields[name] += line.split()
        elif ":" in line:
            key, _, value = line.partition(":")
            name = key.strip().lower()
            fields[name] = value.split()
    return fields
