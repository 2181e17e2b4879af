"""Bundles and packs made by hand: read with care, and refused in one way only."""

from __future__ import annotations

import hashlib
import zlib

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from plandock.errors import HarvestRefused
from plandock.workspace import trees
from plandock.workspace.bundle import Limits, check_pack, read_bundle
from tests.git.boxes import Box, take
from tests.git.worlds import untouched


@pytest.fixture
def box(world):
    """A box on the world's only commit."""
    return Box(world)


def _pack(*entries: bytes, count: int = 0) -> bytes:
    body = b"PACK" + (2).to_bytes(4, "big") + (count or len(entries)).to_bytes(4, "big")
    body += b"".join(entries)
    return body + hashlib.sha1(body, usedforsecurity=False).digest()


def _entry(kind: int, data: bytes, size: int = -1) -> bytes:
    size = len(data) if size < 0 else size
    first, size = kind << 4 | size & 15, size >> 4
    head = b""
    while size:
        head, first, size = head + bytes([first | 0x80]), size & 0x7F, size >> 7
    return head + bytes([first]) + zlib.compress(data)


@pytest.mark.parametrize(
    ("pack", "why"),
    [
        (b"", "malformed"),
        (_pack(_entry(3, b"x"), count=2), "malformed|unknown kind|cut off"),
        (_pack(_entry(3, b"x"), b"rest"), "malformed|unknown kind|cut off"),
        (_pack(_entry(5, b"x")), "unknown kind"),
        (_pack(_entry(3, b"x" * 100, size=10)), "larger than it says"),
        (_pack(_entry(3, b"x", size=10)), "smaller than it says"),
        (_pack(_entry(3, b"", size=1 << 40)), "more than 104857600"),
        (_pack(b"\xb0" + b"\xff" * 20), "malformed"),
        (_pack(_entry(3, b"x"))[:-4], "malformed|follows|cut off|smaller"),
        (_pack(b"\x71" + b"\0" * 20 + zlib.compress(b"\x85")), "delta is malformed"),
    ],
)
def test_malformed_packs_are_refused(world, box, pack, why):
    """A pack is walked before git sees it."""
    head = box.commit({"x": "y"})
    bundle = f"# v2 git bundle\n{head} refs/plandock/head\n\n".encode() + pack
    with pytest.raises(HarvestRefused, match=why):
        take(world, box, box.wrap(bundle))


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"# v9 git bundle\n\n",
        b"# v3 git bundle\n@filter=blob:none\n%(head) refs/plandock/head\n\n",
        b"# v2 git bundle\nnonsense\n\n",
        b"# v2 git bundle\n%(head) refs/heads/main\n\n",
        b"# v2 git bundle\n%(head) refs/plandock/head\n%(head) refs/plandock/others/x\n\n",
        b"# v2 git bundle\n-%(gone) x\n%(head) refs/plandock/head\n\n",
        b"# v2 git bundle\n%(head) refs/plandock/head\n%(head) refs/plandock/head\n\n",
        b"# v2 git bundle\n%(snapshot) refs/plandock/head\n\n",
    ],
)
def test_bundle_headers_that_promise_something_else_are_refused(world, box, header):
    """The refs are exactly those announced, and a bundle cannot ask for a filter."""
    head = box.commit({"x": "y"})
    for key, value in (("head", head), ("gone", "1" * 40), ("snapshot", box.snapshot)):
        header = header.replace(f"%({key})".encode(), value.encode())
    real = box.answer().partition(b"\n")[2]
    bundle = header + real[real.index(b"PACK") :]
    with untouched(world.root), pytest.raises(HarvestRefused):
        take(world, box, box.wrap(bundle))
    assert take(world, box, box.wrap(real)).commits == 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=40), max_size=4), st.binary(max_size=60))
@example([b"# v2 git bundle"], b"PACK")
def test_no_bundle_whatever_it_holds_does_worse_than_be_refused(tmp_path, lines, rest):
    """The parsers of header and pack fail in one way only."""
    path = tmp_path / "bundle"
    line = b"1" * 40 + b" refs/plandock/head"
    for head in (b"\n".join(lines), b"# v2 git bundle\n" + line):
        for pack in (rest, b"PACK\0\0\0\x02\0\0\0\x01" + rest + b"\0" * 20):
            path.write_bytes(head + b"\n\n" + pack)
            with pytest.raises(HarvestRefused):
                check_pack(path, read_bundle(path), Limits())


@given(st.binary(max_size=100))
def test_no_tree_whatever_it_holds_does_worse_than_be_refused(data):
    """Either every byte belongs to an entry or the tree is malformed."""
    try:
        entries = list(trees.parse(data, 20))
    except HarvestRefused:
        return
    again = b"".join(m + b" " + n + b"\0" + bytes.fromhex(o) for m, n, o in entries)
    assert again == data
