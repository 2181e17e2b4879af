"""A Docker daemon of a test's own, which may be stopped, killed or starved of room.

The daemon with all that it starts lives in process and mount namespaces of its own: when these
end, so does everything in them at once, as at a reboot, and nothing of it is left on the machine.
Network and cgroups are the machine's, so that a gateway reaches the stand-in's loopback; the
bridge is the test's own (`--bridge=none` would take that of the machine's daemon away).

A guard, a process of its own session that no key of the terminal reaches, removes all of it as soon
as whoever made the daemon closes it, or is gone, however it ended.
"""

from __future__ import annotations

import os
import random
import secrets
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from tests.support.journal import note
from tests.support.machine import as_root
from tools.setup.commands import environment

_PATIENCE_S = 600.0
# Images are unpacked beside their archive; a file of this size takes up only what is used.
_DISK_BYTES = 4 << 30
# Its standard input names what is to go, and ends with whoever holds the other end.  The first
# process of the daemon's namespace takes all others in it along.
_GUARD = r"""
trap "" INT TERM HUP
read -r folder && read -r bridge && read -r group || exit 1
cat >/dev/null
tries=0
while [ $tries -lt 600 ]; do
    for place in /proc/[0-9]*; do
        ! grep -qsF "$folder" "$place/cmdline" || kill -KILL "${place#/proc/}" 2>/dev/null
    done
    ! mountpoint -q "$folder/data" || umount "$folder/data" 2>/dev/null
    ! ip link show "$bridge" >/dev/null 2>&1 || ip link delete "$bridge"
    find /sys/fs/cgroup -depth -type d -path "*/$group*" -exec rmdir {} + 2>/dev/null
    mountpoint -q "$folder/data" || rm -rf "$folder"
    [ -e "$folder" ] || find /sys/fs/cgroup -path "*/$group" | grep -q . || exit 0
    tries=$((tries + 1))
    sleep 0.2
done
exit 1
"""


class Daemon:
    """One private daemon on a disk of its own, a file; see the fixture ``daemon``."""

    def __init__(self) -> None:
        # Where there is no root, the test is skipped before there is anything to leave behind.
        first_words = as_root()
        self.mark = secrets.token_hex(4)
        # Short: the path of a socket has little over a hundred bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="plandock-daemon-", dir="/tmp"))
        self.data = self.folder / "data"
        self.host = f"unix://{self.folder}/docker.sock"
        self.bridge = f"pd{self.mark}"
        note("folder", self.folder)
        note("name", self.bridge)
        note("name", self.mark)
        self._child: subprocess.Popen[bytes] | None = None
        self._guard = subprocess.Popen(
            [*first_words, "sh", "-c", _GUARD],
            stdin=subprocess.PIPE,
            env=environment(),
            start_new_session=True,
        )
        assert self._guard.stdin is not None
        self._guard.stdin.write(f"{self.folder}\n{self.bridge}\n{self._group}\n".encode())
        self._guard.stdin.flush()

    def make(self) -> None:
        """The disk and the bridge, before the first start."""
        if missing := [x for x in ("dockerd", "mkfs.ext4", "unshare", "ip") if not _which(x)]:
            raise AssertionError(f"{missing[0]} is not installed. Next step: `make setup`")
        disk = self.folder / "disk"
        with disk.open("wb") as file:
            file.truncate(_DISK_BYTES)
        # No kill takes the file system itself away: a journal would only take time.
        _call("mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", str(disk))
        self.data.mkdir()
        _call("mount", "-o", "loop,noatime", str(disk), str(self.data))
        (self.folder / "daemon.json").write_text("{}")
        _call("ip", "link", "add", self.bridge, "type", "bridge")
        # Of the block for measurements between networks (RFC 2544), which no real one bears.
        # Two of these daemons may well meet on one: no packet takes either way.
        third = random.randrange(1, 255)
        _call("ip", "address", "add", f"198.18.{third}.1/24", "dev", self.bridge)
        _call("ip", "link", "set", self.bridge, "up")

    def start(self) -> None:
        """Start it and wait until it answers."""
        argv = [
            *("dockerd", f"--config-file={self.folder}/daemon.json", f"--data-root={self.data}"),
            *("--exec-root=/run/docker", "--pidfile=/run/docker.pid"),
            *(f"--host={self.host}", f"--group={os.getgid()}", f"--bridge={self.bridge}"),
            *("--iptables=false", "--ip6tables=false", "--ip-masq=false", "--ip-forward=false"),
            *("--exec-opt=native.cgroupdriver=cgroupfs", f"--cgroup-parent=/{self._group}"),
        ]
        # Something has to take the dead in: dockerd, as the first process, would not.
        init = ["docker-init", "--"] if _which("docker-init") else []
        # A /run of its own, empty at every start.
        inner = f"mount -t tmpfs tmpfs /run; exec {shlex.join([*init, *argv])}"
        outer = [*as_root(), "setpriv", "--pdeathsig=KILL", "unshare", "--pid", "--mount"]
        outer += ["--fork", "--kill-child", "--mount-proc", "sh", "-ec", inner]
        with (self.folder / "log").open("ab") as log:
            self._child = subprocess.Popen(
                outer,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(),
                # dockerd heeds an interrupt from the terminal, even where its maker does not.
                start_new_session=True,
            )
        end = time.monotonic() + _PATIENCE_S
        while not self.answers():
            assert self._child.poll() is None, self.log()
            assert time.monotonic() < end, self.log()
            time.sleep(0.1)

    def stop(self) -> None:
        """End it as a service manager does: SIGTERM, and it ends its containers."""
        self._send(signal.SIGTERM, self._first_process())

    def reboot(self) -> None:
        """Daemon, containerd, shims and containers are gone at one moment, without a word."""
        self._send(signal.SIGKILL, self._first_process())
        (self.folder / "docker.sock").unlink(missing_ok=True)  # lies in /run elsewhere

    def close(self) -> None:
        """End it, and remove everything that was made for it."""
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        if self._child is not None:
            self._child.wait(_PATIENCE_S)
        assert self._guard.wait(_PATIENCE_S) == 0, f"something of {self.folder} is left"

    def answers(self) -> bool:
        """Whether it can be asked."""
        argv = ["docker", "version", "--format", "{{.Server.Version}}"]
        return self._docker(argv).returncode == 0

    def take_images(self, *names: str) -> None:
        """Copy images from the machine's own daemon."""
        argv = ["docker", "save", *names]
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as saving:
            loaded = self._docker(["docker", "load", "-q"], stdin=saving.stdout)
        assert (saving.returncode, loaded.returncode) == (0, 0), loaded.stderr

    def free_bytes(self) -> int:
        """What is left of its disk."""
        found = os.statvfs(self.data)
        return found.f_bavail * found.f_frsize

    def fill(self, *, leave_bytes: int) -> None:
        """Take all but so much of its disk away, at once."""
        filler = self.data / "filler"
        # The file's own bookkeeping takes room as well.
        size = self.free_bytes() - max(leave_bytes, 4 << 20)
        _call("fallocate", "-l", str(size), str(filler))
        if not leave_bytes:
            _call("sh", "-c", 'cat /dev/zero >>"$1"', "sh", str(filler), check=False)

    def make_room(self) -> None:
        """Give back what :meth:`fill` took."""
        _call("rm", "-f", str(self.data / "filler"))

    def log(self) -> str:
        """The end of what the daemon has said."""
        return (self.folder / "log").read_text(errors="replace")[-3000:]

    @property
    def _group(self) -> str:
        return f"plandock-test-{self.mark}"

    def _docker(
        self, argv: Sequence[str], stdin: IO[bytes] | None = None
    ) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "DOCKER_HOST": self.host}
        return subprocess.run(
            argv,
            env=env,
            stdin=stdin,
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
            check=False,
        )

    def _first_process(self) -> int:
        """The first process of its namespace, as the machine counts."""
        assert self._child is not None
        pid, was = self._child.pid, ""
        # sudo, where there is one, then unshare, then the first process.
        while not was.startswith("unshare"):
            was = _command(pid)
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            assert children, f"the daemon has no process: {self.log()}"
            pid = int(children[0])
        return pid

    def _send(self, sign: signal.Signals, pid: int) -> None:
        assert self._child is not None
        if os.geteuid() == 0:
            os.kill(pid, sign)
        else:
            # kill(1) is no program of its own everywhere.
            _call("sh", "-c", f"kill -{int(sign)} {pid}")
        self._child.wait(_PATIENCE_S)
        self._child = None


def _which(program: str) -> str | None:
    return shutil.which(program, path=environment()["PATH"])


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def _call(*argv: str, check: bool = True) -> None:
    """Run a program as root that has to work."""
    done = subprocess.run(
        [*as_root(), *argv], capture_output=True, text=True, env=environment(), check=False
    )
    assert not check or done.returncode == 0, f"{argv}: {done.stderr}"
