"""Everything outside, as a gateway in a network namespace without a way out sees it.

Run inside the namespace: a name server, and recorders at 80, 443, 22, 8080 and 8443 of every
address there.  What reaches a recorder becomes one JSON line of ``recorded.jsonl`` in the folder
that is named on the command line.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from pathlib import Path

from dnslib import AAAA, CNAME, QTYPE, RCODE, RR, A
from dnslib.server import BaseResolver, DNSServer

PUBLIC, PUBLIC_6 = "93.184.216.34", "2606:2800:220:1::34"
PRIVATE, METADATA, MIRROR = "10.1.2.3", "169.254.169.254", "10.9.9.9"
PORTS = (22, 80, 443, 8080, 8443)
ADDRESSES = (
    PUBLIC, PUBLIC_6, PRIVATE, METADATA, MIRROR, "192.168.7.7", "172.16.0.9", "100.64.1.1",
    "100.100.100.200", "168.63.129.16", "198.18.0.1", "203.0.113.5", "192.0.2.1", "240.0.0.1",
    "64:ff9b::a01:203", "64:ff9b:1::a01:203", "2002:a01:203::1", "2001:0:a01:203::1",
    "fd00:ec2::254", "fd12::1", "fec0::1", "2001:db8::1",
)  # fmt: skip

# One list per answer; the last one is given for ever.
ZONE: dict[str, list[list[str]]] = {
    "good.example.org": [[PUBLIC]],
    "six.example.org": [[PUBLIC_6]],
    "sub.wild.example.org": [[PUBLIC]],
    "wild.example.org": [[PUBLIC]],
    "evil.example.net": [[PUBLIC]],
    "good.example.org.evil.example.net": [[PUBLIC]],
    "xgood.example.org": [[PUBLIC]],
    "rebinds.example.org": [[PUBLIC], [PRIVATE]],
    "mixed.example.org": [[PUBLIC, PRIVATE]],
    "mixed6.example.org": [[PUBLIC, "::1"]],
    "mirror.example.org": [[MIRROR]],
    "moved.example.org": [[PRIVATE]],
    "pinnedloop.example.org": [["127.0.0.1"]],
    "pinnedmeta.example.org": [[METADATA]],
    "api.anthropic.com": [[PUBLIC]],
}
CNAMES = {"alias.example.org": "inside.example.org"}
ZONE["inside.example.org"] = [[PRIVATE]]
# `to-<address>.example.org`, with `-` for dots and `c` for colons, for each bad address.
BAD = (
    "127.0.0.1", "0.0.0.0", "::1", "::", "::ffff:10.1.2.3", "::10.1.2.3", "fe80::1", "224.0.0.1",  # noqa: S104 - answers, bound by nobody
    *(x for x in ADDRESSES if x not in (PUBLIC, PUBLIC_6)),
)  # fmt: skip


def name_for(address: str) -> str:
    """The name that resolves to an address of :data:`BAD`."""
    return f"to-{address.replace('.', '-').replace(':', 'c')}.example.org"


ZONE.update({name_for(address): [[address]] for address in BAD})


class Names(BaseResolver):  # type: ignore[misc]
    """Answers from the zone, differently each time where the zone says so."""

    def __init__(self) -> None:
        self.asked: dict[tuple[str, str], int] = {}
        self.lock = threading.Lock()

    def resolve(self, request, handler):
        """The answer to one question."""
        reply = request.reply()
        asked = request.q.qname
        name, kind = str(asked).rstrip(".").lower(), QTYPE[request.q.qtype]
        owner = asked
        if name in CNAMES:
            reply.add_answer(RR(asked, QTYPE.CNAME, rdata=CNAME(CNAMES[name]), ttl=0))
            name = CNAMES[name]
            owner = name
        if name not in ZONE:
            reply.header.rcode = RCODE.NXDOMAIN
            return reply
        with self.lock:
            count = self.asked[name, kind] = self.asked.get((name, kind), 0) + 1
        for address in ZONE[name][min(count, len(ZONE[name])) - 1]:
            if kind == "AAAA" and ":" in address:
                reply.add_answer(RR(owner, QTYPE.AAAA, rdata=AAAA(packed(address)), ttl=0))
            elif kind == "A" and ":" not in address:
                reply.add_answer(RR(owner, QTYPE.A, rdata=A(address), ttl=0))
        return reply


def packed(address: str) -> tuple[int, ...]:
    """An IPv6 address as its bytes: dnslib reads no dotted form within one."""
    return tuple(socket.inet_pton(socket.AF_INET6, address))


def record(port: int, file: Path, lock: threading.Lock) -> None:
    """Take connections at one port of every address, and write down what came."""
    with socket.create_server(
        ("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=128
    ) as listener:
        while True:
            client, _ = listener.accept()
            threading.Thread(target=_take, args=(client, port, file, lock), daemon=True).start()


def _take(client: socket.socket, port: int, file: Path, lock: threading.Lock) -> None:
    with client:
        address = str(client.getsockname()[0]).removeprefix("::ffff:")
        client.settimeout(60)
        try:
            got = client.recv(65536)
            if port == 8080:  # stands in for the API, and sends whoever asks elsewhere
                body = b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\n"
                client.sendall(body + b"Set-Cookie: a=b\r\nContent-Length: 0\r\n\r\n")
            else:
                client.sendall(b"recorded")
        except OSError:
            got = b""
        line = {"address": address, "port": port, "got": got.decode("latin-1")}
        with lock, file.open("a") as out:
            out.write(json.dumps(line) + "\n")


def main(folder: Path) -> None:
    """Serve until killed."""
    lock = threading.Lock()
    for port in PORTS:
        threading.Thread(
            target=record, args=(port, folder / "recorded.jsonl", lock), daemon=True
        ).start()
    DNSServer(Names(), address="127.0.0.1", port=53).start_thread()
    for port in (*PORTS, 53):
        if port != 53:
            _wait_for(port)
    print("ready", flush=True)
    threading.Event().wait()


def _wait_for(port: int) -> None:
    for _ in range(4800):
        with socket.socket() as probe:
            # Bound is enough; a connection would be recorded.
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return
        time.sleep(0.05)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
