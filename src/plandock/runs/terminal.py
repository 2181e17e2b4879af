"""The terminal that a run was handed off from, so that its bell can be rung later.

Standard library only: the hook imports this.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import Any

# Linux: the character devices of Unix98 pseudo-terminals (Documentation/admin-guide/devices.txt).
_FIRST_MAJOR, _LAST_MAJOR = 136, 143


def here() -> dict[str, Any]:
    """This process's terminal as ``path``, ``device`` and ``owner``; empty where there is none."""
    for number in (0, 1, 2):
        with contextlib.suppress(OSError):
            return _described(os.ttyname(number))
    # A hook's streams are pipes, but its controlling terminal is still the user's.
    with contextlib.suppress(OSError, ValueError, IndexError):
        with open("/proc/self/stat", "rb") as file:
            number = int(file.read().rpartition(b")")[2].split()[4])
        major = number >> 8 & 0xFFF
        minor = (number & 0xFF) | (number >> 12 & 0xFFF00)
        if _FIRST_MAJOR <= major <= _LAST_MAJOR:
            return _described(f"/dev/pts/{(major - _FIRST_MAJOR) * 256 + minor}")
    return {}


def _described(path: str) -> dict[str, Any]:
    found = os.stat(path)
    if not stat.S_ISCHR(found.st_mode):
        return {}
    return {"path": path, "device": found.st_rdev, "owner": found.st_uid}
