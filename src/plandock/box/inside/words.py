"""The repository's words for a CLI that does not read the repository's settings.

Both come from one source for the CLI: without its settings it has no CLAUDE.md, agents, commands,
skills, rules and output styles of the project either (measured, both versions).  So these are laid
into the CLI's own folder, in the box's memory: as links, so that what the agent changes counts at
once, as it does elsewhere.  Nothing in the work tree is touched.
"""

from __future__ import annotations

import json
import os
import subprocess

KINDS = ("agents", "commands", "skills", "rules", "output-styles", "workflows")
_MEMORY = ("CLAUDE.md", os.path.join(".claude", "CLAUDE.md"))
_AGENTS = ("AGENTS.md", os.path.join(".claude", "AGENTS.md"))  # read since some 2.1.3xx
# A skill's folder with the first of them is a plugin: code.  Its words go along, the rest not.
_OF_A_PLUGIN = frozenset({".claude-plugin", "hooks", ".mcp.json", ".lsp.json", "bin"})
_MOST_ENTRIES, _MOST_NESTED, _LARGEST = 2000, 200, 256 << 10
_LIST_S = 60.0


def lay_out(folders: list[str], config: str) -> None:
    """Lay the words of the project into the folder ``config`` of the CLI.

    ``folders`` go from the repository's top down to where the CLI is started; the nearer one goes
    before the farther.  What is the user's own stays, but gives way to the project's.
    """
    cwd = folders[-1]
    for kind in KINDS:
        place = os.path.join(config, kind)
        sources = [os.path.realpath(place)]
        sources += [os.path.join(f, ".claude", kind) for f in folders]
        entries: dict[str, str] = {}
        for source in sources:
            for name in _names(source):
                entries[name] = os.path.join(source, name)
        if os.path.islink(place):
            os.unlink(place)
        os.makedirs(place, exist_ok=True)
        for name, target in list(entries.items())[:_MOST_ENTRIES]:
            _link(target, os.path.join(place, name))
    rules = os.path.join(config, "rules")
    for number, path in enumerate(p for folder in folders for p in _memory(folder)):
        escaped = path.replace("\\", "\\\\").replace(" ", "\\ ")
        _write(os.path.join(rules, f"plandock-{number:03}.md"), f"@{escaped}\n")
    for number, path in enumerate(_nested(cwd)):
        # With a condition an import would count at once: here it is the text itself.
        text = _text(os.path.join(cwd, path))
        below = json.dumps(f"{os.path.dirname(path)}/**", ensure_ascii=False)
        head = f"---\npaths:\n  - {below}\n---\n\nThis is {path}:\n\n"
        if text:
            _write(os.path.join(rules, f"plandock-below-{number:03}.md"), head + text)


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


def _link(target: str, place: str) -> None:
    if os.path.lexists(place):
        return
    inner = _names(target)
    if ".claude-plugin" not in inner:
        os.symlink(target, place)
        return
    os.mkdir(place)
    for name in inner:
        if name not in _OF_A_PLUGIN:
            os.symlink(os.path.join(target, name), os.path.join(place, name))


def _nested(cwd: str) -> list[str]:
    """The CLAUDE.md of folders below, which count where somebody works in that folder."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--", ":(glob)*/**/CLAUDE.md"],
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
    return [p for p in found if not p.startswith(".claude/")][:_MOST_NESTED]


def _text(path: str) -> str:
    try:
        if not os.path.isfile(path):
            return ""
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_LARGEST)
    except OSError:
        return ""


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
