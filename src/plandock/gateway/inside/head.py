"""The head of a CONNECT request: what it may look like, and what it asks for.

Raw rules come first, because a parser of HTTP is generous where a gateway must not be (bare line
feeds, folded headers); then h11 parses, and what it found is judged.  A head is refused as soon
as it can be known to be wrong, so that nobody waits for the rest of it.
"""

from __future__ import annotations

import re

import h11
from allowlist import Allowlist, canonical, is_literal

LIMIT = 16 * 1024
PORT = "443"

_LINE = re.compile(rb"[A-Za-z]+ [!-~]+ HTTP/1\.[01]")
# Of control characters only TAB, within a value, and CR LF, together.
_BAD = re.compile(rb"[^\t\r\n -~]|\r(?!\n)|(?<!\r)\n|\r\n[\t ]")
# With a body, an upgrade or a promise of more, a CONNECT is something else to somebody else.
_NOT_WITH_CONNECT = frozenset(
    {b"content-length", b"transfer-encoding", b"trailer", b"upgrade", b"expect"}
)


class Refused(Exception):
    """A request that is not let through; the reason is logged and told to the client."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


def complete(data: bytes) -> bool:
    """Whether the head has ended; raises :class:`Refused` where it can no longer be good.

    Refused, too, is anything behind the head: a client of CONNECT has nothing to say before it is
    answered, and bytes that came early could be meant for somebody else.
    """
    end = data.find(b"\r\n\r\n")
    head = data if end < 0 else data[: end + 4]
    # A CR at the very end may still get its LF.
    looked_at = head[:-1] if end < 0 and head.endswith(b"\r") else head
    if _BAD.search(looked_at):
        raise Refused(400, "not HTTP: a character that has no place in a head")
    line, newline, _ = looked_at.partition(b"\r\n")
    if newline and not _LINE.fullmatch(line):
        raise Refused(400, "not HTTP/1: no request line")
    if len(head) > LIMIT:
        raise Refused(431, "the head is too large")
    if end >= 0 and len(data) > end + 4:
        raise Refused(400, "data before the answer")
    return end >= 0


def parse(data: bytes) -> h11.Request:
    """The request of a whole head; raises :class:`Refused`."""
    if not complete(data):
        raise Refused(400, "an unfinished head")
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=LIMIT + 1)
    try:
        connection.receive_data(data)
        event = connection.next_event()
    except h11.RemoteProtocolError as error:
        raise Refused(400, "not HTTP") from error
    if not isinstance(event, h11.Request):
        raise Refused(400, "not a request")
    return event


def target_of(request: h11.Request, allow: Allowlist) -> str:
    """The canonical host name that a request may be connected to; raises :class:`Refused`."""
    if request.method != b"CONNECT":
        raise Refused(405, "only CONNECT is answered")
    name = _name(request.target.decode("ascii", "replace"))
    for header, value in request.headers:
        if header in _NOT_WITH_CONNECT:
            raise Refused(400, f"CONNECT with {header.decode('ascii')}")
        if header == b"host" and not _same(value.decode("ascii", "replace"), name):
            raise Refused(400, "the Host header names another host")
    if name not in allow:
        raise Refused(403, "the host is not on the allowlist")
    return name


def _name(target: str) -> str:
    if "/" in target or "?" in target or "#" in target:
        raise Refused(400, "CONNECT with something else than host and port")
    if "@" in target:
        raise Refused(400, "a target with user information")
    if target.startswith("["):
        raise Refused(403, "an address literal")
    host, colon, port = target.rpartition(":")
    if not colon or port != PORT:
        raise Refused(403, "only port 443 is open")
    name = canonical(host)
    if name is None:
        raise Refused(400, "the target is no host name")
    if is_literal(name):
        raise Refused(403, "an address literal")
    return name


def _same(value: str, name: str) -> bool:
    """Whether a Host header means this name, and this port if it gives one."""
    host, colon, port = value.rpartition(":")
    if not colon:
        return canonical(value) == name
    return port == PORT and canonical(host) == name
