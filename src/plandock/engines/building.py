"""A build with its context streamed in and its output streamed out."""

from __future__ import annotations

import io
import tarfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from plandock import proc
from plandock.engines.protocol import ContextFile, Progress

_KEPT_LINES = 60


@dataclass(frozen=True)
class Built:
    """How a build ended: exit code and the last lines it printed."""

    returncode: int
    last_lines: tuple[str, ...]


def build(
    argv: Sequence[str],
    context: Iterable[ContextFile],
    *,
    env: Mapping[str, str],
    cwd: Path,
    progress: Progress,
    timeout_s: float,
) -> Built:
    """Run one build, feeding it ``context`` as a tar stream and ``progress`` its lines.

    No copy of the context is made on disk: the CLI alone is 400 MB.  Raises
    :class:`plandock.proc.ProcessFailed` when the build cannot start or takes too long.
    """
    child = proc.open_pipe(argv, env=env, cwd=cwd)
    lines: deque[str] = deque(maxlen=_KEPT_LINES)
    lock = threading.Lock()

    def take(line: str) -> None:
        with lock:
            lines.append(line)
            progress(line)

    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    failures: list[BaseException] = []
    readers = [
        _thread(_read_lines, child.stdout, take),
        _thread(_read_lines, child.stderr, take),
    ]
    feeder = _thread(_feed, child.stdin, tuple(context), failures)
    deadline = time.monotonic() + timeout_s
    # Waits as long as the build may take, and then ends it.
    returncode = proc.end(child, grace_s=timeout_s)
    for thread in (*readers, feeder):
        thread.join(5.0)
    child.stdout.close()
    child.stderr.close()
    if time.monotonic() > deadline and returncode < 0:
        raise proc.ProcessFailed(f"the build did not end within {timeout_s:.0f} s")
    if failures and returncode == 0:
        raise failures[0]
    return Built(returncode, tuple(lines))


def _thread(function: Callable[..., None], *args: object) -> threading.Thread:
    thread = threading.Thread(target=function, args=args, daemon=True)
    thread.start()
    return thread


def _read_lines(stream: IO[bytes], take: Progress) -> None:
    try:
        for raw in iter(lambda: stream.readline(1 << 16), b""):
            line = raw.decode("utf-8", "replace").rstrip()
            if line:
                take(line)
    except ValueError:
        return  # closed under us, after the time ran out


def _feed(
    stream: IO[bytes], context: tuple[ContextFile, ...], failures: list[BaseException]
) -> None:
    try:
        with stream:
            write_context(stream, context)
    except (BrokenPipeError, ValueError):
        return  # the build has ended early; what it printed says why
    except BaseException as error:
        failures.append(error)


def write_context(stream: IO[bytes], context: Iterable[ContextFile]) -> None:
    """Write a tar stream: root's files with fixed times, so that equal content is equal bytes."""
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for file in context:
            info = tarfile.TarInfo(file.name)
            info.mode = file.mode
            if isinstance(file.source, bytes):
                info.size = len(file.source)
                tar.addfile(info, io.BytesIO(file.source))
            else:
                with open(file.source, "rb") as source:
                    info.size = source.seek(0, io.SEEK_END)
                    source.seek(0)
                    tar.addfile(info, source)
