"""Lines of a stream that may be hostile: none is ever held whole beyond a bound."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

LONGEST_LINE = 16 << 20


def bounded_lines(stream: IO[bytes], longest: int = LONGEST_LINE) -> Iterator[bytes]:
    """The stream's lines; of a longer one only its first part, ended, and the rest is dropped."""
    while line := stream.readline(longest):
        if len(line) == longest and not line.endswith(b"\n"):
            while (rest := stream.readline(longest)) and not rest.endswith(b"\n"):
                pass
            line = line[:-1] + b"\n"
        yield line
