"""The trees of a box's commits, read as git stores them before any git command walks them.

A tree names the same subtree as often as it likes, so twelve objects can stand for ten thousand
million files; a command that lists paths would never end.  Here each tree is read once, and how
many files it stands for is added up instead of listed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from plandock.printable import spelled
from plandock.workspace import pathrules
from plandock.workspace.quarantine import Quarantine, refused

TREE, LINK, GITLINK = b"40000", b"120000", b"160000"
_MODES = frozenset({TREE, LINK, GITLINK, b"100644", b"100755"})


@dataclass
class Forest:
    """Every tree that was read: its subtrees, and how many entries that are no trees it has.

    ``reasons`` are what no tree may hold anywhere.  ``colliding`` says of an entry's name which
    others some file systems take for the same, and whether one of them is a link or a submodule:
    then what is written to the one lands in the other.
    """

    children: dict[str, list[str]] = field(default_factory=dict)
    entries: dict[str, int] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)
    colliding: dict[bytes, tuple[frozenset[bytes], bool]] = field(default_factory=dict)
    _known: set[frozenset[bytes]] = field(default_factory=set)
    _files: dict[str, int] = field(default_factory=dict)
    _depth: dict[str, int] = field(default_factory=dict)

    def grow(self, quarantine: Quarantine, roots: list[str], *, trusted: bool = False) -> None:
        """Read the trees below ``roots`` that were not read before.

        Those of the user's own snapshot are ``trusted``: what is odd in them was there already.
        """
        level = list(dict.fromkeys(x for x in roots if x not in self.children))
        while level:
            following: dict[str, None] = {}
            for oid, data in quarantine.read(level, "tree"):
                self._read(oid, data, quarantine.object_format, trusted)
                following.update((x, None) for x in self.children[oid])
            level = [x for x in following if x not in self.children]

    def _read(self, oid: str, data: bytes, object_format: str, trusted: bool) -> None:
        below: list[str] = []
        names: dict[str, list[tuple[bytes, bytes]]] = {}
        for mode, name, child in parse(data, 32 if object_format == "sha256" else 20):
            if not trusted:
                why = pathrules.broken_name(name)
                if mode not in _MODES:
                    why = f"an entry has the mode {mode.decode('ascii', 'replace')}"
                if why:
                    self._refuse(f"{why} (tree {oid[:12]})")
            if mode == TREE:
                below.append(child)
            folded = name.lower().decode() if name.isascii() else pathrules.fold(name)
            names.setdefault(folded, []).append((name, mode))
        self.children[oid] = below
        self.entries[oid] = sum(len(x) for x in names.values()) - len(below)
        for group in names.values():
            if len(group) > 1:
                self._collide(group, trusted)

    def _collide(self, group: list[tuple[bytes, bytes]], trusted: bool) -> None:
        together = frozenset(name for name, _ in group)
        if len(together) < len(group):
            self._refuse("two entries of one tree have the same name")
        elif trusted:
            self._known.add(together)
        elif together not in self._known:
            special = any(mode in (LINK, GITLINK) for _, mode in group)
            for name in together:
                before, was = self.colliding.get(name, (frozenset(), False))
                self.colliding[name] = (before | together, was or special)

    def _refuse(self, why: str) -> None:
        if why not in self.reasons and len(self.reasons) < 100:
            self.reasons.append(why)

    def measure(self, root: str) -> tuple[int, int]:
        """How many files the tree stands for, and how deep they lie, without listing them."""
        stack = [root]
        while stack:
            tree = stack[-1]
            if tree in self._files:
                stack.pop()
                continue
            waiting = [x for x in self.children[tree] if x not in self._files]
            if waiting:
                stack.extend(waiting)
                continue
            below = self.children[tree]
            self._files[tree] = self.entries[tree] + sum(self._files[x] for x in below)
            self._depth[tree] = 1 + max((self._depth[x] for x in below), default=0)
            stack.pop()
        return self._files[root], self._depth[root]


def parse(data: bytes, hash_bytes: int) -> Iterator[tuple[bytes, bytes, str]]:
    """Mode, name and object id of each entry of a tree; refused when it is malformed."""
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 8)
        zero = data.find(b"\0", space + 1)
        if space < 0 or zero < 0 or zero + 1 + hash_bytes > len(data):
            raise refused(["a tree is malformed"])
        yield data[at:space], data[space + 1 : zero], data[zero + 1 : zero + 1 + hash_bytes].hex()
        at = zero + 1 + hash_bytes


def shown(path: bytes, *, limit: int = 200) -> str:
    """A path for a reason or a note: undecodable bytes and controls spelled out."""
    text = spelled(path.decode("utf-8", "surrogateescape"))
    return text if len(text) <= limit else text[: limit - 1] + "…"
