"""The process of Claude Code that called this hook."""

from __future__ import annotations

import os

_told = 0


def told(pid: str) -> None:
    """Take the launcher's word for it: where a shell waits in between, it is no parent of ours."""
    global _told
    _told = _number(pid)


def pid() -> int:
    """Its process id; of two hook calls with the same one Claude Code was the same."""
    return _number(os.environ.get("CLAUDE_PID", "")) or child_of()


def child_of() -> int:
    """Its process id as the system tells: no variable can name another."""
    return _told or os.getppid()


def _number(text: str) -> int:
    plain = text.isascii() and text.isdecimal() and len(text) < 12
    return int(text) if plain else 0
