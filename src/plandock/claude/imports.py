"""Texts for the model that import others (``@path``): each goes along, and is named anew.

Measured with 2.1.197 and 2.1.332: a relative path counts from the real folder of the file that
names it, ``~`` is the home folder, five files deep; what stands in code is no import.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from plandock.claude.carrying import Carrier, NotCarried, is_file, read_words

FOLDER = "plandock-imports"
_DEEPEST = 5
_MOST = 100
_IMPORT = re.compile(r"(?P<before>^|\s)@(?P<path>(?:[^\s\\]|\\ )+)")
_CODE = re.compile(
    r"^[ ]{0,3}(?P<fence>`{3,}|~{3,}).*?(?:^[ ]{0,3}(?P=fence)[`~]*\s*?$|\Z)|`[^`\n]+`", re.M | re.S
)


@dataclass
class Importer:
    """Lays texts and what they import into the user's folder of a box."""

    carrier: Carrier
    home: Path
    # Real path → where it lies below the user's folder anyway, and where it was laid as an import.
    places: dict[Path, str] = field(default_factory=dict)
    names: dict[Path, str] = field(default_factory=dict)
    count: int = 0

    def carry(self, source: Path, place: str) -> None:
        """Lay a text at ``place`` below the user's folder, with all that it imports.

        Raises :class:`NotCarried` where the text itself stays at home.
        """
        text = read_words(source)
        self.carrier.add(f"user/{place}", self._named_anew(text, source, place, 0).encode())

    def imported(self, source: Path, *, tree: Path | None = None) -> str:
        """Lay a text into the folder of imports, once; its place below the user's folder.

        One of another repository's ``tree`` must lie in it, and what it imports is not followed.
        """
        return self._import(source, 0 if tree is None else _DEEPEST, tree)

    def _named_anew(self, text: str, source: Path, place: str, depth: int) -> str:
        here = source.resolve().parent

        def anew(found: re.Match[str]) -> str:
            named = self._target(found["path"], here)
            if named is None or depth >= _DEEPEST:
                return found[0]
            try:
                at = self._import(named, depth + 1)
            except NotCarried as why:
                self.carrier.leave(f"@{found['path']} of {source.name}", why)
                return found[0]
            way = posixpath.relpath(at, posixpath.dirname(place) or ".")
            way = f"./{way}" if place.startswith(f"{FOLDER}/") and "/" not in way else way
            return f"{found['before']}@{way}"

        return outside_code(text, lambda part: _IMPORT.sub(anew, part))

    def _import(self, source: Path, depth: int, tree: Path | None = None) -> str:
        real = source.resolve()
        if tree is None and real in self.places:
            return self.places[real]
        if real not in self.names:
            if len(self.names) >= _MOST:
                raise NotCarried("there are more imports than a box is given")
            text = read_words(source, within=tree)
            stem = re.sub(r"[^A-Za-z0-9._-]", "-", real.name)[-60:].lstrip(".-")
            self.count += 1
            place = self.names[real] = f"{FOLDER}/{self.count:02}-{stem}"
            words = self._named_anew(text, source, place, depth)
            try:
                self.carrier.add(f"user/{place}", words.encode())
            except NotCarried:
                del self.names[real]
                raise
        return self.names[real]

    def _target(self, path: str, here: Path) -> Path | None:
        """The file that an import names; None where there is none, for then it is a word."""
        found = target_of(path, here, self.home)
        return found if found is not None and is_file(found) else None


def target_of(path: str, here: Path, home: Path) -> Path | None:
    """Where an import leads; None for what is no path."""
    path = path.partition("#")[0].replace("\\ ", " ")
    if not path or "\0" in path:
        return None
    if path.startswith("~/"):
        return home / path[2:]
    return here / path


def paths_in(text: str) -> list[str]:
    """The paths that a text imports."""
    found: list[str] = []

    def note(part: str) -> str:
        found.extend(m["path"] for m in _IMPORT.finditer(part))
        return part

    outside_code(text, note)
    return found


def outside_code(text: str, change: Callable[[str], str]) -> str:
    """The text with ``change`` made to every part of it that is no code."""
    parts, at = [], 0
    for code in _CODE.finditer(text):
        parts += [change(text[at : code.start()]), code[0]]
        at = code.end()
    return "".join([*parts, change(text[at:])])
