"""Carries a token from the host to the gateway: standard input → the gateway's control socket.

Run in the gateway's container; the token is on no command line and in no file.  Exit code 0 when
the gateway has taken it.
"""

from __future__ import annotations

import socket
import sys

PLACE = "/run/plandock/control"


def main(place: str) -> int:
    """Tell what is on standard input; the exit code."""
    told = sys.stdin.buffer.read(64 * 1024)
    with socket.socket(socket.AF_UNIX) as gateway:
        gateway.settimeout(10)
        try:
            gateway.connect(place)
            gateway.sendall(told)
            gateway.shutdown(socket.SHUT_WR)
            answer = gateway.recv(100)
        except OSError as error:
            print(f"nobody listens: {error.strerror or 'no answer'}", file=sys.stderr)
            return 1
    if answer != b"ok\n":
        print("the gateway did not understand the token", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else PLACE))
