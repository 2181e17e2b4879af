"""Ends an agent whose time is over, or whose model has gone silent.

Both clocks are the box's monotonic one: they hold without a supervisor, and no change of the
wall clock moves them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

_LOOK_S = 0.5
# Half a minute of the CLI's own tries (its ten take two to three, measured); after that the run
# waits without a box.
TRIES = {"CLAUDE_CODE_MAX_RETRIES": "6"}


class Watchdog:
    """Watches one process of the CLI.

    ``limit_s``: how long it may work at all.  ``silence_s``: how long nothing may come while the
    model is to answer; a tool that works for an hour is no silence.  ``moved`` tells the
    monotonic time of the last byte that came from the API, ``answering`` whether a turn goes on:
    between turns nobody is to answer.  None: no such limit.
    """

    def __init__(
        self,
        *,
        limit_s: float | None,
        silence_s: float | None,
        moved: Callable[[], float],
        answering: Callable[[], bool] = lambda: True,
    ) -> None:
        self._limit_s, self._silence_s = limit_s, silence_s
        self._moved, self._answering = moved, answering
        self._began = time.monotonic()
        self._line_at = self._began
        self._tools: set[str] = set()
        self._over = threading.Event()
        self._why = ""

    def begin(self, end: Callable[[], None]) -> None:
        """Start watching; ``end`` is called once, when it is time."""

        def look() -> None:
            while not self._over.wait(_LOOK_S):
                if why := self.reason():
                    self._why = why
                    end()
                    return

        threading.Thread(target=look, daemon=True).start()

    def take(self, message: dict[str, Any]) -> None:
        """Take one message of the CLI: tools that were called and have not answered yet."""
        self._line_at = time.monotonic()
        said = message.get("message")
        content = said.get("content") if isinstance(said, dict) else None
        for block in content if isinstance(content, list) else []:
            if isinstance(block, dict) and block.get("type") == "tool_use":
                self._tools.add(str(block.get("id")))
            elif isinstance(block, dict) and block.get("type") == "tool_result":
                self._tools.discard(str(block.get("tool_use_id")))

    def reason(self) -> str:
        """``timeout``, ``silence``, or "" while all is well."""
        now = time.monotonic()
        if self._limit_s is not None and now - self._began > self._limit_s:
            return "timeout"
        if self._silence_s is not None and not self._tools and self._answering():
            last = max(self._line_at, self._moved())
            if now - last > self._silence_s:
                return "silence"
        return ""

    def end(self) -> str:
        """Watch no longer; returns why the process was ended, if it was."""
        self._over.set()
        return self._why
