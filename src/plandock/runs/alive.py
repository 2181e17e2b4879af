"""Whether a recorded process still is that process: by its number *and* its start.

Numbers are used again, so the number alone says nothing.  Standard library only.
"""

from __future__ import annotations

import os
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")


def started(pid: int) -> str:
    """When the process with this number began, as a word to compare; "" where there is none.

    On Linux the boot's id and the start in clock ticks since then (proc(5), field 22 of ``stat``):
    no change of the wall clock moves it.  Elsewhere what ``ps`` says.
    """
    if pid <= 0:
        return ""
    if _BOOT.exists():
        return _from_proc(pid)
    from plandock import proc

    done = proc.run(["/bin/ps", "-o", "lstart=,state=", "-p", str(pid)], check=False)
    words = done.text.split()
    return "" if not done.ok or not words or words[-1].startswith("Z") else " ".join(words[:-1])


def _from_proc(pid: int) -> str:
    try:
        # The name stands in parentheses and may hold anything, parentheses too.
        text = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        boot = _BOOT.read_text("ascii").strip()
    except OSError:
        return ""
    if len(text) < 20 or text[0] in (b"Z", b"X"):
        return ""
    return f"{boot}/{int(text[19])}"


def is_same(pid: int, start: str) -> bool:
    """Whether the process that was recorded with this number and start is alive."""
    return bool(start) and started(pid) == start


def mine() -> tuple[int, str]:
    """This process's own number and start, for the record."""
    return os.getpid(), started(os.getpid())
