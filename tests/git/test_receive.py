"""What the container sends is received whole, within bounds, or not at all."""

from __future__ import annotations

import io
import os
import stat

import pytest

from plandock.errors import HarvestRefused
from plandock.workspace import harvest
from tests.git.boxes import MOST, Box, get


@pytest.fixture
def box(world):
    """A box on the world's only commit."""
    return Box(world)


def test_the_bundle_is_private_and_whole(world, box):
    """0600, no temporary file left, and the header is there for a later call."""
    box.commit({"new": "x"})
    folder = world.folder / "run"
    folder.mkdir()
    header = get(folder, box.harvest())
    bundle = folder / "work.bundle"
    assert stat.S_IMODE(bundle.stat().st_mode) == 0o600
    assert bundle.stat().st_size == header.bundle_bytes
    assert harvest.received(bundle) == header
    assert sorted(x.name for x in folder.iterdir()) == ["work.bundle", "work.bundle.json"]


class Dying(io.BytesIO):
    """A stream whose other end dies."""

    def read(self, size: int | None = -1) -> bytes:
        """A little, then an error."""
        if self.tell() > 2000:
            raise OSError("gone")
        return super().read(500)


def test_a_bundle_cut_off_leaves_the_last_whole_one(world, box):
    """Neither a dead stream nor a short one replaces what was received before."""
    box.commit({"new": "x"})
    folder = world.folder / "run"
    folder.mkdir()
    first = get(folder, box.harvest())
    content = (folder / "work.bundle").read_bytes()
    box.commit({"more": os.urandom(10_000)})
    answer = box.harvest()
    with pytest.raises(OSError, match="gone"):
        harvest.receive(Dying(answer), folder / "work.bundle", max_bytes=MOST)
    for wrong in (answer[:-1], answer + b"x"):
        with pytest.raises(HarvestRefused, match="announced"):
            get(folder, wrong)
    assert (folder / "work.bundle").read_bytes() == content
    assert harvest.received(folder / "work.bundle") == first
    assert len(list(folder.iterdir())) == 2


def test_more_than_asked_for_is_not_written(world, box):
    """The cap holds although the header lies about the size."""
    box.commit({"large": os.urandom(100_000)})
    folder = world.folder / "run"
    folder.mkdir()
    with pytest.raises(HarvestRefused, match="larger than 50000"):
        get(folder, box.answer(bundle_bytes=10), max_bytes=50_000)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"no json\n",
        b"[]\n",
        b"[" * 100_000 + b"\n",
        b"{}\n",
        b'{"head": "HEAD"}\n',
        b'{"head": "' + b"1" * 40 + b'", "others": {"x": 1}}\n',
        b'{"head": "' + b"1" * 40 + b'", "commits": "1"}\n',
        b'{"head": "' + b"1" * 40 + b'", "commits": -1}\n',
        b'{"head": "' + b"1" * 40 + b'", "notes": "x"}\n',
        b'{"head": "' + b"1" * 40 + b'", "empty": 1}\n',
        b'{"head": "' + b"1" * 40 + b'"}',
        b"x" * (1 << 21) + b"\n",
    ],
)
def test_malformed_headers_are_refused(tmp_path, line):
    """The first line is bounded, JSON, and of the right types."""
    with pytest.raises(HarvestRefused):
        get(tmp_path, line)
    assert list(tmp_path.iterdir()) == []


def test_an_error_from_the_container_is_told(tmp_path):
    """Its words come through, without escape sequences."""
    with pytest.raises(HarvestRefused, match="no repository any more"):
        get(tmp_path, b'{"error": "no repository \\u001b[31many more"}\n')
