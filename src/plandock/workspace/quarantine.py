"""A bare repository of our own in which a box's bundle is unpacked and looked at.

It borrows the user's objects and nothing else: its configuration is its own, the user's and the
system's are not read, replacement objects and grafts do not count.  Nothing here writes to the
user's repository.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from plandock import git, proc
from plandock.errors import HarvestRefused
from plandock.printable import one_line
from plandock.workspace.bundle import Bundle, Limits, check_pack

_ENV = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_GRAFT_FILE": os.devnull,
    # No object may be fetched to complete another, by whatever program an address would start.
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_NO_LAZY_FETCH": "1",
}
_OPTIONS = (
    *("-c", "core.commitGraph=false"),
    *("-c", "core.multiPackIndex=false"),
    *("-c", f"core.attributesFile={os.devnull}"),
    # Deltas upon deltas of files that are each as large as is allowed: what is kept of them in
    # memory is bounded here, their sum by `Limits`, the time by the call's own limit.
    *("-c", "core.deltaBaseCacheLimit=64m"),
    *("-c", "core.bigFileThreshold=32m"),
    *("-c", "pack.threads=1"),
    *("-c", "pack.windowMemory=128m"),
    *("-c", "pack.deltaCacheSize=64m"),
)
_AT_ONCE_BYTES = 64 << 20
_AT_ONCE_OBJECTS = 20_000


class Quarantine:
    """The repository at ``path``; made by :func:`build`."""

    def __init__(self, path: Path, object_format: str) -> None:
        self.path = path
        self.object_format = object_format

    def git(
        self,
        *args: str,
        stdin: bytes | IO[bytes] | None = None,
        stdout: IO[bytes] | None = None,
        env: Mapping[str, str] | None = None,
        check: bool = True,
    ) -> proc.Finished:
        """Run git here, ``env`` added; raises :class:`plandock.proc.ProcessFailed`."""
        return git.git(
            self.path,
            *args,
            stdin=stdin,
            stdout=stdout,
            env={**(env or {}), **_ENV},
            options=(*_OPTIONS, f"--git-dir={self.path}"),
            check=check,
        )

    def take(self, file: Path, bundle: Bundle, limits: Limits) -> int:
        """Unpack the bundle's pack, every object checked; returns how many there were.

        ``index-pack --strict`` applies git's own fsck to each new object, its warnings taken for
        errors, and wants everything that they point to.  Objects of the user's history are not
        new and are not looked at, however odd.  Raises :class:`HarvestRefused`.
        """
        if bundle.object_format != self.object_format:
            raise refused([f"the bundle is of {bundle.object_format} objects"])
        count = check_pack(file, bundle, limits)
        with file.open("rb", buffering=0) as pack:
            pack.seek(bundle.pack_offset)
            done = self.git(
                *("index-pack", "--stdin", "--fix-thin", "--strict"),
                f"--max-input-size={limits.bundle_bytes}",
                stdin=pack,
                check=False,
            )
        if not done.ok:
            said = done.stderr.decode("utf-8", "replace").splitlines()
            if any(x.endswith(": No space left on device") for x in said):
                # No fault of the bundle's.
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            why = [one_line(x, limit=200) for x in said if x.startswith(("error:", "fatal:"))]
            raise refused(why[:100] or [f"git index-pack: {done.complaint}"])
        return count

    def sizes(self, oids: Sequence[str], kind: str) -> list[int]:
        """The sizes of objects, in order; refused when one is missing or of another kind."""
        found = self.git(
            *("cat-file", "--batch-check=%(objecttype) %(objectsize)"),
            stdin="".join(f"{x}\n" for x in oids).encode(),
        )
        sizes = []
        for oid, line in zip(oids, found.text.splitlines(), strict=True):
            words = line.split(" ")
            if words[0] != kind:
                what = "is missing" if words[-1] == "missing" else f"is no {kind}"
                raise refused([f"the object {oid} {what}"])
            sizes.append(int(words[1]))
        return sizes

    def read(self, oids: Iterable[str], kind: str) -> Iterator[tuple[str, bytes]]:
        """The contents of objects of one kind, a bounded amount at a time, in order."""
        wanted = list(oids)
        group: list[str] = []
        total = 0
        for oid, size in zip(wanted, self.sizes(wanted, kind) if wanted else [], strict=True):
            if group and (total + size > _AT_ONCE_BYTES or len(group) >= _AT_ONCE_OBJECTS):
                yield from self._read_group(group)
                group, total = [], 0
            group.append(oid)
            total += size
        if group:
            yield from self._read_group(group)

    def _read_group(self, oids: list[str]) -> Iterator[tuple[str, bytes]]:
        data = self.git("cat-file", "--batch", stdin="".join(f"{x}\n" for x in oids).encode())
        at = 0
        for oid in oids:
            end = data.stdout.index(b"\n", at)
            size = int(data.stdout[at:end].rsplit(b" ", 1)[1])
            yield oid, data.stdout[end + 1 : end + 1 + size]
            at = end + size + 2

    def pack(self, tips: Sequence[str], snapshot: str, into: IO[bytes]) -> None:
        """Write a pack of exactly what ``tips`` reach and ``snapshot`` does not."""
        orders = "".join(f"{x}\n" for x in tips) + f"^{snapshot}\n"
        self.git(
            *("pack-objects", "--revs", "--stdout", "--delta-base-offset", "-q"),
            stdin=orders.encode(),
            stdout=into,
        )


def build(repo: Path, folder: Path) -> Quarantine:
    """Make a fresh quarantine for ``repo`` below ``folder`` (made, private, if it is not there).

    The objects are borrowed from the repository's common folder, so linked worktrees do; git
    follows that folder's own alternates.  A shallow clone's boundary is copied.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder.resolve() / "quarantine.git"
    discard(folder)
    object_format = git.line(repo, "rev-parse", "--show-object-format")
    git.git(
        folder,
        *("init", "-q", "--bare", "--template=", f"--object-format={object_format}", str(path)),
        env=_ENV,
    )
    objects, shallow = (
        os.fsencode(
            git.git(repo, "rev-parse", "--path-format=absolute", "--git-path", name)
            .stdout.decode("utf-8", "surrogateescape")
            .removesuffix("\n")
        )
        for name in ("objects", "shallow")
    )
    info = path / "objects" / "info"
    info.mkdir(exist_ok=True)
    # Quoted as C does it: a path may begin with '#' or '"', or hold a newline.
    quoted = objects.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n")
    (info / "alternates").write_bytes(b'"' + quoted + b'"\n')
    if os.path.isfile(shallow):
        shutil.copyfile(shallow, os.fsencode(path / "shallow"))
    return Quarantine(path, object_format)


def discard(folder: Path) -> None:
    """Remove what :func:`build` made below ``folder``, and nothing else."""
    shutil.rmtree(folder / "quarantine.git", ignore_errors=True)


def refused(reasons: Sequence[str]) -> HarvestRefused:
    """The error for work that failed a check, its first reasons in the message."""
    shown = "; ".join(reasons[:3]) + (f" (and {len(reasons) - 3} more)" if reasons[3:] else "")
    return HarvestRefused(
        f"the work of the box was refused: {shown}",
        hint="nothing was imported; the bundle and the volume are kept",
        reasons=tuple(reasons),
    )
