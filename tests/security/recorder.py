"""The outside of the arena: takes every packet, answers names, and writes down what arrived.

A program of its own, started by :mod:`tests.security.arena` in the world's network namespace,
where every address is a local one.  It writes one JSON object per line to ``--record``:

* ``packet``: each TCP opening, UDP datagram, ICMP message or other packet, seen by a raw socket,
* ``tcp`` and ``data``: a connection that was made, and the first bytes that came over it,
* ``dns``: a name that was asked for.

``--control`` is a Unix socket; whoever connects gets the size of the record after everything that
has arrived by then is in it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import selectors
import socket
import struct
from pathlib import Path
from typing import Any

from dnslib import AAAA, CNAME, QTYPE, RR, A, DNSRecord

TCP_PORTS = (22, 25, 53, 80, 443, 853, 2375, 2376, 3128, 3129, 3306, 5432, 6379, 8080, 8443, 9418)
"""Where somebody listens; an attempt at any other port is still seen as a packet."""

PUBLIC, OTHER = "93.184.216.34", "93.184.216.66"
PRIVATE = "10.213.77.7"

ZONE: dict[str, tuple[str, ...]] = {
    "api.anthropic.com": (PUBLIC,),
    "allowed.example": (PUBLIC,),
    "private10.example": (PRIVATE,),
    "private172.example": ("172.20.99.7",),
    "private192.example": ("192.168.213.7",),
    "cgnat.example": ("100.64.9.9",),
    "metadata.example": ("169.254.169.254",),
    "loopback.example": ("127.0.0.1",),
    "zero.example": ("0.0.0.0",),  # noqa: S104 - an answer, nothing is bound to it
    "multicast.example": ("224.0.0.251",),
    "reserved.example": ("240.0.0.9",),
    "benchmark.example": ("198.18.0.7",),
    "mixed.example": (PUBLIC, PRIVATE),
    "ula.example": ("fd00:213::7",),
    "loopback6.example": ("::1",),
    "linklocal6.example": ("fe80::7",),
    "mapped.example": ("::ffff:10.213.77.7",),
    "nat64.example": ("64:ff9b::a9fe:a9fe",),
    "sixtofour.example": ("2002:a9fe:a9fe::1",),
    "teredo.example": ("2001:0:a9fe:a9fe::1",),
    "alias.example": ("private10.example",),
}
"""Names with answers of their own; ``rebind.example`` turns private after its first answer, and
every other name has the address ``OTHER``."""

_ETH_P_ALL = 3
_OUTGOING = 4  # PACKET_OUTGOING of packet(7): what loops back is seen a second time
_PKTINFO = 8  # IP_PKTINFO of ip(7)
_SYN, _ACK = 2, 16
_UNREACHABLE = {4: (0, 3), 6: (1, 129)}  # ICMP answers of the kernel, by version of IP


class Recorder:
    """The listeners, and the record."""

    def __init__(self, record: Path, control: Path) -> None:
        self.out = record.open("ab", buffering=0)
        self.control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.ready = selectors.DefaultSelector()
        self.asked = 0
        self.raw = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL))
        self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self.watch(self.raw, self.packet)
        for port in TCP_PORTS:
            server = socket.create_server(
                ("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64
            )
            self.watch(server, self.accept)
        for family, anywhere in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):  # noqa: S104
            server = socket.socket(family, socket.SOCK_DGRAM)
            if family == socket.AF_INET6:
                server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            else:
                server.setsockopt(socket.IPPROTO_IP, _PKTINFO, 1)
            server.bind((anywhere, 53))
            self.watch(server, self.question)
        self.control.bind(str(control))
        self.control.listen(8)
        self.ready.register(self.control, selectors.EVENT_READ, self.told)

    def watch(self, what: socket.socket, act: Any) -> None:
        """Call ``act`` whenever the socket has something."""
        what.setblocking(False)
        self.ready.register(what, selectors.EVENT_READ, act)

    def write(self, kind: str, **facts: Any) -> None:
        """One line of the record."""
        self.out.write(json.dumps({"kind": kind, **facts}).encode() + b"\n")

    def serve(self) -> None:
        """For ever."""
        while True:
            self.step(None)

    def step(self, timeout_s: float | None, *, but: object = None) -> bool:
        """Act on everything that is there; whether there was anything."""
        found = [k for k, _ in self.ready.select(timeout_s) if k.fileobj is not but]
        # The control comes last: it acts on all that is there, so that nothing else found before
        # would be closed already when its turn came.
        for key in sorted(found, key=lambda k: k.fileobj is self.control):
            with contextlib.suppress(OSError):
                key.data(key.fileobj)
        return bool(found)

    def told(self, unix: socket.socket) -> None:
        """Bring the record up to date and say how long it is."""
        client, _ = unix.accept()
        while self.step(0, but=self.control):
            pass
        client.sendall(str(os.fstat(self.out.fileno()).st_size).encode())
        client.close()

    def packet(self, raw: socket.socket) -> None:
        """A packet on the world's loopback, from whoever is in that namespace."""
        data, address = raw.recvfrom(65536)
        if address[2] == _OUTGOING:
            return
        facts = described(address[1], data)
        if facts is not None:
            self.write("packet", **facts)

    def accept(self, server: socket.socket) -> None:
        """A connection that was made."""
        client, _ = server.accept()
        here = client.getsockname()
        self.write("tcp", to=plain(here[0]), port=here[1])
        self.watch(client, lambda c: self.data(c, plain(here[0]), here[1]))

    def data(self, client: socket.socket, to: str, port: int) -> None:
        """What came over a connection; a little is answered, so that the client goes on."""
        try:
            got = client.recv(65536)
        except OSError:
            got = b""
        if not got:
            self.ready.unregister(client)
            client.close()
            return
        self.write("data", to=to, port=port, data=got.decode("latin-1"))
        if port != 443:
            client.send(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\narrived")

    def question(self, server: socket.socket) -> None:
        """A datagram on port 53."""
        data, extra, _, peer = server.recvmsg(4096, 256)
        try:
            asked = DNSRecord.parse(data)
            name = str(asked.q.qname).rstrip(".").lower()
        except Exception:
            self.write("dns", name="?", data=data.decode("latin-1"))
            return
        self.write("dns", name=name)
        answer = asked.reply()
        for record in self.answers(name, QTYPE[asked.q.qtype]):
            answer.add_answer(record)
        # From the very address that was asked: AnyIP would choose another.
        here = [(level, kind, value) for level, kind, value in extra]
        server.sendmsg([answer.pack()], here, 0, peer)

    def answers(self, name: str, kind: str) -> list[RR]:
        """What the zone says of a name."""
        values = ZONE.get(name, (OTHER,))
        if name == "rebind.example":
            if kind == "A":
                self.asked += 1
            values = (PUBLIC,) if self.asked <= 1 else (PRIVATE,)
        found: list[RR] = []
        for value in values:
            if value in ZONE:
                found.append(RR(name, QTYPE.CNAME, rdata=CNAME(value), ttl=0))
                found += self.answers(value, kind)
            elif kind == "A" and ":" not in value:
                found.append(RR(name, QTYPE.A, rdata=A(value), ttl=0))
            elif kind == "AAAA" and ":" in value:
                found.append(RR(name, QTYPE.AAAA, rdata=AAAA(packed(value)), ttl=0))
        return found


def packed(address: str) -> tuple[int, ...]:
    """An IPv6 address as its bytes: dnslib reads no dotted form within one."""
    return tuple(socket.inet_pton(socket.AF_INET6, address))


def plain(address: str) -> str:
    """An address in its usual form."""
    return address.removeprefix("::ffff:")


def described(protocol: int, data: bytes) -> dict[str, Any] | None:
    """A packet's facts; ``None`` for answers of this side, and for DNS, which is told apart."""
    if protocol == 0x0800 and len(data) >= 20:
        version, number, body = 4, data[9], data[4 * (data[0] & 15) :]
        to = socket.inet_ntop(socket.AF_INET, data[16:20])
    elif protocol == 0x86DD and len(data) >= 40:
        version, number, body = 6, data[6], data[40:]
        to = socket.inet_ntop(socket.AF_INET6, data[24:40])
    else:
        return {"to": "", "protocol": f"0x{protocol:04x}", "data": data[:200].decode("latin-1")}
    facts: dict[str, Any] = {"to": plain(to), "protocol": number}
    if number in (6, 17) and len(body) >= 4:
        source, facts["port"] = struct.unpack("!HH", body[:4])
        if number == 6 and (len(body) < 14 or body[13] & (_SYN | _ACK) != _SYN):
            return None
        if number == 17:
            if 53 in (source, facts["port"]):
                return None
            facts["data"] = body[8:200].decode("latin-1")
    elif number in (1, 58):
        if not body or body[0] in _UNREACHABLE[version] or 130 <= body[0] <= 137 or body[0] == 143:
            return None  # unreachable, echo's answer, and the kernel's own neighbour talk
        facts["data"] = body[:200].decode("latin-1")
    else:
        facts["data"] = body[:200].decode("latin-1")
    return facts


def main() -> None:
    """Serve one world."""
    words = argparse.ArgumentParser()
    words.add_argument("--record", type=Path, required=True)
    words.add_argument("--control", type=Path, required=True)
    given = words.parse_args()
    Recorder(given.record, given.control).serve()


if __name__ == "__main__":
    main()
