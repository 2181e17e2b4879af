"""The product's command line, started once: importing it takes longer than most commands."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

# Each command is a process of its own, forked when everything is imported; its streams, its folder
# and its environment are given.  Nothing is read ahead: one job, one answer.
PROGRAM = """
import json, os, sys
from plandock.cli import app, inspecting, running
while line := sys.stdin.buffer.raw.readline():
    job = json.loads(line)
    child = os.fork()
    if not child:
        for number in range(3):
            os.dup2(os.open(job["streams"][number], os.O_RDWR), number)
        sys.stdin, sys.stdout, sys.stderr = (open(n, "w" if n else "r") for n in range(3))
        os.chdir(job["cwd"])
        os.environ.clear()
        os.environ.update(job["env"])
        sys.argv = ["plandock", *job["words"]]
        code = app.main()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.write(1, b"%d\\n" % code)
"""


class CommandServer:
    """Runs commands of the package below ``folder``."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            env={**env, "PYTHONPATH": str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def run(
        self, *words: str, cwd: Path, env: Mapping[str, str], stdin: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command to its end."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        with tempfile.TemporaryDirectory() as folder:
            streams = [Path(folder) / name for name in ("stdin", "stdout", "stderr")]
            for path in streams:
                path.write_bytes(stdin if path.name == "stdin" else b"")
            job = {
                "words": words,
                "cwd": str(cwd),
                "env": dict(env),
                "streams": [str(path) for path in streams],
            }
            self._child.stdin.write(json.dumps(job).encode() + b"\n")
            self._child.stdin.flush()
            code = int(self._child.stdout.readline())
            _, out, err = (path.read_bytes() for path in streams)
        return subprocess.CompletedProcess(words, code, out, err)

    def run_text(
        self, *words: str, cwd: Path, env: Mapping[str, str], stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, in text."""
        done = self.run(*words, cwd=cwd, env=env, stdin=stdin.encode())
        out, err = done.stdout.decode(), done.stderr.decode()
        return subprocess.CompletedProcess(words, done.returncode, out, err)

    def close(self) -> None:
        """End it."""
        for stream in (self._child.stdin, self._child.stdout):
            if stream is not None:
                stream.close()
        self._child.wait(60)
