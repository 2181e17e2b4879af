"""Coverage-guided fuzzing of the gateway's head rules and address rules, with atheris.

`python tests/fuzz/gateway_head.py -runs=20000` ends with an error on an exception that is no
refusal, and on a target that is let through without being on the allowlist.  The arguments are
libFuzzer's.
"""

from __future__ import annotations

import ipaddress
import sys
from pathlib import Path

import atheris

for part in ("box", "gateway"):
    sys.path.insert(0, str(Path(__file__).parents[2] / f"src/plandock/{part}/inside"))

with atheris.instrument_imports(include=["addresses", "allowlist", "head", "sealed", "h11"]):
    import addresses
    import h11
    import head
    import sealed
    from allowlist import Allowlist

ALLOW = Allowlist({"good.example.org": ["10.0.0.1"], "*.wild.example.org": []})


def one_input(data: bytes) -> None:
    """Judge one input by every rule that reads what the box or a name server says."""
    if data[:1] == b"\0":
        _address(data[1:])
    elif data[:1] == b"\1":
        _sealed(data[1:])
    else:
        _head(data)


def _head(data: bytes) -> None:
    try:
        name = head.target_of(head.parse(data), ALLOW)
    except head.Refused:
        return
    if name != "good.example.org" and not name.endswith(".wild.example.org"):
        raise AssertionError(f"let through: {name!r}")


def _sealed(data: bytes) -> None:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=head.LIMIT)
    try:
        connection.receive_data(data)
        request = connection.next_event()
        if not isinstance(request, h11.Request):
            return
        sealed.check(request)
    except (h11.RemoteProtocolError, head.Refused):
        return
    out = sealed.outgoing(request, "api.anthropic.com", "made-up-token")
    named = [value for name, value in out.headers if name == b"authorization"]
    if named != [b"Bearer made-up-token"] or b".." in out.target.partition(b"?")[0].split(b"/"):
        raise AssertionError(f"passed on: {out!r}")
    h11.Connection(h11.CLIENT).send(out)


def _address(data: bytes) -> None:
    text = data.decode("latin-1")
    if addresses.why_refused(text) is None and not ipaddress.ip_address(text).is_global:
        raise AssertionError(f"let through: {text!r}")


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
