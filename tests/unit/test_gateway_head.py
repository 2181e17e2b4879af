"""The gateway's rules for names and for the head of a request."""

from __future__ import annotations

import contextlib

import head
import pytest
from allowlist import Allowlist, BadEntry, canonical
from hypothesis import given
from hypothesis import strategies as st

ALLOW = Allowlist(["good.example.org", "*.wild.example.org"])
GOOD = b"CONNECT good.example.org:443 HTTP/1.1\r\nHost: good.example.org:443\r\nA: b\r\n\r\n"


@pytest.mark.parametrize(
    "entry",
    ["*", "*.", "*.com", "*.com.", "*.*.example.org", "a*.example.org", "10.0.0.1", "*.0.0.1",
     "[::1]", "::1", "2130706433", "0x7f.1", "", ".", ".example.org", "a..b", "exam ple.org",
     "a/b.org", "a@b.org", "a:443", "café.org", "-a.org", "a" * 64 + ".org", "a." * 127 + "org",
     None, 5, ["a.org"]],
)  # fmt: skip
def test_an_entry_that_may_mean_too_much_stops_the_start(entry: object) -> None:
    """Bare and wide wildcards, literals, and what is no name at all."""
    with pytest.raises(BadEntry):
        Allowlist([entry])


@pytest.mark.parametrize("wish", [None, "a.org", 5, {"a.org": "10.0.0.1"}, {"a.org": [5]},
                                  {"a.org": ["10.1"]}, {"a.org": None}])  # fmt: skip
def test_a_list_of_another_shape_stops_the_start(wish: object) -> None:
    """Neither a list of names nor an object with lists of addresses."""
    with pytest.raises(BadEntry):
        Allowlist(wish)


def test_a_wildcard_stands_for_labels_on_its_left_and_never_for_none() -> None:
    """One label or more; not the suffix itself, and not what only ends alike."""
    assert "a.wild.example.org" in ALLOW
    assert "a.b.wild.example.org" in ALLOW
    assert "wild.example.org" not in ALLOW
    assert "awild.example.org" not in ALLOW
    assert "example.org" not in ALLOW


def test_pins_belong_to_their_name_alone() -> None:
    """A name's pins come from its own entry and the wildcards above it."""
    allow = Allowlist({"a.example.org": ["10.0.0.1"], "*.example.org": ["10.0.0.2"], "b.org": []})
    assert {str(x) for x in allow.pinned("a.example.org")} == {"10.0.0.1", "10.0.0.2"}
    assert {str(x) for x in allow.pinned("c.example.org")} == {"10.0.0.2"}
    assert not allow.pinned("b.org")


def test_a_good_head_names_its_target() -> None:
    """Positive control for everything that is refused."""
    assert head.target_of(head.parse(GOOD), ALLOW) == "good.example.org"


@pytest.mark.parametrize("length", range(1, len(GOOD)))
def test_a_good_head_is_waited_for_in_any_pieces(length: int) -> None:
    """However the network cuts it, a prefix is neither complete nor refused."""
    assert not head.complete(GOOD[:length])


@given(st.text(max_size=80))
def test_a_canonical_name_is_plain(text: str) -> None:
    """Whatever is a name consists of letters, digits, hyphens, underscores and dots."""
    name = canonical(text)
    if name is not None:
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_.")
        assert name == text.lower().removesuffix(".")
        assert canonical(name) == name


PIECES = st.sampled_from(
    [b"CONNECT ", b"GET ", b"good.example.org", b"evil.invalid", b"a.wild.example.org", b":443",
     b":80", b" HTTP/1.1", b"\r\n", b"Host: ", b"\r\n\r\n", b"@", b".", b"[::1]", b"127.1", b"\0",
     b"\n", b" ", b"\t", b"Content-Length: 1", b"Transfer-Encoding: chunked", b"https://", b"%00"]
)  # fmt: skip


@given(st.lists(PIECES | st.binary(max_size=5), max_size=14).map(b"".join))
def test_whatever_is_accepted_is_on_the_allowlist(data: bytes) -> None:
    """No bytes raise anything but a refusal, or lead to a name that is not allowed."""
    with contextlib.suppress(head.Refused):
        name = head.target_of(head.parse(data), ALLOW)
        assert name == "good.example.org" or name.endswith(".wild.example.org")
        assert data.startswith(b"CONNECT ")
        assert data.endswith(b"\r\n\r\n")
        assert data.count(b"\r\n\r\n") == 1


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_one_changed_byte_never_changes_the_host(place: int, byte: int) -> None:
    """A good head with any byte replaced still leads to the same host, or nowhere."""
    changed = GOOD[:place] + bytes([byte]) + GOOD[place + 1 :]
    with contextlib.suppress(head.Refused):
        assert head.target_of(head.parse(changed), ALLOW) == "good.example.org"
