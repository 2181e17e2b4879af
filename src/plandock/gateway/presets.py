"""What `egress` comes down to when a run is staged: names, pinned addresses, clients' settings.

The hosts behind a preset are those that the user's own clients are set up for, read anew for each
run, their own defaults included.  No host is written down in the code: where a client is missing
or says nothing, nothing is allowed and a note says so.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from plandock.gateway import certificates
from plandock.gateway.clients import apt, cargo, go, npm, pip
from plandock.gateway.clients.found import Found
from plandock.gateway.clients.user import User
from plandock.settings import project
from plandock.settings.hosts import PRESETS

READERS: Mapping[str, Callable[[User], Found]] = {
    "npm": npm.read,
    "pypi": pip.read,
    "crates": cargo.read,
    "go": go.read,
    "debian": apt.read,
}
_MOST_PINS = 16


@dataclass(frozen=True)
class WayOut:
    """Which hosts a run may reach beside Anthropic's, and how the box's clients find them.

    ``pins`` has the addresses of each name that came from a preset: a company's mirror may well
    be on an address that is not public, and that very address is then allowed.  A name that the
    user wrote into `egress` has none: the gateway looks it up, and takes public addresses alone.
    ``reach`` says for people which preset brought which hosts; ``egress`` are the typed ones.
    """

    reach: dict[str, list[str]] = field(default_factory=dict)
    pins: dict[str, list[str]] = field(default_factory=dict)
    clients: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def find(egress: Sequence[str], environ: Mapping[str, str], cwd: str) -> WayOut:
    """Read the user's clients for the presets in ``egress`` and look their hosts up.

    ``cwd`` is where Claude Code works: variables that the project's settings name there are not
    the user's word.
    Raises nothing for what a client's settings may hold; what cannot be used stands in the notes.
    """
    theirs = project.read(project.folders_of(cwd, environ)).names(environ)
    user = User({name: value for name, value in environ.items() if name not in theirs})
    presets = [p for p in PRESETS if p in egress]
    typed = [name for name in egress if name not in PRESETS]
    with ThreadPoolExecutor(len(PRESETS)) as pool:
        found = dict(zip(presets, pool.map(lambda p: READERS[p](user), presets), strict=True))
        names = list(dict.fromkeys(h for one in found.values() for h in one.hosts))
        pins = dict(zip(names, pool.map(_addresses, names), strict=True))
    notes = [note for one in found.values() for note in one.notes]
    for name, addresses in pins.items():
        if not addresses:
            notes.append(f"{name} has no address that a box may reach; it was looked up here")
    files = [f for one in found.values() for f in one.ca_files]
    texts = [t for one in found.values() for t in one.ca_texts]
    pem, cut = certificates.collect(user, [*certificates.named(user.environ), *files], texts)
    reach = {preset: list(one.hosts) for preset, one in found.items()}
    return WayOut(
        reach={**reach, **({"egress": typed} if typed else {})},
        pins={**{name: [] for name in typed}, **pins},
        clients={"ca": pem, **{preset: one.box for preset, one in found.items()}},
        notes=tuple(dict.fromkeys([*notes, *cut])),
    )


def _addresses(name: str) -> list[str]:
    """What the name resolves to here, less what never is a mirror: this machine, the link."""
    try:
        answers = socket.getaddrinfo(name, 443, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    found: list[str] = []
    for answer in answers:
        text = str(answer[4][0])
        address = ipaddress.ip_address(text.partition("%")[0])
        inner = getattr(address, "ipv4_mapped", None) or address
        barred = inner.is_loopback or inner.is_link_local or inner.is_multicast
        if not barred and not inner.is_unspecified and text not in found:
            found.append(text)
    return found[:_MOST_PINS]
