"""The tests' own Docker daemon leaves nothing on the machine, however whoever made it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.machine import CLONE, as_root

pytestmark = [pytest.mark.timeout(1800), pytest.mark.engine, pytest.mark.netns]

PATIENCE_S = 600.0
_MAKER = """
import sys
from tests.support.daemon import Daemon
daemon = Daemon()
print(daemon.folder, daemon.bridge, daemon.mark, flush=True)
daemon.make()
daemon.start()
print("up", flush=True)
for line in sys.stdin:
    print(daemon.answers(), flush=True)
"""


def left_of(folder: str, bridge: str, mark: str) -> list[str]:
    """Processes, files, disks, networks and groups of that daemon."""
    found = [path for path in (folder, f"/sys/class/net/{bridge}") if os.path.lexists(path)]
    for place in (
        *Path("/proc").glob("[0-9]*/cmdline"),
        *Path("/sys/block").glob("loop*/loop/backing_file"),
        Path("/proc/self/mounts"),
    ):
        try:
            if folder in place.read_text(errors="replace"):
                found.append(str(place))
        except OSError:
            continue  # ended meanwhile
    return found + [str(p) for p in Path("/sys/fs/cgroup").rglob(f"plandock-test-{mark}")]


def test_a_private_daemon_leaves_nothing_when_its_maker_is_killed() -> None:
    """An interrupt that its maker does not heed leaves it alone; SIGKILL to its maker ends it."""
    as_root()
    words = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", sys.executable, "-c", _MAKER]
    with subprocess.Popen(
        words, cwd=CLONE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as maker:  # fmt: skip
        assert maker.stdin is not None
        assert maker.stdout is not None
        try:
            folder, bridge, mark = maker.stdout.readline().split()
            assert maker.stdout.readline() == "up\n"
            os.killpg(maker.pid, signal.SIGINT)
            print("asked", file=maker.stdin, flush=True)
            assert maker.stdout.readline() == "True\n"
            assert len(left_of(folder, bridge, mark)) > 4  # positive control
        finally:
            os.killpg(maker.pid, signal.SIGKILL)
    end = time.monotonic() + PATIENCE_S
    while left := left_of(folder, bridge, mark):
        assert time.monotonic() < end, left
        time.sleep(0.2)
