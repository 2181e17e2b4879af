"""go: its module proxies and its checksum database.

https://go.dev/ref/mod#environment-variables; `go env` has go's own defaults in it.
"""

from __future__ import annotations

import json
import re

from plandock.gateway.clients.found import Found
from plandock.gateway.clients.user import User

_NAMES = ("GOPROXY", "GOSUMDB", "GONOSUMDB", "GOPRIVATE")
_PATTERNS = re.compile(r"[A-Za-z0-9._~/*?,\[\]^-]{0,2048}")
_KEY = re.compile(r"[A-Za-z0-9.+/=_-]{1,512}")


def read(user: User) -> Found:
    """Where go takes modules from."""
    found = Found("go")
    said = _settings(user)
    proxies = []
    for text in re.split(r"[,|]", said["GOPROXY"]):
        # `direct` fetches from any host whatever, so it stays here.
        if text.strip() not in ("", "direct", "off") and (own := found.address(text)):
            proxies.append(own)
    if not said["GOPROXY"]:
        found.names_nothing()
    patterns = said["GONOSUMDB"] or said["GOPRIVATE"]
    found.box = {
        "proxy": ",".join(proxies) or (said["GOPROXY"] and "off"),
        "sumdb": _sumdb(found, said["GOSUMDB"]),
        "nosumdb": patterns if _PATTERNS.fullmatch(patterns) else "",
    }
    return found


def _settings(user: User) -> dict[str, str]:
    # No file of the home folder decides which toolchain runs, or fetches one.
    asked = user.ask("go", "env", "-json", *_NAMES, env={"GOTOOLCHAIN": "local", "GOWORK": "off"})
    said: object = None
    if asked is not None:
        try:
            said = json.loads(asked)
        except (ValueError, RecursionError):
            said = None
    if not isinstance(said, dict):
        place = user.environ.get("GOENV") or str(user.config_home() / "go/env")
        said = {} if place == "off" else _file(user.text(place))
        said |= {n: user.environ[n] for n in _NAMES if user.environ.get(n)}
    answer = {}
    for name in _NAMES:
        value = said.get(name)
        answer[name] = value if isinstance(value, str) and value else ""
    return answer


def _file(text: str) -> dict[str, object]:
    pairs = (line.partition("=") for line in text.splitlines())
    return {name.strip(): value.strip() for name, sign, value in pairs if sign}


def _sumdb(found: Found, text: str) -> str:
    """`off`, or the database's name (with its key) and, where it is elsewhere, its address; empty
    where it is the box's own go that decides."""
    words = text.split()
    if not words or text == "off" or len(words) > 2 or not _KEY.fullmatch(words[0]):
        return "off" if text == "off" else ""
    if len(words) == 2:
        address = found.address(words[1])
        return f"{words[0]} {address}" if address else words[0]
    found.address("https://" + words[0].partition("+")[0])
    return words[0]
