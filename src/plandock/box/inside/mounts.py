"""What may be mounted in a box, and what of /proc/self/mountinfo is not that (proc(5))."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any

ENGINE_FILES = {"/etc/resolv.conf", "/etc/hosts", "/etc/hostname", "/run/.containerenv"}
# Podman adds these where the user has no entry, or the distribution's secrets (an empty folder).
ENGINE_FILES |= {"/etc/passwd", "/etc/group", "/run/secrets"}
DEVICES = {"/dev/full", "/dev/null", "/dev/random", "/dev/tty", "/dev/urandom", "/dev/zero"}
DEV_KINDS = {"/dev": "tmpfs", "/dev/pts": "devpts", "/dev/mqueue": "mqueue", "/dev/shm": "tmpfs", "/dev/console": "devpts"}  # fmt: skip  # noqa: E501


@dataclass(frozen=True)
class Mount:
    """One line of mountinfo: where, what of the file system, how, and its kind."""

    path: str
    root: str
    options: frozenset[str]
    kind: str

    @property
    def read_only(self) -> bool:
        """Whether this mount refuses writes."""
        return "ro" in self.options


def parse(lines: str) -> list[Mount]:
    """The mounts in their order."""
    found = []
    for line in lines.splitlines():
        first, _, last = line.partition(" - ")
        fields = first.split(" ")
        options = frozenset(fields[5].split(","))
        found.append(Mount(_plain(fields[4]), _plain(fields[3]), options, last.split(" ")[0]))
    return found


def _plain(escaped: str) -> str:
    """A path without the octal escapes that stand for blanks and backslashes."""
    return re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), escaped)


def mount_faults(lines: str, expected: dict[str, Any]) -> list[str]:
    """Each mount that should not be there or is other than ordered, and each that is missing."""
    faults = []
    seen: set[str] = set()
    for mount in parse(lines):
        path = mount.path
        fault = _fault(mount, expected)
        if path in seen and not fault:
            fault = "is mounted twice"
        seen.add(path)
        if fault:
            faults.append(f"{path} {fault}"[:200])
    for path in (*expected["volumes"], *expected["tmpfs"]):
        # A name that is not UTF-8 comes here in two spellings; the engines refuse it anyway.
        if path not in seen:
            faults.append(f"{path} is missing")
    return faults


def _fault(mount: Mount, expected: dict[str, Any]) -> str:
    path = mount.path
    if path == "/":
        return "" if mount.read_only else "is mounted writable"
    if path in expected["volumes"]:
        return _volume_fault(mount, expected["volumes"][path])
    if path in expected["tmpfs"]:
        return _tmpfs_fault(mount, expected["tmpfs"][path])
    if path in ENGINE_FILES:
        return "is writable" if not mount.read_only and os.access(path, os.W_OK) else ""
    if path == "/proc":
        return "" if mount.kind == "proc" else f"is a {mount.kind}"
    if path.startswith("/proc/"):
        masked = mount.root == "/null" or (mount.kind == "tmpfs" and mount.read_only)
        fine = masked or (mount.kind == "proc" and mount.read_only)
        return "" if fine else f"is a writable {mount.kind}"
    if path == "/sys" or path.startswith("/sys/"):
        return _sys_fault(mount)
    if path in DEV_KINDS:
        return "" if mount.kind == DEV_KINDS[path] else f"is a {mount.kind}"
    if path in DEVICES:
        fine = mount.root == path.removeprefix("/dev") and mount.kind in ("devtmpfs", "tmpfs")
        return "" if fine else f"is {mount.root} of a {mount.kind}"
    return "should not be there"


def _volume_fault(mount: Mount, wanted: dict[str, Any]) -> str:
    if mount.read_only != wanted["read_only"]:
        return "is mounted read-only" if mount.read_only else "is mounted writable"
    # The engines' own driver keeps a volume in a folder of its name, and `/` says nothing.
    named = mount.root.endswith(f"/{wanted['name']}/_data") or mount.root == "/"
    return "" if named else "is not the run's volume"


def _tmpfs_fault(mount: Mount, wanted: dict[str, Any]) -> str:
    needed = {"nosuid", "nodev", *(() if wanted["exec"] else ("noexec",))}
    if mount.kind != "tmpfs":
        return f"is a {mount.kind}, not a tmpfs"
    missing = sorted(needed - mount.options)
    return f"lacks {', '.join(missing)}" if missing else ""


def _sys_fault(mount: Mount) -> str:
    if mount.read_only:
        return ""
    # Root's own: the folder above the version 1 hierarchies, and Podman's version 2 one.
    group = mount.path.startswith("/sys/fs/cgroup") and mount.kind in ("tmpfs", "cgroup2")
    if group and not os.access(mount.path, os.W_OK):
        return ""
    return f"is a writable {mount.kind}"
