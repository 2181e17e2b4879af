"""Which addresses the gateway connects to."""

from __future__ import annotations

import ipaddress

import addresses
import pytest
from hypothesis import given
from hypothesis import strategies as st

PUBLIC = [
    "1.1.1.1", "8.8.8.8", "93.184.216.34", "9.255.255.255", "11.0.0.0", "100.63.255.255",
    "100.128.0.0", "126.255.255.255", "128.0.0.0", "169.253.255.255", "169.255.0.0",
    "172.15.255.255", "172.32.0.0", "192.0.1.0", "192.167.255.255", "192.169.0.0",
    "198.17.255.255", "198.20.0.0", "203.0.112.255", "203.0.114.0", "223.255.255.255",
    "2606:2800:220:1::1", "2a00:1450:4001::5", "2001:200::1", "2001:4860:4860::8888",
]  # fmt: skip

PRIVATE = {
    "private": ["10.0.0.0", "10.255.255.255", "172.16.0.0", "172.31.255.255", "192.168.0.1",
                "fc00::1", "fdff::1", "fec0::1", "feff::1"],
    "shared": ["100.64.0.0", "100.127.255.255"],
    "documentation": ["192.0.2.1", "198.51.100.9", "203.0.113.255", "2001:db8::1", "3fff::1"],
    "reserved": ["192.0.0.1", "192.88.99.1", "198.18.0.1", "198.19.255.255", "240.0.0.1",
                 "255.255.255.254", "2001:10::1", "2001:20::1", "100::1", "4000::1", "5f00::1",
                 "1000::1", "e000::1", "200::1"],
}  # fmt: skip

NEVER = {
    "loopback": ["127.0.0.1", "127.255.255.255", "::1"],
    "unspecified": ["0.0.0.0", "0.1.2.3", "::"],  # noqa: S104
    "link-local": ["169.254.0.1", "169.254.255.255", "fe80::1", "febf::1"],
    "multicast": ["224.0.0.1", "239.255.255.255", "ff02::1"],
    "broadcast": ["255.255.255.255"],
    "metadata": sorted(addresses.METADATA),
    "IPv4 in IPv6": ["::ffff:8.8.8.8", "::ffff:10.0.0.1", "::8.8.8.8", "::ffff:0:8.8.8.8",
                     "64:ff9b::8.8.8.8", "64:ff9b:1::8.8.8.8", "64:ff9b:1:ffff::1",
                     "2002:808:808::1", "2001:0:808:808::1"],
}  # fmt: skip


def _rows(table: dict[str, list[str]]) -> list[tuple[str, str]]:
    return [(address, kind) for kind, found in table.items() for address in found]


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_connected_to(address: str) -> None:
    """The neighbours of every special range are let through: the ranges are no wider than said."""
    assert addresses.why_refused(address) is None


@pytest.mark.parametrize(("address", "kind"), _rows(PRIVATE))
def test_a_private_address_needs_its_own_pin(address: str, kind: str) -> None:
    """Refused without a pin and with a pin of the neighbour; let through with its own."""
    one = ipaddress.ip_address(address)
    assert kind in (addresses.why_refused(address) or "")
    assert addresses.why_refused(address, frozenset({one + 1}))
    assert addresses.why_refused(address, frozenset({one})) is None


@pytest.mark.parametrize(("address", "kind"), _rows(NEVER))
def test_some_addresses_are_refused_even_where_pinned(address: str, kind: str) -> None:
    """No pin opens the machine itself, its link, its metadata, or an address in disguise."""
    pinned = frozenset({ipaddress.ip_address(address)})
    assert kind in (addresses.why_refused(address, pinned) or "")


@pytest.mark.parametrize(
    "text", ["", "localhost", "10.0.0.1%eth0", "fe80::1%lo", "2606:2800::1%0", "1", "0x1.1.1.1",
             "010.0.0.1", "1.1.1.1 ", "[::1]", "1.1.1.1/32"],
)  # fmt: skip
def test_what_is_no_address_in_its_one_spelling_is_refused(text: str) -> None:
    """Zones, short forms and other spellings are nobody's answer."""
    assert addresses.why_refused(text) == "no address"


@given(st.ip_addresses())
def test_nothing_that_python_calls_special_is_let_through(address: addresses.Address) -> None:
    """The table is at least as strict as `ipaddress`, for whatever address."""
    if addresses.why_refused(str(address)) is None:
        assert address.is_global
        assert not any([address.is_private, address.is_loopback, address.is_link_local])
        assert not any([address.is_multicast, address.is_reserved, address.is_unspecified])


@given(st.ip_addresses(v=4), st.sampled_from(["::ffff:0:0", "::", "64:ff9b::", "::ffff:0:0:0"]))
def test_no_ipv4_address_gets_through_in_the_end_of_an_ipv6_one(
    inner: ipaddress.IPv4Address, prefix: str
) -> None:
    """Mapped, compatible, translated and NAT64 forms are refused, pinned too."""
    outer = ipaddress.IPv6Address(int(ipaddress.IPv6Address(prefix)) | int(inner))
    assert addresses.why_refused(str(outer), frozenset({outer}))
