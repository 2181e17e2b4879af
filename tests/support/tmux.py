"""A real terminal for tests: programs are started, typed at and read through tmux."""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.support import evidence
from tests.support.journal import note


class Tmux:
    """One tmux server with a socket and a session of its own, 200 columns by 50 lines."""

    def __init__(self, width: int = 200, height: int = 50) -> None:
        # Not below tmp_path: the path of a Unix socket may have 107 bytes at most.
        self._folder = tempfile.TemporaryDirectory(prefix="plandock-tmux-")
        note("folder", self._folder.name)
        self._socket = str(Path(self._folder.name, "socket"))
        self._ended = Path(self._folder.name, "exit-code")
        self._size = ("-x", str(width), "-y", str(height))
        evidence.register(self)

    def evidence(self) -> Iterator[tuple[str, str]]:
        """The screen, for whoever reads of a failed test."""
        if screen := self.screen():
            yield "screen", screen

    def _tmux(
        self, *arguments: str, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        # tmux hands its own environment to what it starts, so it gets nothing else.
        bare = {"PATH": os.environ["PATH"], "TERM": "xterm-256color", "LANG": "C.UTF-8"}
        return subprocess.run(
            ["tmux", "-S", self._socket, "-f", os.devnull, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env={**bare, "HOME": self._folder.name, **(env or {})},
            timeout=120,
            check=False,
        )

    def start(self, argv: Sequence[str | Path], cwd: Path, env: Mapping[str, str]) -> None:
        """Start a program in `cwd` with `env` and nothing else (`env -i`).

        The screen stays readable after the program has ended.
        """
        # The values go through tmux's own environment, so that no quoting of theirs matters.
        variables = {"TERM": "xterm-256color", "LANG": "C.UTF-8", **env}
        script = " ".join(f'{name}="${{{name}}}"' for name in variables)
        # The shell outlives the program: tmux scrolls the screen of a pane that has died, and
        # may lose what was written just before (3.3).
        run = f'trap : INT; env -i "$@"; echo $? > {shlex.quote(str(self._ended))}; sleep 100000'
        line = f"set -- {script} {shlex.join(str(x) for x in argv)}; {run}"
        done = self._tmux("new-session", "-d", *self._size, "-c", str(cwd), line, env=variables)
        assert done.returncode == 0, f"tmux: {done.stderr.strip()}"

    def send(self, *keys: str) -> None:
        """Press keys by tmux's names (`Enter`, `Escape`, `C-c`), or type other text as it is."""
        for key in keys:
            named = re.fullmatch(r"(?:[CMS]-)+\S+|[A-Z][A-Za-z]+|F\d+", key) is not None
            done = self._tmux("send-keys", *([] if named else ["-l"]), "--", key)
            assert done.returncode == 0, f"tmux: {done.stderr.strip()}"

    def type(self, text: str) -> None:
        """Type text letter by letter, be it the name of a key or not."""
        done = self._tmux("send-keys", "-l", "--", text)
        assert done.returncode == 0, f"tmux: {done.stderr.strip()}"

    def unread(self) -> int:
        """How many bytes were typed that the program has not read yet (in raw mode)."""
        terminal = self._tmux("display-message", "-p", "#{pane_tty}").stdout.strip()
        handle = os.open(terminal, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            answer = fcntl.ioctl(handle, termios.FIONREAD, bytes(4))
        finally:
            os.close(handle)
        return int.from_bytes(answer, sys.byteorder)

    def screen(self) -> str:
        """What stands on the screen, lines that were wrapped joined, without colours."""
        joined = self._tmux("capture-pane", "-p", "-J").stdout
        return "\n".join(line.rstrip() for line in joined.splitlines()).rstrip("\n")

    def wait_for(self, pattern: str, timeout: float = 180.0) -> re.Match[str]:
        """Wait until the screen matches; fails with the screen after `timeout` seconds."""
        until = time.monotonic() + timeout
        while True:
            screen = self.screen()
            if found := re.search(pattern, screen, re.MULTILINE):
                return found
            if time.monotonic() > until:
                raise AssertionError(f"no /{pattern}/ within {timeout:g} s; the screen:\n{screen}")
            time.sleep(0.15)

    def exit_code(self) -> int | None:
        """How the program in the terminal ended; None while it runs."""
        try:
            return int(self._ended.read_text() or "")
        except (FileNotFoundError, ValueError):
            return None

    def close(self) -> None:
        """End the server and whatever still runs in it."""
        self._tmux("kill-server")
        self._folder.cleanup()
