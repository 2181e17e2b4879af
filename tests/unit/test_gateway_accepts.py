"""Which whole, well-formed requests the gateway accepts: exactly those that it is there for.

Random bytes almost never make a request that could be accepted; these are put together from parts
of one, so that each rule decides by itself often enough.
"""

from __future__ import annotations

import head
from allowlist import Allowlist
from hypothesis import given
from hypothesis import strategies as st

ALLOW = Allowlist(["good.example.org", "*.wild.example.org"])
ALLOWED = ["good.example.org", "GOOD.example.org", "good.example.org.", "a.b.wild.example.org"]
OTHERS = ["evil.invalid", "wild.example.org", "good.example.org.evil.invalid", "xgood.example.org"]


@given(
    method=st.sampled_from(["CONNECT", "CONNECT", "GET", "POST"]),
    name=st.sampled_from([*ALLOWED, *OTHERS]),
    port=st.sampled_from(["443", "443", "80", "8443", "0443"]),
    same_host=st.sampled_from([True, True, False]),
)
def test_request_is_accepted_only_when_method_name_and_port_are_right(
    method: str, name: str, port: str, same_host: bool
) -> None:
    """The Host header has to name the same host; the answer is the name in its one spelling."""
    host = f"{name}:{port}" if same_host else "elsewhere.invalid:443"
    data = f"{method} {name}:{port} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    right = method == "CONNECT" and name in ALLOWED and port == "443" and same_host
    try:
        accepted = head.target_of(head.parse(data), ALLOW)
    except head.Refused:
        accepted = ""
    assert accepted == (name.lower().removesuffix(".") if right else "")
