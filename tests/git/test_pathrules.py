"""The rules for names, links and addresses, against any input."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plandock.workspace import pathrules


@pytest.mark.parametrize(
    "url",
    ["https://example.invalid/x.git", "git@example.invalid:x.git", "../x.git", "./x",
     "ssh://git@example.invalid/x", "git://example.invalid/x"],
)  # fmt: skip
def test_ordinary_addresses_are_not_refused(url):
    """The usual ways to name a repository elsewhere."""
    assert pathrules.bad_address(url) == ""


SEGMENT = st.sampled_from([b"..", b".", b"", b"a", b"b", b"dir"])


@given(st.lists(st.sampled_from([b"a", b"b"]), max_size=3), st.lists(SEGMENT, max_size=7))
def test_a_link_that_is_let_in_never_climbs_out(folders, segments):
    """Followed word by word from its folder, its target stays at or below the root."""
    path = b"/".join([*folders, b"link"])
    target = b"/".join(segments)
    if pathrules.bad_link(path, target):
        return
    depth = len(folders)
    for segment in segments:
        depth += {b"..": -1, b".": 0, b"": 0}.get(segment, 1)
        assert depth >= 0
    assert not target.startswith(b"/")


@given(st.binary(max_size=40))
def test_any_bytes_can_be_judged_as_a_path(path):
    """No name makes a rule fail, and a name with a control character is never let in."""
    why = pathrules.bad_path(path)
    pathrules.bad_link(path, path)
    pathrules.misleading(path)
    if any(x < 0x20 for x in path):
        assert why
