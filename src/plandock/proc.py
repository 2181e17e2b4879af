"""The one module that starts processes.

Argument vectors only, never a shell string.  Every child gets a cleaned environment: nothing
that names a model, a key or a login is inherited, git's own ``GIT_*`` variables are dropped (a
hook's environment may carry them), and messages come in the C locale so that they can be parsed.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from plandock.errors import PlandockError

_DROPPED_PREFIXES = ("GIT_", "ANTHROPIC_", "CLAUDE_", "CLAUDECODE", "AWS_", "GOOGLE_", "AZURE_")
_DROPPED_SUFFIXES = ("_API_KEY", "_TOKEN", "_SECRET", "_PASSWORD")


# A running child, for the annotations of those who may not import subprocess.
Child = subprocess.Popen[bytes]


@dataclass(frozen=True)
class Finished:
    """How a child process ended."""

    argv: tuple[str, ...]
    returncode: int
    stdout: bytes
    stderr: bytes

    @property
    def ok(self) -> bool:
        """Whether it exited with 0."""
        return self.returncode == 0

    @property
    def text(self) -> str:
        """Standard output as text, undecodable bytes kept as surrogates."""
        return self.stdout.decode("utf-8", "surrogateescape")

    @property
    def complaint(self) -> str:
        """The last non-empty line of standard error, for a message of ours."""
        lines = [x for x in self.stderr.decode("utf-8", "replace").splitlines() if x.strip()]
        return lines[-1].strip()[:400] if lines else f"exit code {self.returncode}"


class ProcessFailed(PlandockError):
    """A child process could not be started, ran out of time, or exited with an error."""

    def __init__(self, message: str, *, finished: Finished | None = None, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.finished = finished


class TimedOut(ProcessFailed):
    """A child process did not come to its end in time."""


def clean_environment(
    extra: Mapping[str, str] | None = None, *, keep: Iterable[str] = ()
) -> dict[str, str]:
    """The environment for a child: this process's, less every login, key and ``GIT_*`` variable.

    ``keep`` names variables to let through all the same; ``extra`` is laid over the result.
    """
    kept = set(keep)
    env = {
        name: value
        for name, value in os.environ.items()
        if name in kept
        or not (name.startswith(_DROPPED_PREFIXES) or name.upper().endswith(_DROPPED_SUFFIXES))
    }
    env["LC_ALL"] = "C"
    if extra:
        env.update(extra)
    return env


def run(
    argv: Sequence[str],
    *,
    stdin: bytes | IO[bytes] | None = None,
    stdout: IO[bytes] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    timeout_s: float | None = 120.0,
    check: bool = True,
) -> Finished:
    """Run a child to its end and return what it said.

    ``env`` is the whole environment (default: :func:`clean_environment`).  ``stdin`` may be bytes
    or an open file; without one it is empty.  Raises :class:`ProcessFailed` when the program is
    missing, when ``timeout_s`` runs out, or (with ``check``) when the exit code is not 0.
    """
    vector = tuple(argv)
    data = stdin if isinstance(stdin, bytes) else None
    handle: int | IO[bytes] | None
    if isinstance(stdin, bytes):
        handle = None
    else:
        handle = stdin if stdin is not None else subprocess.DEVNULL
    try:
        done = subprocess.run(
            vector,
            input=data,
            stdin=handle if data is None else None,
            stdout=stdout if stdout is not None else subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env=dict(env) if env is not None else clean_environment(),
            timeout=timeout_s,
            check=False,
        )
    except FileNotFoundError as error:
        raise ProcessFailed(f"{vector[0]} was not found", hint=f"install {vector[0]}") from error
    except subprocess.TimeoutExpired as error:
        raise TimedOut(f"{vector[0]} did not answer within {timeout_s:.0f} s") from error
    except OSError as error:
        raise ProcessFailed(f"{vector[0]} could not be started: {error.strerror}") from error
    finished = Finished(vector, done.returncode, done.stdout or b"", done.stderr or b"")
    if check and not finished.ok:
        raise ProcessFailed(f"{vector[0]} failed: {finished.complaint}", finished=finished)
    return finished


def open_pipe(
    argv: Sequence[str],
    *,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bool = True,
    stderr: IO[bytes] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a child whose stdin and stdout are pipes, for a conversation with it.

    The caller ends it with :func:`end`.  Raises :class:`ProcessFailed` when it cannot start.
    """
    try:
        return subprocess.Popen(
            tuple(argv),
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr if stderr is not None else subprocess.PIPE,
            cwd=cwd,
            env=dict(env) if env is not None else clean_environment(),
        )
    except OSError as error:
        raise ProcessFailed(f"{argv[0]} could not be started: {error.strerror}") from error


def end(child: subprocess.Popen[bytes], *, grace_s: float = 2.0) -> int:
    """Wait for a child, then ask it to end, then end it; returns its exit code."""
    for ask in (None, signal.SIGTERM, signal.SIGKILL):
        if ask is not None:
            child.send_signal(ask)
        try:
            return child.wait(grace_s)
        except subprocess.TimeoutExpired:
            continue
    return child.wait()


def attached(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
) -> int:
    """Run a child on this very terminal (a pager, the CLI itself); returns its exit code."""
    try:
        return subprocess.call(
            tuple(argv), env=dict(env) if env is not None else clean_environment(), cwd=cwd
        )
    except OSError as error:
        raise ProcessFailed(f"{argv[0]} could not be started: {error.strerror}") from error


def start_detached(
    argv: Sequence[str], *, log: str | os.PathLike[str], env: Mapping[str, str]
) -> int:
    """Start a child that outlives this process and holds none of its descriptors; returns its pid.

    A new session, standard input empty, both outputs appended to ``log``, every other descriptor
    closed: Claude Code reads a hook's output to end of file, so a child that inherited one would
    hang the user's terminal (shared facts, section 2).
    """
    with open(log, "ab") as out:
        child = subprocess.Popen(
            tuple(argv),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=dict(env),
            cwd="/",
            close_fds=True,
            start_new_session=True,
        )
    # Not waited for on purpose: it is adopted by init when this process ends.
    child.returncode = 0
    return child.pid
