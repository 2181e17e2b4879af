"""The lines of a box's log, bounded: what writes them is hostile."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import IO

# Longer than any message of the CLI (a tool's output is cut there, an image is base64).
LONGEST = 16 << 20
_CHUNK = 64 << 10


def lines_of(stream: IO[bytes], longest: int = LONGEST) -> Iterator[bytes]:
    """Each line with its line feed; one of more than ``longest`` bytes becomes a note of that.

    Never holds more than ``longest`` bytes and one chunk.
    """
    line, cut = bytearray(), 0
    while piece := stream.readline(_CHUNK):
        if cut or len(line) + len(piece) > longest:
            cut += len(line) + len(piece)
            line.clear()
        else:
            line += piece
        if piece.endswith(b"\n"):
            yield _cut(cut) if cut else bytes(line)
            line.clear()
            cut = 0
    if cut or line:
        yield _cut(cut) if cut else bytes(line) + b"\n"


def _cut(size: int) -> bytes:
    note = {"type": "plandock", "event": "line-cut", "bytes": size}
    return json.dumps(note).encode() + b"\n"
