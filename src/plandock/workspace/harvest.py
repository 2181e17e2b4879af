"""Receive the work of a box and let it into the user's repository, once it has been checked.

The other end is ``inside/harvest.py``.  Nothing that comes from there is believed: the header
says what to look for, the objects say what is there.  All checks are made in a quarantine
repository; only then are objects, hidden refs and one new branch written, in this order.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Set
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from plandock.errors import HarvestRefused, RepositoryError
from plandock.printable import one_line
from plandock.proc import ProcessFailed
from plandock.workspace import landing, quarantine
from plandock.workspace.branch import free_name, invalid_because
from plandock.workspace.bundle import HEAD_REF, OTHERS_REF, Limits, read_bundle
from plandock.workspace.inspection import Findings, inspect
from plandock.workspace.quarantine import Quarantine, refused

_LONGEST_HEADER = 1 << 20
_MOST_OTHERS = 100
_OBJECT_ID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True)
class Header:
    """What the container says it sends; claims, to be checked."""

    head: str
    commits: int = 0
    leftovers: bool = False
    others: dict[str, str] = field(default_factory=dict)
    descends: bool = True
    empty: bool = False
    tree_dirty_files: int = 0
    notes: list[str] = field(default_factory=list)
    bundle_bytes: int = 0

    @classmethod
    def parse(cls, line: bytes) -> Header:
        """Read the JSON line; raises :class:`HarvestRefused` when it is wrong or an error."""
        try:
            said: Any = json.loads(line)
        except (ValueError, RecursionError):
            said = None
        if not isinstance(said, dict):
            raise refused(["the container sent no header"])
        if "error" in said:
            why = one_line(str(said["error"]))
            raise HarvestRefused(
                f"the work could not be brought out of the box: {why}",
                hint="the volume is kept",
                reasons=(why,),
            )
        head: Any = said.get("head")
        others, notes = said.get("others", {}), said.get("notes", [])
        numbers = {x: said.get(x, 0) for x in ("commits", "tree_dirty_files", "bundle_bytes")}
        flags = {x: said.get(x, False) for x in ("leftovers", "descends", "empty")}
        sound = (
            _is_object_id(head)
            and isinstance(others, dict)
            and len(others) <= _MOST_OTHERS
            and all(_is_object_id(x) for x in others.values())
            and isinstance(notes, list)
            and all(type(x) is int and x >= 0 for x in numbers.values())
            and all(type(x) is bool for x in flags.values())
        )
        if not sound:
            raise refused(["the container's header is malformed"])
        return cls(
            head=head,
            others=others,
            notes=[one_line(str(x)) for x in notes[:50]],
            **numbers,
            **flags,
        )


@dataclass(frozen=True)
class Harvested:
    """What has arrived.  ``branch`` is "" where no branch was made, because nothing is new.

    ``commits``, the files and the lines are counted from the snapshot to ``head``; ``others``
    are further branches of the box, by the name under ``refs/plandock/runs/<id>/others/``.
    """

    head: str
    branch: str
    commits: int
    leftovers: bool
    others: dict[str, str]
    flagged: list[str]
    files_changed: int
    insertions: int
    deletions: int
    notes: list[str]


def receive(stream: IO[bytes], bundle: Path, *, max_bytes: int) -> Header:
    """Read the header line and the bundle after it, into ``bundle`` (readable by its owner).

    The file appears whole or not at all; the header is kept beside it, for
    :func:`received`.  Raises :class:`HarvestRefused` for an error from the other end, a
    malformed or cut-off answer, and one of more than ``max_bytes``.
    """
    line = stream.readline(_LONGEST_HEADER + 1)
    if not line.endswith(b"\n"):
        raise refused(["the container's answer was cut off or is malformed"])
    header = Header.parse(line)
    descriptor, temporary = tempfile.mkstemp(dir=bundle.parent, prefix=f".{bundle.name}-")
    try:
        size = 0
        with os.fdopen(descriptor, "wb") as file:
            while chunk := stream.read(1 << 20):
                size += len(chunk)
                if size > max_bytes:
                    raise refused([f"the bundle is larger than {max_bytes} bytes"])
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        if size != header.bundle_bytes or (size == 0) != header.empty:
            raise refused([f"{header.bundle_bytes} bytes were announced and {size} came"])
        # The header last: whoever finds it finds the bundle that belongs to it.
        _header_file(bundle).unlink(missing_ok=True)
        os.replace(temporary, bundle)
        _write_whole(_header_file(bundle), json.dumps(asdict(header)).encode() + b"\n")
    finally:
        Path(temporary).unlink(missing_ok=True)
    return header


def received(bundle: Path) -> Header | None:
    """The header of a bundle that :func:`receive` completed; None when there is none."""
    try:
        return Header.parse(_header_file(bundle).read_bytes())
    except FileNotFoundError:
        return None


def import_bundle(
    repo: Path,
    bundle: Path,
    header: Header,
    *,
    run_id: str,
    snapshot: str,
    branch: str,
    quarantine_dir: Path,
    limits: Limits | None = None,
    grown_from: str = "",
    others: Set[str] = frozenset(),
) -> Harvested:
    """Check a received bundle and let it into ``repo``: objects, hidden refs, one new branch.

    ``branch`` is the name wanted; the one made is in the answer.  A branch that exists is never
    moved; where it stands on this very head already (a call that was cut off, done again) it is
    the answer.  The one exception is ``branch`` standing on ``grown_from``, the head of this run's
    own earlier harvest: it goes on to a head that descends from there.  ``others`` are the branches
    of other runs, made or still to come.  HEAD, index, work tree and configuration are not touched.
    Without a new commit no branch is made.

    Raises :class:`HarvestRefused` with every reason found, and then nothing was written.
    """
    limits = limits or Limits()
    if not (_RUN_ID.fullmatch(run_id) and _OBJECT_ID.fullmatch(snapshot)):
        raise ValueError("a run's id and its snapshot's id are needed")
    if why := invalid_because(branch):
        raise RepositoryError(f"{branch!r} is no branch name: {why}")
    if header.empty:
        note = "no new commit came back, so there is no branch"
        return _nothing(snapshot, {}, [*header.notes, note])
    beside = _named_others(header.others)
    try:
        return _import(
            *(repo, bundle, header, beside, run_id, snapshot, branch, quarantine_dir, limits),
            *(grown_from, others),
        )
    finally:
        quarantine.discard(quarantine_dir)


def _import(
    repo: Path,
    file: Path,
    header: Header,
    beside: dict[str, str],
    run_id: str,
    snapshot: str,
    branch: str,
    room: Path,
    limits: Limits,
    grown_from: str,
    others: Set[str],
) -> Harvested:
    inner = quarantine.build(repo, room)
    try:
        bundle = read_bundle(file)
        head = header.head if HEAD_REF in bundle.refs else ""
        claimed = {OTHERS_REF + x: oid for x, oid in header.others.items()}
        if bundle.refs != {**claimed, **({HEAD_REF: head} if head else {})}:
            raise refused(["the bundle's refs are not those of the header"])
        inner.take(file, bundle, limits)
        inner.sizes([*bundle.refs.values(), *bundle.prerequisites, snapshot], "commit")
        findings = inspect(
            inner, head=head, others=list(beside.values()), snapshot=snapshot, limits=limits
        )
        if findings.reasons:
            raise refused(findings.reasons)
        work = _count(inner, snapshot, head, findings) if head else None
    except (ProcessFailed, ValueError) as error:
        raise refused([f"the work could not be checked: {one_line(str(error))}"]) from error
    try:
        if not landing.holds(repo, run_id, bundle.refs.values()):
            with tempfile.TemporaryFile(dir=inner.path) as pack:
                inner.pack(list(dict.fromkeys(bundle.refs.values())), snapshot, pack)
                pack.seek(0)
                landing.let_in(repo, pack, run_id)
        new = work is not None and work.commits > 0
        kept = landing.write_hidden_refs(repo, run_id, head if new else "", beside)
        notes = [*header.notes, *findings.notes]
        if work is None or not new:
            return _nothing(snapshot, kept, [*notes, "no new commit on HEAD, so no branch"])
        made = landing.create_branch(repo, branch, head, run_id, grown_from, others)
    finally:
        landing.release(repo, run_id)
    if made != branch:
        notes.append(f"the branch {branch} is taken; the work is on {made}")
    if not work.descends:
        notes.append("the work does not stand on the snapshot: its history is another")
    return Harvested(
        head=head,
        branch=made,
        commits=work.commits,
        leftovers=header.leftovers,
        others=kept,
        flagged=sorted(findings.flagged),
        files_changed=work.files,
        insertions=work.insertions,
        deletions=work.deletions,
        notes=notes,
    )


@dataclass(frozen=True)
class _Work:
    commits: int
    descends: bool
    files: int
    insertions: int
    deletions: int


def _count(inner: Quarantine, snapshot: str, head: str, findings: Findings) -> _Work:
    commits = int(inner.git("rev-list", "--count", head, f"^{snapshot}").text)
    descends = inner.git("merge-base", "--is-ancestor", snapshot, head, check=False).ok
    said = inner.git(
        *("diff", "--shortstat", "--no-ext-diff", "--no-textconv", "-M", "-l400", snapshot, head)
    ).text
    numbers = {
        word: int(found.group(1)) if (found := re.search(rf"(\d+) {word}", said)) else 0
        for word in ("file", "insertion", "deletion")
    }
    return _Work(commits, descends, numbers["file"], numbers["insertion"], numbers["deletion"])


def _named_others(others: dict[str, str]) -> dict[str, str]:
    """The box's further branches, under valid names that do not stand in each other's way."""
    named: dict[str, str] = {}
    wrong = []
    for name, oid in others.items():
        if why := invalid_because(name):
            wrong.append(f"a branch has the name {one_line(name, limit=100)!r}: {why}")
        else:
            named[free_name(name, set(named))] = oid
    if wrong:
        raise refused(wrong)
    return named


def _nothing(snapshot: str, others: dict[str, str], notes: list[str]) -> Harvested:
    return Harvested(snapshot, "", 0, False, others, [], 0, 0, 0, notes)


def _is_object_id(value: object) -> bool:
    return isinstance(value, str) and _OBJECT_ID.fullmatch(value) is not None


def _header_file(bundle: Path) -> Path:
    return bundle.with_name(bundle.name + ".json")


def _write_whole(path: Path, content: bytes) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
