"""Which Git LFS files are as committed, found without running ``git lfs``.

A pointer names the content's SHA-256 and size (git-lfs, docs/spec.md), so that the question can
be answered by hashing; the filter itself would be the user's code.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from plandock import git

# The specification: a pointer is text of less than 1024 bytes, keys in order after `version`.
_LONGEST = 1023
_POINTER = re.compile(rb"version [^\n]+\n(?:[^\n]+\n)*?oid sha256:([0-9a-f]{64})\nsize (\d+)\n\Z")


def unchanged(
    repo: Path, entries: Mapping[str, str], mode: Callable[[str], int | None]
) -> set[str]:
    """Those paths whose file is what the pointer in the index describes.

    ``entries`` gives each path's blob id; ``mode`` is its ``lstat`` mode.  What is no pointer, or
    cannot be read, is not among them.
    """
    pointers = _pointers(repo, set(entries.values()))
    same = set()
    for path, oid in entries.items():
        if oid in pointers and stat.S_ISREG(mode(path) or 0):
            place = os.path.join(os.fsencode(repo), path.encode("utf-8", "surrogateescape"))
            if _matches(place, pointers[oid]):
                same.add(path)
    return same


def _pointers(repo: Path, oids: Iterable[str]) -> dict[str, bytes]:
    """The blobs among ``oids`` that are pointers."""
    asked = "".join(f"{x}\n" for x in sorted(oids) if x.strip("0")).encode()
    small = []
    for answer in git.git(repo, "cat-file", "--batch-check", stdin=asked).text.splitlines():
        oid, _, rest = answer.partition(" ")
        kind, _, size = rest.partition(" ")
        if kind == "blob" and int(size) <= _LONGEST:
            small.append(oid)
    asked = "".join(f"{x}\n" for x in small).encode()
    rest_of_it = git.git(repo, "cat-file", "--batch", stdin=asked).stdout
    found = {}
    for oid in small:
        head, _, rest_of_it = rest_of_it.partition(b"\n")
        length = int(head.rsplit(b" ", 1)[1])
        if _POINTER.match(rest_of_it[:length]):
            found[oid] = rest_of_it[:length]
        rest_of_it = rest_of_it[length + 1 :]
    return found


def _matches(place: bytes, pointer: bytes) -> bool:
    match = _POINTER.match(pointer)
    try:
        size = os.lstat(place).st_size
        with open(place, "rb") as file:
            if match and size == int(match.group(2)):
                return hashlib.file_digest(file, "sha256").hexdigest() == match.group(1).decode()
            # Not smudged: the work tree holds the pointer itself, and the filter leaves it so.
            return size == len(pointer) and file.read() == pointer
    except OSError:
        return False
