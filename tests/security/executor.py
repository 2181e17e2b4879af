"""Runs command after command in a container through one exec.

An engine takes 0.2 to 1 s to start a program in a container, more than most attacks need.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence

from plandock.proc import Finished

# One job per line of standard input, one answer per line of standard output.  A job ends with its
# own shell: output of what it left running in the background is not waited for.
PROGRAM = r"""
import json, os, selectors, signal, subprocess, sys, time

def run(command, limit_s):
    child = subprocess.Popen(["bash", "-c", command], stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0, start_new_session=True)
    said, end, code = {child.stdout: [], child.stderr: []}, time.monotonic() + limit_s, None
    with selectors.DefaultSelector() as ready, child.stdout, child.stderr:
        for stream in said:
            ready.register(stream, selectors.EVENT_READ)
        while code is None or found:
            over = child.poll() is not None
            if time.monotonic() > end:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
                code = 124
                break
            found = ready.select(0 if over else 0.01)
            for key, _ in found:
                data = os.read(key.fd, 1 << 16)
                said[key.fileobj].append(data)
                if not data:
                    ready.unregister(key.fileobj)
            code = child.returncode
        return code, *(b"".join(x).decode("latin-1") for x in said.values())

for line in sys.stdin:
    print(json.dumps(run(**json.loads(line))), flush=True)
"""


class ExecutorEnded(AssertionError):
    """The exec ended before it answered: its container was killed, or its memory ran out."""


class Executor:
    """One exec in a container, ready for the next command.

    ``exec_vector`` is the call of the engine up to the container's name, followed by what shall
    stand before Python there.
    """

    def __init__(self, exec_vector: Sequence[str]) -> None:
        argv = [*exec_vector, "python3", "-I", "-c", PROGRAM]
        self._child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def run(self, command: str, *, limit_s: float = 240.0) -> Finished:
        """Run a command of bash; exit code 124 means that its time ran out.

        Raises :class:`ExecutorEnded` if nobody answers any more.
        """
        stdin, stdout = self._child.stdin, self._child.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(json.dumps({"command": command, "limit_s": limit_s}).encode() + b"\n")
            stdin.flush()
            code, out, err = json.loads(stdout.readline() or "[]")
        except (OSError, ValueError) as error:
            raise ExecutorEnded(f"no answer to: {command[:200]}") from error
        out, err = out.encode("latin-1"), err.encode("latin-1")
        return Finished(("bash", "-c", command), code, out, err)

    def close(self) -> None:
        """End the exec; its container may be gone already."""
        for stream in (self._child.stdin, self._child.stdout):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    pass  # a command that was never read
        try:
            self._child.wait(60)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
