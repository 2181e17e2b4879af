"""What is sent into the engine: the objects of some commits, less what is there already.

Only ``git pack-objects`` reads the user's store for this; no ref, remote or transport is used,
so no hook of a push or fetch can run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO

from plandock import git, proc
from plandock.errors import RepositoryError
from plandock.printable import one_line

_OBJECT_ID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_ENV = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    # Grafted parents would go out as history, and the commits' own parents would be missing.
    "GIT_GRAFT_FILE": os.devnull,
}


class PackStream:
    """A pack being made: read ``stdout`` to its end, then call :meth:`finish`.

    As a context manager it ends the child where the reader gave up.
    """

    def __init__(self, repo: Path, orders: Sequence[str]) -> None:
        # A file, not a pipe: nobody reads it while the pack is running.
        self._errors = TemporaryFile()  # noqa: SIM115 - closed by finish and close
        self._child = proc.open_pipe(
            [
                "git",
                "-C",
                os.fspath(repo),
                *git.SAFE_OPTIONS,
                "pack-objects",
                "--revs",
                "--stdout",
                "--thin",
                "--delta-base-offset",
                "-q",
            ],
            env=proc.clean_environment(_ENV),
            stderr=self._errors,
        )
        if self._child.stdin is None or self._child.stdout is None:
            raise RepositoryError("git gave no stream to read the pack from")
        self.stdout: IO[bytes] = self._child.stdout
        try:
            with self._child.stdin as stdin:
                stdin.write("".join(f"{x}\n" for x in orders).encode())
        except BrokenPipeError:
            # It ended at once; `finish` says why.
            pass

    def finish(self) -> None:
        """Wait for the end; raises :class:`RepositoryError` when the pack is not whole."""
        self.stdout.close()
        code = self._child.wait()
        if self._errors.closed:
            return
        self._errors.seek(0)
        said = self._errors.read().decode("utf-8", "replace")
        self._errors.close()
        if code != 0:
            lines = [x for x in said.splitlines() if x.strip()]
            why = one_line(lines[-1]) if lines else f"exit code {code}"
            raise RepositoryError(
                f"the repository's objects could not be packed: {why}",
                hint="check the repository with `git fsck`",
            )

    def close(self) -> None:
        """End the child, however far it came."""
        self.stdout.close()
        proc.end(self._child, grace_s=0.2)
        self._errors.close()

    def __enter__(self) -> PackStream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_pack(repo: Path, tips: Sequence[str], haves: Sequence[str]) -> PackStream:
    """Start packing what ``tips`` reach and ``haves`` do not; both are full object ids.

    The pack is thin: deltas may stand on objects of ``haves``, so it is to be read with
    ``index-pack --fix-thin`` where those are.  A have that the repository does not hold is
    passed over.  Raises :class:`RepositoryError` when a tip is missing; a missing object further
    down shows in :meth:`PackStream.finish`.
    """
    wanted = list(dict.fromkeys(tips))
    if missing := [x for x in wanted if x not in _present(repo, wanted)]:
        raise RepositoryError(
            f"the repository does not hold the commit {one_line(missing[0], limit=70)}",
            hint="check the repository with `git fsck`",
        )
    there = _present(repo, haves) if haves else set()
    orders = [*wanted, *(f"^{x}" for x in dict.fromkeys(haves) if x in there)]
    return PackStream(repo, orders)


def shallow_boundary(repo: Path) -> list[str]:
    """The commits whose parents a shallow clone lacks, [] for a whole one.

    Whoever takes the pack must list them in its own ``shallow`` file (gitrepository-layout(5)).
    """
    found = git.git(repo, "rev-parse", "--git-path", "shallow").text.removesuffix("\n")
    try:
        text = (repo / found).read_text("ascii", "replace")
    except FileNotFoundError:
        return []
    return [x for x in text.split() if _OBJECT_ID.fullmatch(x)]


def object_format(repo: Path) -> str:
    """The repository's hash: "sha1" or "sha256"."""
    return git.line(repo, "rev-parse", "--show-object-format")


def _present(repo: Path, oids: Sequence[str]) -> set[str]:
    asked = [x for x in oids if _OBJECT_ID.fullmatch(x)]
    answers = git.git(
        repo, "cat-file", "--batch-check", stdin="".join(f"{x}\n" for x in asked).encode()
    )
    return {x.split(" ", 1)[0] for x in answers.text.splitlines() if not x.endswith(" missing")}
