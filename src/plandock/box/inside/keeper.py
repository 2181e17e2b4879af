"""Beside a login kept in a volume: hands the volume over, prints it, or keeps a way out open.

``prepare FOLDER…`` (as root) hands the volumes' roots to the agent.  ``read FILE`` prints a file.
``keep`` opens the relay's two loopback ports, says ``ready`` and waits.  ``guard PROGRAM…`` runs
a program.  The last two end when their standard input does: that is when the host's process is
gone, however it went, so that no container outlives it.
"""

from __future__ import annotations

import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import relay as relay_module  # type: ignore[import-not-found]
import stage  # type: ignore[import-not-found]

MOST_BYTES = 1 << 20
# What the CLI says when it has no login is not distinguished from a file that is not there.
NO_FILE = 3


def read(place: str) -> int:
    """Print the file; it is an ordinary one, or none."""
    try:
        handle = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return NO_FILE
    with os.fdopen(handle, "rb") as file:
        sys.stdout.buffer.write(file.read(MOST_BYTES))
    return 0


def keep() -> int:
    """Hold the way out open until the host goes away."""
    relay = relay_module.Relay()
    relay.listen(relay_module.PROXY_PORT, "/plandock/link/proxy.sock")
    relay.listen(relay_module.UPSTREAM_PORT, "/plandock/link/upstream.sock")
    os.write(1, b"ready\n")
    while os.read(0, 4096):
        pass
    return 0


def guard(argv: list[str]) -> int:
    """Run a program until the host goes away."""
    child = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
    while os.read(0, 4096):
        pass
    child.terminate()
    return child.wait()


def main(words: list[str]) -> int:
    """Do what the first word says."""
    if words[0] == "prepare":
        stage.become_agent(words[1:])
        return 0
    if words[0] == "read":
        return read(words[1])
    return keep() if words[0] == "keep" else guard(words[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
