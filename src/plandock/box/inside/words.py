"""The repository's words for a CLI that reads no settings and no code of the repository.

All come from one source for the CLI: without its settings it has no CLAUDE.md, agents, commands,
skills, rules and output styles of the project either (measured, both versions).  So these are laid
into the CLI's own folder, in the box's memory: as links, so that what the agent changes counts at
once, as it does elsewhere.  Nothing in the work tree is touched, whatever names it holds: what is
written goes into folders that are made here and that hold nothing of the repository's.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator

KINDS = ("agents", "commands", "skills", "rules", "output-styles", "workflows")
_MEMORY = ("CLAUDE.md", os.path.join(".claude", "CLAUDE.md"))
_AGENTS = ("AGENTS.md", os.path.join(".claude", "AGENTS.md"))  # read since some 2.1.3xx
# A skill's folder with the first of them is a plugin: code.  Its words go along, the rest not.
_OF_A_PLUGIN = frozenset({".claude-plugin", "hooks", ".mcp.json", ".lsp.json", "bin"})
_MOST_ENTRIES, _MOST_NESTED, _MOST_IMPORTS = 2000, 200, 50
_LARGEST, _DEEPEST = 256 << 10, 12
_LIST_S = 60.0
# What is called by the name that it gives itself, not by its file's.
_BY_THEIR_OWN_NAME = frozenset({"agents", "output-styles"})
# What a text imports, and the head of one.
_IMPORT = re.compile(r"(?:^|\s)@([^\s@`]+)")
_HEAD = re.compile(r"\A---[ \t]*\n.*?\n---[ \t]*(?:\n|\Z)", re.S)
_WORDS = (".md", ".mdx", ".markdown", ".txt")
_OWN_NAME = re.compile(r"\A---[ \t]*\n(?:(?!---).*\n)*?name:[ \t]*(\S[^\n]*)")


def lay_out(folders: list[str], config: str) -> list[str]:
    """Lay the words of the project into the folder ``config`` of the CLI; what is to be said.

    ``folders`` go from the repository's top down to where the CLI is started; the nearer one goes
    before the farther.  What is the user's own stays, but gives way to the project's where both
    have one name.  Raises nothing for what a repository holds: what cannot be laid out is said.
    """
    said = []
    for kind in KINDS:
        laying = _Laying(kind, config)
        for part in (laying.work, laying.memory):
            try:
                part(folders)
            except (OSError, ValueError, RecursionError) as error:
                laying.missing.append(f"some ({type(error).__name__})")
        if missing := list(dict.fromkeys(laying.missing)):
            some = ", ".join(ascii(m)[1:-1][:100] for m in missing[:3])
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            said.append(f"not given to the box's agent, of the project's {kind}: {some}{more}")
        said += laying.code
    return said


class _Laying:
    """One kind of words on its way into its folder, which is made afresh."""

    def __init__(self, kind: str, config: str) -> None:
        self.kind = kind
        self.config = config
        self.place = os.path.join(config, kind)
        self.missing: list[str] = []
        self.code: list[str] = []
        self.left = _MOST_ENTRIES
        self.owners: dict[str, int] = {}

    def work(self, folders: list[str]) -> None:
        """Lay links to what the user's and the project's folders of this kind hold."""
        projects = [os.path.join(f, ".claude", self.kind) for f in reversed(folders)]
        own = os.path.realpath(self.place)
        if os.path.islink(self.place):
            os.unlink(self.place)
        elif os.path.lexists(self.place):
            own = os.path.join(tempfile.mkdtemp(prefix=f".own-{self.kind}-", dir=self.config), "x")
            os.rename(self.place, own)
        os.makedirs(self.place)
        # Of two skills of one name 2.1.332 takes the user's, of anything else the project's.
        sources = [own, *projects] if self.kind == "skills" else [*projects, own]
        ranked = list(enumerate(sources))
        if self.kind in _BY_THEIR_OWN_NAME:
            for rank, source in ranked:
                for name in _own_names(source):
                    self.owners.setdefault(name, rank)
        self.lay(ranked, self.place, 0)
        if self.kind == "skills":
            for path in self.below(folders[-1], ".claude/skills/*/SKILL.md"):
                folder, _, name = os.path.dirname(path).rpartition("/.claude/skills/")
                if name in _names(self.place):
                    name = _free(f"{folder.replace('/', '-')}-{name}", _names(self.place))
                skill = os.path.join(folders[-1], os.path.dirname(path))
                self.link(skill, os.path.join(self.place, name))

    def lay(self, sources: list[tuple[int, str]], place: str, depth: int) -> None:
        """Lay what the folders hold into one, folders of the same name into one as well."""
        found: dict[str, list[tuple[int, str]]] = {}
        for rank, source in sources:
            for name in _names(source):
                found.setdefault(name, []).append((rank, os.path.join(source, name)))
        for name, targets in found.items():
            if self.left <= 0:
                self.missing.append("what is beyond the first 2000")
                return
            inner = [t for t in targets if os.path.isdir(t[1]) and not os.path.islink(t[1])]
            if self.kind == "skills":
                self.link(targets[0][1], os.path.join(place, name))
            elif inner == targets and (len(inner) > 1 or self.owners) and depth < _DEEPEST:
                os.mkdir(os.path.join(place, name))
                self.lay(inner, os.path.join(place, name), depth + 1)
            else:
                self.files(targets, place, name, found)

    def files(
        self, targets: list[tuple[int, str]], place: str, name: str, taken: Iterable[str]
    ) -> None:
        """Files of one name: the nearest, and the others where they count as well."""
        laid = 0
        for rank, target in targets:
            if self.owners and self.owners.get(_own_name(target), rank) < rank:
                continue
            if laid and self.kind not in ("rules", *_BY_THEIR_OWN_NAME):
                return
            link = name if not laid else _free(f"{laid + 1}-{name}", {*taken, *_names(place)})
            self.link(target, os.path.join(place, link))
            laid += 1

    def link(self, target: str, place: str) -> None:
        """Lay one link; of a plugin one to each of its words."""
        self.left -= 1
        try:
            inner = _names(target) if self.kind == "skills" else []
            if ".claude-plugin" not in inner:
                os.symlink(target, place)
                return
            os.mkdir(place)
            for name in inner:
                if name not in _OF_A_PLUGIN:
                    os.symlink(os.path.join(target, name), os.path.join(place, name))
            code = ", ".join(n for n in inner if n in _OF_A_PLUGIN)
            skill = ascii(os.path.basename(place))[1:-1][:100]
            self.code.append(f"left out in the box, of the skill {skill}: {code} (it is code)")
        except OSError:
            self.missing.append(os.path.basename(place))

    def below(self, cwd: str, *names: str) -> list[str]:
        """The files of these names in folders below, which count where somebody works there."""
        found = _listed(cwd, names)
        if len(found) > _MOST_NESTED:
            self.missing.append(f"{len(found) - _MOST_NESTED} files of folders below")
        return found[:_MOST_NESTED]

    def memory(self, folders: list[str]) -> None:
        """Lay the project's memory among the rules, which is what the CLI always reads.

        The files themselves, by links: so their imports count from where they lie, and go as deep
        as elsewhere.
        """
        if self.kind != "rules":
            return
        own = os.path.join(self.place, _free("plandock", _names(self.place)))
        os.mkdir(own)
        for number, path in enumerate(p for folder in folders for p in _memory(folder)):
            self.link(path, os.path.join(own, f"{number:03}-{os.path.basename(path)}"))
        cwd = folders[-1]
        for number, path in enumerate(self.below(cwd, "CLAUDE.md", ".claude/rules/**/*.md")):
            # With a condition an import would count at once: here it is the texts themselves.
            text = _with_imports(os.path.join(cwd, path), folders[0])
            folder, dot_claude, _ = path.partition("/.claude/")
            folder = folder if dot_claude else os.path.dirname(path)
            below = json.dumps(f"{_plain(folder)}/**", ensure_ascii=False)
            head = f"---\npaths:\n  - {below}\n---\n\nThis is {path}:\n\n"
            if text:
                try:
                    _write(os.path.join(own, f"below-{number:03}.md"), head + text)
                except (OSError, ValueError):
                    self.missing.append(path)


def _plain(folder: str) -> str:
    """A folder's name as a pattern: any one character instead of one that has a meaning there."""
    return re.sub(r"[*?\[\]{}()!#\\,]", "?", folder)


def _free(name: str, taken: Iterable[str]) -> str:
    """The name, with something before it where it is taken."""
    while name in taken:
        name = f"_{name}"
    return name


def _own_names(folder: str) -> Iterator[str]:
    """The names that the files of a folder give themselves."""
    seen = 0
    for above, _, names in os.walk(folder):
        for name in sorted(names):
            seen += 1
            if seen > _MOST_ENTRIES:
                return
            yield _own_name(os.path.join(above, name))


def _own_name(path: str) -> str:
    """The name that a file gives itself, or its file's."""
    found = _OWN_NAME.match(_text(path, 16 << 10))
    return found.group(1).strip().strip("\"'") if found else os.path.basename(path)


def _memory(folder: str) -> list[str]:
    """The folder's own memory files, as the CLI finds them: AGENTS.md where there is no other."""
    shared = [p for name in _MEMORY if os.path.isfile(p := os.path.join(folder, name))]
    shared = shared or [p for name in _AGENTS if os.path.isfile(p := os.path.join(folder, name))]
    own = os.path.join(folder, "CLAUDE.local.md")
    return [*shared, own] if os.path.isfile(own) else shared


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _listed(cwd: str, names: Iterable[str]) -> list[str]:
    """What git knows of these names in folders below."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--", *(f":(glob)*/**/{name}" for name in names)],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_LIST_S,
            check=False,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    found = [p for p in listed.decode("utf-8", "surrogateescape").split("\0") if p]
    return [p for p in found if not p.startswith(".claude/")]


def _with_imports(path: str, top: str) -> str:
    """A text without a rule's head, and behind it what it imports of the repository."""
    top, told, room = os.path.realpath(top), "", _LARGEST
    taken = [os.path.realpath(path)]
    for at in taken:
        text = _text(at, room)
        room -= len(text)
        if text and told:
            told += f"\n\nContents of {os.path.relpath(at, top)}:\n\n"
        told += _HEAD.sub("", text, 1)
        for name in _IMPORT.findall(text):
            real = os.path.realpath(os.path.join(os.path.dirname(at), name.rstrip(".,;:)")))
            inside = real.startswith(f"{top}/") and real.endswith(_WORDS)
            if inside and real not in taken and len(taken) < _MOST_IMPORTS:
                taken.append(real)
    return told


def _text(path: str, largest: int = _LARGEST) -> str:
    try:
        if not os.path.isfile(path):
            return ""
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(largest)
    except OSError:
        return ""


def _write(path: str, text: str) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(handle, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
