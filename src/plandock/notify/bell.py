"""The bell of the terminal that a run was handed off from."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import Any


def ring(terminal: Mapping[str, Any]) -> bool:
    """Write one BEL, if it still is that terminal and still the user's; whether it was written.

    Nothing of a run is ever written there, and opening it never waits.
    """
    path = str(terminal.get("path", ""))
    if not path.startswith("/dev/"):
        return False
    try:
        handle = os.open(path, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        found = os.fstat(handle)
        same = (
            stat.S_ISCHR(found.st_mode)
            and (found.st_rdev, found.st_uid) == (terminal.get("device"), terminal.get("owner"))
            and found.st_uid == os.getuid()
            and os.isatty(handle)
        )
        return same and os.write(handle, b"\a") == 1
    except OSError:
        return False
    finally:
        os.close(handle)
