"""Which addresses the gateway may connect to: public ones, and pinned private ones.

The tables follow IANA's special-purpose address registries (RFC 6890 and its updates), written
out because what `ipaddress` calls global differs between the patch versions of Python.  Of IPv6
only 2000::/3 is public at all (RFC 4291, 2.4); every form that carries an IPv4 address is refused,
whatever it carries, because where it ends is another machine's decision.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Union

# Evaluated at run time, and the Python of the user's base image may be older than 3.10.
Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]  # noqa: UP007
Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]  # noqa: UP007

# Never let through, pinned or not.  Addresses at which clouds answer questions about the machine
# and hand out its logins: AWS, Google, Azure (wire server), Alibaba, Oracle, Scaleway.
METADATA: frozenset[str] = frozenset(
    {
        "169.254.169.254",
        "169.254.170.2",
        "169.254.42.42",
        "168.63.129.16",
        "100.100.100.200",
        "192.0.0.192",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",
        "fd00:42::42",
        "fd00:c1::a9fe:a9fe",
    }
)

_NEVER: tuple[tuple[str, str], ...] = (
    ("0.0.0.0/8", "unspecified"),
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link-local"),
    ("224.0.0.0/4", "multicast"),
    ("255.255.255.255/32", "broadcast"),
    ("::/128", "unspecified"),
    ("::1/128", "loopback"),
    ("::ffff:0:0/96", "IPv4 in IPv6 (mapped)"),
    ("::ffff:0:0:0/96", "IPv4 in IPv6 (translated)"),
    ("::/96", "IPv4 in IPv6 (compatible)"),
    ("64:ff9b::/96", "IPv4 in IPv6 (NAT64)"),
    ("64:ff9b:1::/48", "IPv4 in IPv6 (NAT64)"),
    ("2001::/32", "IPv4 in IPv6 (Teredo)"),
    ("2002::/16", "IPv4 in IPv6 (6to4)"),
    ("fe80::/10", "link-local"),
    ("ff00::/8", "multicast"),
)

# Not public; let through where exactly this address is pinned to the name.
_PRIVATE: tuple[tuple[str, str], ...] = (
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "shared by a carrier (CGNAT)"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "reserved"),
    ("192.0.2.0/24", "documentation"),
    ("192.88.99.0/24", "reserved"),
    ("192.168.0.0/16", "private"),
    ("198.18.0.0/15", "reserved for measurements"),
    ("198.51.100.0/24", "documentation"),
    ("203.0.113.0/24", "documentation"),
    ("240.0.0.0/4", "reserved"),
    ("2001::/23", "reserved"),
    ("2001:db8::/32", "documentation"),
    ("3fff::/20", "documentation"),
    ("fc00::/7", "private (ULA)"),
    ("fec0::/10", "private (site-local)"),
)

_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")


def _table(rows: Iterable[tuple[str, str]]) -> list[tuple[Network, str]]:
    return [(ipaddress.ip_network(text), kind) for text, kind in rows]


_NEVER_NETWORKS = _table(_NEVER)
_PRIVATE_NETWORKS = _table(_PRIVATE)
_METADATA_ADDRESSES = frozenset(ipaddress.ip_address(text) for text in METADATA)


def why_never(address: Address) -> str | None:
    """What an address is that is refused even where it is pinned; None for others."""
    if address in _METADATA_ADDRESSES:
        return "metadata"
    return _kind(address, _NEVER_NETWORKS)


def why_not_public(address: Address) -> str | None:
    """What an address is that is not public; None for a public one."""
    found = why_never(address) or _kind(address, _PRIVATE_NETWORKS)
    if found is None and address.version == 6 and address not in _GLOBAL_V6:
        found = "reserved"
    if found is None and not address.is_global:  # newer than the tables above
        found = "reserved"
    return found


def why_refused(text: str, pinned: frozenset[Address] = frozenset()) -> str | None:
    """Why an answer of the resolver is not connected to; None where it may be.

    ``pinned`` are the addresses that the host found for this name.  Text that is no address, or
    one with a zone (``fe80::1%eth0``), is refused.
    """
    try:
        address = parse(text)
    except ValueError:
        return "no address"
    never = why_never(address)
    if never is not None:
        return never
    return None if address in pinned else why_not_public(address)


def parse(text: str) -> Address:
    """The address in its one strict spelling, no zone; raises :class:`ValueError`."""
    if "%" in text:
        raise ValueError("an address with a zone")
    return ipaddress.ip_address(text)


def _kind(address: Address, table: list[tuple[Network, str]]) -> str | None:
    for network, kind in table:
        if address.version == network.version and address in network:
            return kind
    return None
