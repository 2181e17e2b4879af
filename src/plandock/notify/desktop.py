"""A note on the user's desktop, its texts always arguments and never part of a script."""

from __future__ import annotations

import html
import os
import shutil
import sys
from collections.abc import Mapping

from plandock import proc
from plandock.errors import PlandockError
from plandock.printable import one_line

_LONGEST_S = 30.0
_SCRIPT = (
    "on run argv",
    "display notification (item 2 of argv) with title (item 1 of argv)",
    "end run",
)


def show(title: str, body: str, environ: Mapping[str, str] | None = None) -> bool:
    """Show a note; False where there is no desktop, or no program for it."""
    vector = command(title, body, sys.platform, os.environ if environ is None else environ)
    if not vector or shutil.which(vector[0]) is None:
        return False
    try:
        return proc.run(vector, timeout_s=_LONGEST_S, check=False).ok
    except PlandockError:
        return False


def command(title: str, body: str, platform: str, environ: Mapping[str, str]) -> list[str]:
    """The argument vector for a platform (`sys.platform`); empty where nobody would see it."""
    title, body = one_line(title, limit=120), one_line(body, limit=300)
    if platform == "darwin":
        if environ.get("SSH_CONNECTION"):
            return []
        lines = [word for line in _SCRIPT for word in ("-e", line)]
        return ["/usr/bin/osascript", *lines, title, body]
    if not (environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY")):
        return []
    # The body is markup (Desktop Notifications Specification, "Markup").
    markup = html.escape(body, quote=False)
    return ["notify-send", "--app-name=plandock", "--", title, markup]
