"""The box's log is read line by line, and no line of it can make the supervisor grow."""

from __future__ import annotations

import io
import json
import tracemalloc

from plandock.supervisor.log_lines import lines_of


class Endless(io.RawIOBase):
    """A stream of one line that does not end for a long time."""

    def __init__(self, size: int) -> None:
        self.left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        assert isinstance(buffer, memoryview)
        size = min(len(buffer), self.left)
        buffer[:size] = b"x" * size
        self.left -= size
        return size


def test_lines_come_as_they_are() -> None:
    """Short lines are passed on, and a last one without an end gets one."""
    assert list(lines_of(io.BytesIO(b"a\n\nb\nc"))) == [b"a\n", b"\n", b"b\n", b"c\n"]


def test_a_line_that_is_too_long_becomes_a_note_and_the_next_ones_stay() -> None:
    """The cut line is told with its size; what follows it is read as ever."""
    found = list(lines_of(io.BytesIO(b"a\n" + b"x" * 500_000 + b"\nb\n"), longest=100_000))
    assert (found[0], found[2]) == (b"a\n", b"b\n")
    assert json.loads(found[1]) == {"type": "plandock", "event": "line-cut", "bytes": 500_001}


def test_an_endless_line_does_not_make_the_reader_grow() -> None:
    """64 MiB without a line feed are read in a few MiB of memory; a plain iteration is not."""
    tracemalloc.start()
    size = 64 << 20
    list(lines_of(io.BufferedReader(Endless(size)), longest=1 << 20))
    bounded = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    list(io.BufferedReader(Endless(size)))
    plain = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert bounded < 8 << 20
    assert plain > size  # the positive control
