"""Settings of the box's package clients: where the way out is, and which mirrors it leads to.

Everything is written into the home in memory before the agent starts.  The wish has one entry per
preset that is on, and the user's certificates; its texts were checked on the host
(`plandock.gateway.clients`): no quote, no space and no line break stands in an address.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

SYSTEM_CA = "/etc/ssl/certs/ca-certificates.crt"
APT = "/etc/apt"


class Room:
    """A home folder to write settings into, and the environment that goes with them."""

    def __init__(self, home: str, proxy: str, ca: str) -> None:
        self.home, self.proxy, self.ca = home, proxy, ca
        self.env: dict[str, str] = {}

    def write(self, name: str, text: str) -> str:
        """Write a file of the home; its path."""
        path = os.path.join(self.home, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path


def set_up(home: str, proxy: str, wish: Mapping[str, Any], apt: str = APT) -> dict[str, str]:
    """Write every client's settings below ``home``; the variables that the agent gets."""
    ca = wish.get("ca") or ""
    room = Room(home, proxy, SYSTEM_CA)
    if ca:
        with open(SYSTEM_CA, encoding="ascii", errors="replace") as file:
            room.ca = room.write(".config/certificates.pem", f"{file.read()}\n{ca}")
        for name in (
            "SSL_CERT_FILE",
            "NODE_EXTRA_CA_CERTS",
            "REQUESTS_CA_BUNDLE",
            "CURL_CA_BUNDLE",
        ):
            room.env[name] = room.ca
    git(room)
    parts: tuple[tuple[str, Callable[[Room, dict[str, Any] | None], None]], ...] = (
        ("npm", npm),
        ("pypi", pip),
        ("crates", cargo),
        ("go", go),
    )
    for preset, write in parts:
        write(room, wish.get(preset))
    debian(room, wish.get("debian"), apt)
    return room.env


def git(room: Room) -> None:
    """git: by the proxy, and no transport but https and files."""
    room.write(
        ".gitconfig",
        f"[http]\n\tproxy = {room.proxy}\n\tsslCAInfo = {room.ca}\n"
        '[protocol]\n\tallow = never\n[protocol "https"]\n\tallow = always\n'
        # As git has it: what a user asks for, and no submodule's wish.
        '[protocol "file"]\n\tallow = user\n',
    )


def npm(room: Room, wish: dict[str, Any] | None) -> None:
    """npm: the registry, and nothing that asks the network unbidden."""
    lines = [
        f"proxy={room.proxy}",
        f"https-proxy={room.proxy}",
        f"cafile={room.ca}",
        f"prefix={room.home}/.local",
        "audit=false",
        "fund=false",
        "update-notifier=false",
    ]
    if wish is None:
        lines.append("fetch-retries=0")  # what is refused will be refused again
    else:
        if wish.get("registry"):
            lines.append(f"registry={wish['registry']}")
        lines += [f"{scope}:registry={place}" for scope, place in wish["scopes"].items()]
        if wish.get("replace_registry_host"):
            lines.append(f"replace-registry-host={wish['replace_registry_host']}")
    room.write(".npmrc", "\n".join(lines) + "\n")


def pip(room: Room, wish: dict[str, Any] | None) -> None:
    """pip: the index; what it installs lands in the home, the rest being read-only."""
    lines = [
        "[global]",
        f"proxy = {room.proxy}",
        f"cert = {room.ca}",
        "disable-pip-version-check = true",
    ]
    if wish is None:
        lines.append("retries = 0")
    else:
        indexes = [place for place in (wish.get("index"), *wish["extra"]) if place]
        if indexes:
            lines.append(f"index-url = {indexes[0]}")
        elif wish.get("index") is None:  # one that was refused; no other in its place
            lines.append("no-index = true")
        if indexes[1:]:
            lines.append("extra-index-url = " + " ".join(indexes[1:]))
    room.write(".config/pip/pip.conf", "\n".join(lines) + "\n")
    room.env["PIP_BREAK_SYSTEM_PACKAGES"] = "1"


def cargo(room: Room, wish: dict[str, Any] | None) -> None:
    """cargo: what stands in for its own registry, and the registries by name."""
    lines = ["[http]", f"proxy = {json.dumps(room.proxy)}", f"cainfo = {json.dumps(room.ca)}"]
    lines += ["[net]", "git-fetch-with-cli = true"]
    lines += ["retry = 0"] if wish is None else []
    if wish and wish["index"]:
        lines += ["[source.crates-io]", 'replace-with = "mirror"']
        lines += ["[source.mirror]", f"registry = {json.dumps(wish['index'])}"]
    for name, index in (wish or {}).get("registries", {}).items():
        lines += [f"[registries.{name}]", f"index = {json.dumps(index)}"]
    room.write(".cargo/config.toml", "\n".join(lines) + "\n")


def go(room: Room, wish: dict[str, Any] | None) -> None:
    """go: proxy and checksum database; modules that can be removed again."""
    room.env["GOFLAGS"] = "-modcacherw"
    if wish is None:
        return
    room.env["GONOPROXY"] = "none"
    for variable, name in (("GOPROXY", "proxy"), ("GOSUMDB", "sumdb"), ("GONOSUMDB", "nosumdb")):
        if wish[name]:
            room.env[variable] = wish[name]


def debian(room: Room, wish: dict[str, Any] | None, apt: str) -> None:
    """apt, as far as it goes without root: its lists and its cache are in the home."""
    place = f"{room.home}/.apt"
    for name in ("state/lists/partial", "cache/archives/partial", "log", "sources.list.d"):
        os.makedirs(f"{place}/{name}", exist_ok=True)
    lines = [
        f'Acquire::http::Proxy "{room.proxy}";',
        f'Acquire::https::Proxy "{room.proxy}";',
        f'Acquire::https::CaInfo "{room.ca}";',
        'Acquire::Languages "none";',
        f'Dir::State "{place}/state";',
        'Dir::State::status "/var/lib/dpkg/status";',
        f'Dir::Cache "{place}/cache";',
        f'Dir::Log "{place}/log";',
    ]
    if wish is None:
        lines.append('Acquire::Retries "0";')
    else:
        lines += [
            f'Dir::Etc::sourcelist "{place}/sources.list";',
            f'Dir::Etc::sourceparts "{place}/sources.list.d";',
        ]
        for name, text in _sources(apt).items():
            room.write(f".apt/{name}", _over_https(text, wish["archives"]))
    room.env["APT_CONFIG"] = room.write(".apt/apt.conf", "\n".join(lines) + "\n")


def _sources(apt: str) -> dict[str, str]:
    """The image's own lists of sources, by name below apt's folder."""
    folder = f"{apt}/sources.list.d"
    names = [f"sources.list.d/{n}" for n in (os.listdir(folder) if os.path.isdir(folder) else [])]
    found = {}
    for name in ["sources.list", *(n for n in names if n.endswith((".list", ".sources")))]:
        if os.path.isfile(f"{apt}/{name}"):
            with open(f"{apt}/{name}", encoding="utf-8", errors="replace") as file:
                found[name] = file.read()
    return found


def _over_https(text: str, archives: Mapping[str, str]) -> str:
    """Every address on https, Debian's archives where the user's own machine has them."""

    def rewritten(match: re.Match[str]) -> str:
        address = match[0].rstrip("/")
        kind = urlsplit(address).path.rpartition("/")[2]
        return archives.get(kind) or "https://" + address.partition("://")[2]

    return re.sub(r"https?://[^\s\]#]+", rewritten, text)
