"""A bundle from a box, read with care before git reads it (gitformat-bundle(5), gitformat-pack(5)).

The pack's entries are inflated here once, in bounded pieces, so that no object of a size beyond
the limits is ever made in memory by git: a few kilobytes can claim to be a hundred gigabytes.
"""

from __future__ import annotations

import mmap
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from plandock.errors import HarvestRefused

HEAD_REF = "refs/plandock/head"
OTHERS_REF = "refs/plandock/others/"
_LONGEST_HEADER = 1 << 20
_OFFSET_DELTA, _REF_DELTA = 6, 7
_KINDS = (1, 2, 3, 4, _OFFSET_DELTA, _REF_DELTA)


@dataclass(frozen=True)
class Limits:
    """How much may come out of one box; sizes in bytes.

    ``inflated_bytes`` counts every object at its full size, ``paths`` the files of any one tree
    on top of the snapshot's, ``changes`` the changed files of all commits together.
    """

    objects: int = 100_000
    bundle_bytes: int = 512 << 20
    object_bytes: int = 100 << 20
    inflated_bytes: int = 16 << 30
    commits: int = 10_000
    paths: int = 200_000
    changes: int = 2_000_000
    depth: int = 256


@dataclass(frozen=True)
class Bundle:
    """What a bundle says of itself: tips by ref name, and where its pack begins in the file."""

    refs: dict[str, str]
    prerequisites: tuple[str, ...]
    object_format: str
    pack_offset: int


def _refused(why: str) -> HarvestRefused:
    return HarvestRefused(f"the bundle was refused: {why}", reasons=(why,))


def read_bundle(path: Path) -> Bundle:
    """Parse the header of the bundle at ``path``; raises :class:`HarvestRefused`."""
    with path.open("rb") as file:
        head = file.read(_LONGEST_HEADER)
    end = head.find(b"\n\n")
    if end < 0:
        raise _refused("its header has no end")
    signature, *lines = head[:end].split(b"\n")
    if signature not in (b"# v2 git bundle", b"# v3 git bundle"):
        raise _refused("it is no git bundle")
    object_format, refs, prerequisites = "sha1", {}, []
    for line in lines:
        if line.startswith(b"@"):
            # Any other capability (a filter) would mean that objects are missing on purpose.
            if line not in (b"@object-format=sha1", b"@object-format=sha256"):
                raise _refused("its header asks for something unknown")
            object_format = line.partition(b"=")[2].decode()
            continue
        found = re.fullmatch(rb"(-?)([0-9a-f]{40}(?:[0-9a-f]{24})?)(?: (.*))?", line, re.S)
        if not found:
            raise _refused("its header is malformed")
        oid = found.group(2).decode()
        if found.group(1):
            prerequisites.append(oid)
            continue
        name = (found.group(3) or b"").decode("utf-8", "surrogateescape")
        if name in refs or not (name == HEAD_REF or name.startswith(OTHERS_REF)):
            raise _refused("it brings a ref that was not asked for")
        refs[name] = oid
    if not refs:
        raise _refused("it brings no ref")
    return Bundle(refs, tuple(prerequisites), object_format, end + 2)


def check_pack(path: Path, bundle: Bundle, limits: Limits) -> int:
    """Walk the pack's entries within ``limits``; returns how many objects there are.

    Raises :class:`HarvestRefused` for too many, too large or malformed ones.  Whether the
    objects are what their names say is for ``git index-pack`` to find out.
    """
    size = path.stat().st_size
    if size > limits.bundle_bytes:
        raise _refused(f"it is larger than {limits.bundle_bytes} bytes")
    tail = 32 if bundle.object_format == "sha256" else 20
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = bundle.pack_offset
        if data[at : at + 4] != b"PACK" or size - at < 12 + tail:
            raise _refused("its pack is malformed")
        count = int.from_bytes(data[at + 8 : at + 12], "big")
        if count > limits.objects:
            raise _refused(f"it holds {count} objects, more than {limits.objects}")
        walk = _Walk(data, at + 12, size - tail, tail, limits)
        for _ in range(count):
            walk.step()
        if walk.at != size - tail:
            raise _refused("something follows its pack")
    return count


class _Walk:
    """A position in a pack, moved on object by object."""

    def __init__(self, data: mmap.mmap, at: int, end: int, hash_bytes: int, limits: Limits) -> None:
        self.data, self.at, self.end = data, at, end
        self.hash_bytes, self.limits = hash_bytes, limits
        self.inflated = 0

    def step(self) -> None:
        """Pass one object, adding its full size."""
        byte = self._byte()
        kind, size, shift = byte >> 4 & 7, byte & 15, 4
        while byte & 0x80:
            byte = self._byte()
            size |= (byte & 0x7F) << shift
            shift += 7
            if shift > 70:
                raise _refused("its pack is malformed")
        if kind not in _KINDS:
            raise _refused("its pack holds an unknown kind of object")
        if kind == _OFFSET_DELTA:
            while self._byte() & 0x80:
                pass
        elif kind == _REF_DELTA:
            self.at += self.hash_bytes
        self._within(size)
        start = self._inflate(size)
        if kind in (_OFFSET_DELTA, _REF_DELTA):
            _, rest = _number(start, 0)
            size, _ = _number(start, rest)
            self._within(size)
        self.inflated += size
        if self.inflated > self.limits.inflated_bytes:
            raise _refused(f"it unpacks to more than {self.limits.inflated_bytes} bytes")

    def _within(self, size: int) -> None:
        if size > self.limits.object_bytes:
            most = self.limits.object_bytes
            raise _refused(f"it holds a file of {size} bytes, more than {most}")

    def _byte(self) -> int:
        if self.at >= self.end:
            raise _refused("its pack is cut off")
        self.at += 1
        return self.data[self.at - 1]

    def _inflate(self, size: int) -> bytes:
        """Pass one zlib stream of exactly ``size`` bytes; returns its first few."""
        stream = zlib.decompressobj()
        start, made = b"", 0
        try:
            while not stream.eof:
                # About what is needed: what is read beyond the stream's end is copied for nothing.
                # It may be the pack's own checksum; the walk's end shows whether it fits.
                want = min(1 << 16, size - made + (size >> 10) + 64)
                chunk = stream.unconsumed_tail or self.data[self.at : self.at + want]
                if not stream.unconsumed_tail:
                    if not chunk:
                        raise _refused("its pack is cut off")
                    self.at += len(chunk)
                piece = stream.decompress(chunk, 1 << 18)
                if len(start) < 32:
                    start += piece[:32]
                made += len(piece)
                if made > size:
                    raise _refused("an object is larger than it says")
        except zlib.error as error:
            raise _refused("its pack is malformed") from error
        self.at -= len(stream.unused_data)
        if made != size:
            raise _refused("an object is smaller than it says")
        return start


def _number(data: bytes, at: int) -> tuple[int, int]:
    """One size of a delta's head, and where the next thing begins."""
    value = shift = 0
    while at < len(data):
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at
    raise _refused("a delta is malformed")
