"""A terminal of the demo's own for Claude Code: a tmux server on a socket of its own."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from plandock import proc
from plandock.errors import PlandockError

WIDTH, HEIGHT = 100, 42
_POLL_S = 0.1


class Terminal:
    """One tmux server, `plandock-demo-<pid>`, with one program in it.

    Nothing of the surrounding environment reaches the program, and no configuration file of the
    user's is read: what is shown is the same on every machine.
    """

    def __init__(self) -> None:
        """Raises :class:`PlandockError` where there is no tmux."""
        if shutil.which("tmux") is None:
            raise PlandockError("the demo needs tmux", hint="install tmux, then run it again")
        self.name = f"plandock-demo-{os.getpid()}"
        self._socket = ""

    def start(self, argv: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> None:
        """Start a program with `env` and nothing else; raises :class:`proc.ProcessFailed`."""
        # Several words are executed as they are; one would go through a shell.  `env -i` takes
        # out what tmux itself adds.
        words = ["env", "-i", *(f"{name}={value}" for name, value in env.items()), *argv]
        size = ["-x", str(WIDTH), "-y", str(HEIGHT)]
        self._tmux("new-session", "-d", *size, "-c", str(cwd), "--", *words)
        self._socket = self._tmux("display-message", "-p", "#{socket_path}").text.strip()

    def type(self, text: str) -> None:
        """Type text letter by letter."""
        self._tmux("send-keys", "-l", "--", text)

    def press(self, key: str) -> None:
        """Press one key by tmux's name (`Enter`, `1`)."""
        self._tmux("send-keys", "--", key)

    def screen(self) -> str:
        """What stands on the screen, without colours; empty once the program has ended."""
        done = self._tmux("capture-pane", "-p", "-J", check=False)
        return "\n".join(x.rstrip() for x in done.text.splitlines()).rstrip("\n")

    def wait_for(self, pattern: str, *, what: str, timeout_s: float) -> str:
        """Wait until the screen matches; returns it.

        Raises :class:`PlandockError` that says what did not appear, with the screen's end.
        """
        until = time.monotonic() + timeout_s
        seen = ""
        while True:
            screen = self.screen()
            seen = screen or seen
            if re.search(pattern, screen):
                return screen
            gone = not self._tmux("has-session", check=False).ok
            if gone or time.monotonic() > until:
                why = "Claude Code ended" if gone else f"nothing of it within {timeout_s:.0f} s"
                rest = "\n".join(f"    {x}" for x in seen.splitlines() if x.strip())
                raise PlandockError(
                    f"{what} did not appear ({why})"
                    + (f"; its screen was:\n{rest}" if rest else "")
                )
            time.sleep(_POLL_S)

    def close(self) -> None:
        """End the server, and with it the program; nothing of it stays."""
        try:
            self._tmux("kill-server", check=False)
        except proc.ProcessFailed:
            return  # tmux does not answer any more
        if self._socket:
            Path(self._socket).unlink(missing_ok=True)  # some versions leave it behind

    def _tmux(self, *words: str, check: bool = True) -> proc.Finished:
        bare = {"PATH": os.environ.get("PATH", os.defpath), "TERM": "xterm-256color"}
        bare |= {"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}
        if folder := os.environ.get("TMUX_TMPDIR"):
            bare["TMUX_TMPDIR"] = folder
        argv = ["tmux", "-L", self.name, "-f", os.devnull, *words]
        return proc.run(argv, env=bare, timeout_s=120.0, check=check)
