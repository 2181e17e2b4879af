"""The names that the gateway connects to, with the addresses that are pinned to them.

Entries are whole names, or ``*.`` and at least two labels.  Settings that could mean more than
somebody wrote on purpose (``*``, ``*.com``, an address) stop the gateway at its start.
"""

from __future__ import annotations

import re

import addresses

LONGEST = 253  # RFC 1035, 2.3.4, without the trailing dot
_LABEL = r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"(?:{_LABEL}\.)*{_LABEL}", re.ASCII)
# What resolvers take for IPv4 in some spelling: 127.1, 2130706433, 0x7f.1, 0177.0.0.1
# (inet_aton(3)); the last label tells, as in WHATWG's URL standard ("ends in a number").
_NUMBER = re.compile(r"(?:[0-9]+|0x[0-9a-f]*)", re.ASCII)


class BadEntry(ValueError):
    """The settings name something that cannot be allowed."""


def canonical(text: str) -> str | None:
    """A host name in lower case without its one trailing dot; None for anything else."""
    name = text[:-1] if text.endswith(".") else text
    if not text.isascii() or len(name) > LONGEST:
        return None
    name = name.lower()
    return name if _NAME.fullmatch(name) else None


def is_literal(name: str) -> bool:
    """Whether a resolver would take a canonical name for an IPv4 address in some spelling."""
    return _NUMBER.fullmatch(name.rpartition(".")[2]) is not None


class Allowlist:
    """Which names are let through; built from the settings' list or object.

    An object gives each name a list of pinned addresses, which may be empty.  Raises
    :class:`BadEntry`.
    """

    def __init__(self, wish: object) -> None:
        entries: dict[object, object]
        if isinstance(wish, list):
            entries = {entry: [] for entry in _strings(wish)}
        elif isinstance(wish, dict):
            entries = dict(wish)
        else:
            raise BadEntry("allow is neither a list nor an object")
        self._exact: dict[str, frozenset[addresses.Address]] = {}
        self._below: dict[str, frozenset[addresses.Address]] = {}
        for entry, pins in entries.items():
            self._add(entry, pins)

    def _add(self, entry: object, pins: object) -> None:
        if not isinstance(entry, str):
            raise BadEntry("an entry of allow is no string")
        wild = entry.startswith("*.")
        name = canonical(entry[2:] if wild else entry)
        if name is None or is_literal(name):
            raise BadEntry(f"allow: {entry[:100]!r} is no host name")
        if wild and "." not in name:
            raise BadEntry(f"allow: {entry[:100]!r} is too wide")
        if not isinstance(pins, list):
            raise BadEntry(f"allow: the addresses of {entry[:100]!r} are no list")
        try:
            pinned = frozenset(addresses.parse(_text(pin)) for pin in pins)
        except ValueError:
            raise BadEntry(f"allow: {entry[:100]!r} has a pin that is no address") from None
        place = self._below if wild else self._exact
        place[name] = place.get(name, frozenset()) | pinned

    def __contains__(self, name: str) -> bool:
        """Whether a canonical name is let through."""
        return name in self._exact or any(parent in self._below for parent in _parents(name))

    def pinned(self, name: str) -> frozenset[addresses.Address]:
        """The addresses that may be connected to for this name though they are not public."""
        found = self._exact.get(name, frozenset())
        for parent in _parents(name):
            found |= self._below.get(parent, frozenset())
        return found


def _parents(name: str) -> list[str]:
    """`a.b.example.org` → `b.example.org`, `example.org`, `org`: never the name itself."""
    labels = name.split(".")
    return [".".join(labels[i:]) for i in range(1, len(labels))]


def _strings(entries: list[object]) -> list[object]:
    if any(not isinstance(entry, str) for entry in entries):
        raise BadEntry("an entry of allow is no string")
    return entries


def _text(pin: object) -> str:
    if not isinstance(pin, str):
        raise ValueError("a pin is no string")
    return pin
