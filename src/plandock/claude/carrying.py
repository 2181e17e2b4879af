"""What of the user's own files goes into a box: read with care, bounded, and told of.

Nothing here is believed for where it lies.  A file counts by its real place (links followed), and
is taken where that place is allowed; what is not taken is named in :attr:`Carrier.left`.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

from plandock.claude.conversation import BoxFile
from plandock.claude.redact import redact
from plandock.printable import one_line

MOST_FILES = 2000
MOST_BYTES = 8 << 20
TOO_MUCH = "there is more than a box is given"
_LARGEST_WORDS = 1 << 20
_MOST_TOLD = 8
_WORDS = frozenset({".md", ".markdown", ".mdx", ".txt"})
# Folders of logins and keys, and files that hold them, wherever they lie and whatever a link says.
_SECRET_PARTS = re.compile(
    r"\.(?:ssh|aws|azure|gnupg|gpg|kube|docker|password-store|mozilla|git|netrc|npmrc|pypirc"
    r"|pgpass|env(?:\..*)?|credentials.*)|gcloud|keyrings|keychains"
    r"|id_(?:rsa|dsa|ecdsa|ed25519)(?:\..*)?|credentials(?:\..*)?|.*\.(?:pem|p12|pfx|key|keystore)",
    re.I,
)
_KEY = re.compile(rb"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----|sk-ant-[a-z]{2,12}[0-9]{0,4}-")


class NotCarried(Exception):
    """A file stays at home; its text says why."""


@dataclass
class Carrier:
    """Collects files for the box's conversation volume, and what stays at home."""

    files: dict[str, bytes] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    room: int = MOST_BYTES

    def add(self, place: str, content: bytes) -> None:
        """Lay a file at ``place`` of the volume; raises :class:`NotCarried` where it is full."""
        grows = len(content) - len(self.files.get(place, b""))
        if self.full or grows > self.room:
            raise NotCarried(TOO_MUCH)
        self.room -= grows
        self.files[place] = content

    @property
    def full(self) -> bool:
        """Whether no further file fits, so that none need be read."""
        return len(self.files) >= MOST_FILES or self.room <= 0

    def make_sure_of_room(self, path: Path) -> None:
        """Before a file is read: raises :class:`NotCarried` where it does not fit."""
        if self.full or path.stat().st_size > self.room:
            raise NotCarried(TOO_MUCH)

    def leave(self, what: object, why: object) -> None:
        """Note what stays at home."""
        self.left.append(one_line(f"left out of the box: {what}: {why}", limit=300))

    @property
    def told(self) -> list[str]:
        """What stays at home, few enough not to crowd out what else is to be said of a run."""
        more = len(self.left) - _MOST_TOLD
        rest = [f"left out of the box: {more} more of the user's files"] if more > 0 else []
        return [*self.left[:_MOST_TOLD], *rest]

    def box_files(self) -> tuple[BoxFile, ...]:
        """All of them, as the volume takes them."""
        return tuple(BoxFile(place, content) for place, content in self.files.items())


def read_words(path: Path, *, within: Path | None = None) -> str:
    """A text for the model, with what looks like a credential blanked.

    Raises :class:`NotCarried` for what is no such file, or does not lie ``within`` that folder.
    """
    real = _real(path, within)
    if real.suffix.lower() not in _WORDS:
        raise NotCarried("it is no text for the model (.md, .txt)")
    raw = _read(real, _LARGEST_WORDS)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise NotCarried("it is not UTF-8 text") from None
    if "\0" in text:
        raise NotCarried("it is not plain text")
    return redact(text)


def read_part(path: Path, *, within: Path) -> bytes:
    """A file that a skill's words use, whatever it is; raises :class:`NotCarried`."""
    real = _real(path, within)
    raw = _read(real, MOST_BYTES)
    if _KEY.search(raw):
        raise NotCarried("it holds a key or a token")
    return raw


def is_file(path: Path) -> bool:
    """Whether there is a regular file, links followed; nothing is raised."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def may_hold_secrets(real: Path) -> bool:
    """Whether any part of a path is the name of a place for logins or keys."""
    return any(_SECRET_PARTS.fullmatch(part) for part in real.parts)


def _real(path: Path, within: Path | None) -> Path:
    try:
        real = path.resolve(strict=True)
        inside = within is None or real.is_relative_to(within.resolve(strict=True))
    except (OSError, RuntimeError, ValueError):
        raise NotCarried("it cannot be found") from None
    if not inside:
        raise NotCarried("a link leads out of its folder")
    if may_hold_secrets(real) or may_hold_secrets(Path(path.name)):
        raise NotCarried("it may hold a login or a key")
    return real


def _read(real: Path, most: int) -> bytes:
    try:
        handle = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise NotCarried("it is no ordinary file")
            raw = file.read(most + 1) if status.st_size <= most else None
    except OSError as error:
        raise NotCarried(f"it cannot be read: {error.strerror}") from None
    if raw is None or len(raw) > most:
        raise NotCarried(f"it is larger than {most >> 20} MiB")
    return raw
