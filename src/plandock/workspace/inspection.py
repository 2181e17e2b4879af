"""The checks that stand between a box's commits and the user's repository.

Looked at is every commit that the snapshot does not hold.  A commit's tree is its first parent's
plus the differences, and the first parent is either such a commit too or the user's own history;
so looking at each difference is looking at everything.  What was there before the run is not
judged again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from tempfile import TemporaryFile

from plandock.workspace import pathrules
from plandock.workspace.bundle import Limits
from plandock.workspace.flagged import reason
from plandock.workspace.quarantine import Quarantine, refused
from plandock.workspace.trees import Forest, shown

_LINK, _GITLINK, _EXECUTABLE, _GONE = b"120000", b"160000", b"100755", b"000000"
_AT_ONCE_PATHS = 500_000
# Whole, however long: what is cut off could be the part that matters.
_LONGEST_SHOWN = 20_000


@dataclass(frozen=True)
class Commit:
    """What the checks need of a commit."""

    tree: str
    parents: tuple[str, ...]


@dataclass(frozen=True)
class Change:
    """One path in which two trees differ; modes as git prints them, six digits."""

    old_mode: bytes
    mode: bytes
    oid: str
    path: bytes


@dataclass
class Findings:
    """What was found: reasons to refuse, paths to flag, sentences for the receipt."""

    commits: int = 0
    reasons: list[str] = field(default_factory=list)
    flagged: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)

    def refuse(self, why: str, path: bytes = b"") -> None:
        """Add a reason, once."""
        text = f"{why}: {shown(path)}" if path else why
        if text not in self.reasons and len(self.reasons) < 200:
            self.reasons.append(text)

    def note(self, text: str) -> None:
        """Add a sentence, once."""
        if text not in self.notes and len(self.notes) < 100:
            self.notes.append(text)

    def flag(self, path: bytes, note: str = "") -> None:
        """Add a path to look at, with the reason where it is not the file's name."""
        self.flagged.add(shown(path, limit=_LONGEST_SHOWN))
        if note:
            self.note(f"{note}: {shown(path)}")


def inspect(
    quarantine: Quarantine, *, head: str, others: Sequence[str], snapshot: str, limits: Limits
) -> Findings:
    """Check everything that ``head`` and ``others`` bring; ``head`` may be "" for none.

    ``reasons`` is empty when all is well.  Raises :class:`HarvestRefused` where a limit is
    passed or an object missing, since nothing further can be said then.
    """
    findings = Findings()
    tips = [*([head] if head else []), *others]
    listed = quarantine.git(
        *("rev-list", "--topo-order", f"--max-count={limits.commits + 1}", "--stdin"),
        stdin="".join(f"{x}\n" for x in [*tips, f"^{snapshot}"]).encode(),
    ).text.split()
    if len(listed) > limits.commits:
        raise refused([f"more than {limits.commits} commits"])
    commits = {oid: read_commit(data, findings) for oid, data in quarantine.read(listed, "commit")}
    findings.commits = len(commits)
    outside = {x for c in commits.values() for x in c.parents[:1] if x not in commits}
    old = Findings()  # the user's own commits are not judged
    known = {
        oid: read_commit(data, old)
        for oid, data in quarantine.read([snapshot, *sorted(outside - {snapshot})], "commit")
    }
    forest = Forest()
    base = known[snapshot].tree
    forest.grow(quarantine, [base], trusted=True)
    forest.grow(quarantine, [c.tree for c in commits.values()])
    findings.reasons += forest.reasons
    most = forest.measure(base)[0] + limits.paths
    for commit in commits.values():
        files, depth = forest.measure(commit.tree)
        if files > most or depth > limits.depth:
            what = f"{files} files" if files > most else f"folders {depth} deep"
            raise refused([*findings.reasons, f"a commit would unpack to {what}"])
    if findings.reasons:
        # The commands below would have to make sense of such trees.
        return findings
    everything = {**commits, **known}
    empty = quarantine.git("hash-object", "-t", "tree", "--stdin", stdin=b"").text.strip()
    pairs = {
        (everything[c.parents[0]].tree if c.parents else empty, c.tree) for c in commits.values()
    }
    changes = list(_changes(quarantine, sorted(pairs), forest, limits))
    _judge(quarantine, changes, forest, base, findings)
    if head in commits and not findings.reasons:
        net = list(_changes(quarantine, [(base, commits[head].tree)], forest, limits))
        _flag(net, changes, findings)
    connected = quarantine.git(
        *("rev-list", "--objects", "--quiet", "--stdin"),
        stdin="".join(f"{x}\n" for x in [*tips, f"^{snapshot}"]).encode(),
        check=False,
    )
    if not connected.ok:
        findings.refuse("objects are missing")
    return findings


def read_commit(data: bytes, findings: Findings) -> Commit:
    """Parse a commit object; odd headers become reasons."""
    header = data.partition(b"\n\n")[0]
    if pathrules.escapes(data):
        findings.note("a commit's author or message holds control characters (see it by a pager)")
    tree, parents = "", []
    for line in header.split(b"\n"):
        key, _, value = line.partition(b" ")
        if key == b"tree" and not tree:
            tree = value.decode("ascii", "replace")
        elif key == b"parent":
            parents.append(value.decode("ascii", "replace"))
        elif key == b"encoding" and pathrules.bad_encoding(value):
            findings.refuse("a commit has an unusual encoding", value)
    return Commit(tree, tuple(parents))


def _changes(
    quarantine: Quarantine, pairs: Sequence[tuple[str, str]], forest: Forest, limits: Limits
) -> Iterator[Change]:
    """The differing paths of pairs of trees; refused beyond ``limits.changes``."""
    group: list[tuple[str, str]] = []
    weight = total = 0
    for i, pair in enumerate(pairs):
        group.append(pair)
        weight += sum(forest.measure(x)[0] for x in pair if x in forest.children)
        if weight > _AT_ONCE_PATHS or i == len(pairs) - 1:
            for change in _diff(quarantine, group):
                total += 1
                if total > limits.changes:
                    raise refused([f"more than {limits.changes} changed files"])
                yield change
            group, weight = [], 0


def _diff(quarantine: Quarantine, pairs: Sequence[tuple[str, str]]) -> Iterator[Change]:
    with TemporaryFile(dir=quarantine.path) as out:
        quarantine.git(
            *("diff-tree", "--stdin", "-r", "-z", "--raw", "--no-abbrev", "--no-renames"),
            *("--no-ext-diff", "--no-textconv", "--ignore-submodules=none"),
            stdin="".join(f"{x} {y}\n" for x, y in pairs).encode(),
            stdout=out,
        )
        out.seek(0)
        words = iter(out.read().split(b"\0"))
    for word in words:
        # Each pair begins with a line of its own, which ends in a newline all the same.
        meta = word.rsplit(b"\n", 1)[-1]
        if meta.startswith(b":"):
            old_mode, mode, _, oid, _ = meta[1:].split(b" ")
            yield Change(old_mode, mode, oid.decode(), next(words))


def _judge(
    quarantine: Quarantine,
    changes: Sequence[Change],
    forest: Forest,
    base: str,
    findings: Findings,
) -> None:
    links: dict[str, set[bytes]] = {}
    modules: set[str] = set()
    for change in changes:
        path = change.path
        if change.mode == _GONE:
            continue
        if why := pathrules.bad_path(path):
            findings.refuse(why, path)
        if pathrules.misleading(path):
            findings.flag(path, "the name holds direction marks")
        parts = path.split(b"/")
        for name in parts:
            if found := forest.colliding.get(name):
                names = " and ".join(sorted(shown(x) for x in found[0]))
                if found[1]:
                    findings.refuse(f"a link or submodule is one with {names} on some systems")
                else:
                    findings.flag(path, f"{names} are one file on some systems")
        if change.mode == _LINK:
            links.setdefault(change.oid, set()).add(path)
        elif path == b".gitmodules":
            modules.add(change.oid)
    sizes = quarantine.sizes(list(links), "blob") if links else []
    for oid, size in zip(list(links), sizes, strict=True):
        if size > 4096:
            findings.refuse("a link's target is too long", min(links.pop(oid)))
    for oid, target in quarantine.read(list(links), "blob"):
        for path in links[oid]:
            if why := pathrules.bad_link(path, target):
                findings.refuse(why, path)
    if modules:
        _judge_submodules(quarantine, modules, base, findings)


def _judge_submodules(
    quarantine: Quarantine, blobs: set[str], base: str, findings: Findings
) -> None:
    before = quarantine.git(
        "rev-parse", "--verify", "--quiet", f"{base}:.gitmodules", check=False
    ).text.strip()
    known = set(_settings(quarantine, before) or []) if before else set()
    for oid in sorted(blobs):
        settings = _settings(quarantine, oid)
        if settings is None:
            findings.refuse("git cannot read .gitmodules")
        for key, value in settings or []:
            if (key, value) not in known and (why := pathrules.bad_submodule(key, value)):
                findings.refuse(why, f".gitmodules: {value}".encode("utf-8", "surrogateescape"))


def _settings(quarantine: Quarantine, blob: str) -> list[tuple[str, str]] | None:
    """The settings of a ``.gitmodules`` blob, None when git cannot parse it.  Nothing is
    included from elsewhere: git follows no include in a blob."""
    found = quarantine.git("config", f"--blob={blob}", "--list", "-z", check=False)
    if not found.ok:
        return None
    entries = (x.partition("\n") for x in found.text.split("\0") if x)
    return [(key, value) for key, _, value in entries]


def _flag(net: Sequence[Change], changes: Sequence[Change], findings: Findings) -> None:
    """Flag what the branch changes on balance; what only its history changes becomes a note."""
    for change in net:
        if change.mode == _EXECUTABLE and change.old_mode != _EXECUTABLE:
            findings.flag(change.path, "newly executable")
        if change.mode == _GITLINK:
            findings.flag(change.path, "a submodule, new or moved")
        if why := pathrules.elsewhere(change.path):
            findings.flag(change.path, why)
    final = {x.path for x in net}
    findings.flagged.update(_worth_a_look(final))
    passing = _worth_a_look({x.path for x in changes} - final)
    for path in sorted(passing)[:20]:
        findings.notes.append(f"changed on the way, not in the end: {path[:500]}")


def _worth_a_look(paths: set[bytes]) -> set[str]:
    """Those that change what runs, by their names here or on another file system."""
    return {
        shown(path, limit=_LONGEST_SHOWN)
        for path in paths
        if reason(path.decode("utf-8", "replace")) or reason(pathrules.forgiving(path))
    }
