"""Mods in reach of a folder: code that runs inside Claude Code and can swallow hooks.

A mod is a plugin whose hooks file names ``modules``.  It loads from ``.claude/skills/<name>`` of
the folder that Claude Code is started in, from the user's own skills, and from enabled plugins
(see `plugins`); it needs ``.claude-plugin/plugin.json`` (measured, 2.1.332; 2.1.197 knows no
mods).  Read here without running anything, and hostile until checked: sizes and counts are bounded.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from plandock.errors import SettingsError
from plandock.hook import plugins
from plandock.settings.files import read_bounded

# What can keep our hooks, or the words that they answer with, from their effect.
REACHES = ("classic.", "tool.", "turn.", "prompt.")

_MOST_FOLDERS = 500
_MOST_MODULES = 20
_LARGEST = 1 << 20
_ON = re.compile(rb"""\bon\s*\(\s*["'`]([a-z]{1,30}\.[A-Za-z]{1,40})["'`]""")
# The one shape of a module whose text is believed: `on` is its only way to a hook, and each call
# of it names its event in plain words.
_REGISTER = re.compile(
    rb"export\s+(?:default\s+)?(?:async\s+)?function\s+register\s*\(\s*on\s*(?::\s*\w+\s*)?\)"
)
_CLEVER = re.compile(
    rb"[\\`\[]|\b(?:import|require|from|eval|Function|arguments|globalThis|Reflect|Object|this"
    rb"|constructor|with)\b"
)
_TYPES = re.compile(
    rb"""^\s*import\s+type\s[^'"`;\\]*?\sfrom\s*["'][^"'\\\n]*["'];?[ \t]*$""", re.M
)
_EVENT = re.compile(r"[a-z]{1,30}\.[A-Za-z]{1,40}\Z")
# As the validator's longest answer on a loaded machine (seconds; 0.5 measured).
_VALIDATE_S = 20.0


@dataclass(frozen=True)
class Mod:
    """A mod: its folder, and the events that it hooks; None where they are not known."""

    folder: Path
    events: tuple[str, ...] | None
    named: tuple[str, ...] = ()  # what its text names, of those that it hooks at least
    plugin: str = ""  # of one that cannot be judged by its files here: its name

    @property
    def reaches(self) -> bool:
        """Whether it can keep plandock's hooks from firing; what is not known can."""
        return self.events is None or any(e.startswith(REACHES) for e in self.events)

    def __str__(self) -> str:
        if self.plugin:
            return f"the plugin {self.plugin} (it may be a mod: its files cannot be judged here)"
        told = self.events or self.named
        shown = [e for e in told if e.startswith(REACHES)] or list(told)
        more = f" and {len(shown) - 6} more" if len(shown) > 6 else ""
        words = f"hooks {', '.join(shown[:6])}{more}" if shown else ""
        if self.events is None:
            words = f"{words} and what else" if words else "what"
            words += " it hooks is not known"
        return f"the mod {self.folder} ({words})"


def in_reach(folders: Iterable[Path], config_dir: Path) -> list[Mod]:
    """Every mod that Claude Code may load when it is started in the first of these folders.

    ``folders`` are that folder and those above it.  Raises nothing.
    """
    folders = list(folders)
    places = [folder / ".claude" / "skills" for folder in folders]
    found: dict[str, Mod] = {}
    for folder in (x for p in [*places, config_dir / "skills"] for x in _folders(p)):
        if (mod := read(folder)) is not None:
            found.setdefault(os.path.realpath(folder), mod)
    for name, its, entry in plugins.enabled(folders, config_dir):
        if its is None:
            found.setdefault(name, Mod(Path(name), None, plugin=name))
        elif (mod := read(its, entry)) is not None:
            place = os.path.realpath(its)
            if mod.reaches or place not in found:
                found[place] = mod
    return list(found.values())


def at_start(cwd: str, config_dir: Path) -> str:
    """What the person reads when a conversation starts beside mods; "" without one.

    Of those that reach for no hook the repository's own are named: Claude Code says nothing of
    them.  Where plandock stands in managed settings, no mod reaches it.
    """
    if not cwd or managed_file(os.getuid()).exists():
        return ""
    here = in_reach([Path(cwd)], config_dir)
    theirs = [mod for mod in here if Path(cwd) in mod.folder.parents]
    reaching = [mod for mod in here if mod.reaches]
    found = reaching or theirs
    if not found:
        return ""
    from plandock.printable import one_line

    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    said = f"plandock: {one_line('; '.join(map(str, found[:3])))}{more} runs inside Claude Code"
    if not reaching:
        return f"{said}; by its text it reaches for no hook"
    return (
        f"{said} and can swallow plandock's hooks: an accepted plan may then be carried out on "
        "this machine. "
        "Look: plandock doctor. What holds: sudo plandock init --scope managed"
    )


def managed_dir() -> Path:
    """Where an organisation's own settings lie on this system."""
    if sys.platform == "darwin":
        return Path("/Library/Application Support/ClaudeCode")
    return Path("/etc/claude-code")


def managed_file(uid: int) -> Path:
    """The managed settings by which plandock is wired for a user (see `cli/managed.py`)."""
    return managed_dir() / "managed-settings.d" / f"50-plandock-{uid}.json"


def read(folder: Path, entry: Mapping[str, Any] | None = None) -> Mod | None:
    """The mod in a plugin's folder by its own files, or None where it holds none.

    A marketplace's ``entry`` of it may name hooks as well, and stand for its manifest.
    """
    manifest = folder / ".claude-plugin" / "plugin.json"
    if entry is None and not os.path.lexists(manifest):
        return None
    try:
        held = plugins.read_object(manifest)
        listed = [*_listed(held.get("hooks")), *_listed((entry or {}).get("hooks"))]
        parts = [(folder, x) for x in listed if isinstance(x, dict)]
        names = ["hooks/hooks.json", *(x for x in listed if isinstance(x, str))]
        if len(names) > _MOST_MODULES:
            return Mod(folder, None)
        for file in [folder / name for name in names]:
            parts.append((file.parent, plugins.read_object(file)))
    except (SettingsError, ValueError, RecursionError):
        return Mod(folder, None)
    # A module's path starts from the file that names it.
    modules = [(base, m) for base, part in parts for m in _listed(part.get("modules"))]
    if modules and entry is not None and entry.get("hooks"):
        return Mod(folder, None, plugin=str(entry.get("name")))  # no validator sees the entry
    return _judged(folder, modules) if modules else None


def validated(mod: Mod, program: Path) -> Mod:
    """The mod as `claude plugin validate --json` reads it; it runs nothing of the mod.

    What it cannot judge (and every version without that command) is as its own text has it.
    """
    if mod.plugin:
        return mod
    import tempfile

    from plandock import proc

    with tempfile.TemporaryDirectory(prefix="plandock-validate-") as home:
        env = {
            "HOME": home, "PATH": os.defpath, "LANG": "C.UTF-8", "DISABLE_AUTOUPDATER": "1",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "CLAUDE_CONFIG_DIR": home,
        }  # fmt: skip
        argv = [str(program), "plugin", "validate", "--json", str(mod.folder)]
        try:
            done = proc.run(argv, cwd=Path(home), env=env, check=False, timeout_s=_VALIDATE_S)
            events = _validated_events(json.loads(done.stdout))
        except (proc.ProcessFailed, ValueError, RecursionError):
            events = None
    if events is None:
        return mod
    return Mod(mod.folder, tuple(sorted({*events, *(mod.events or ()), *mod.named})))


def _validated_events(answer: object) -> set[str] | None:
    contents = answer.get("contents") if isinstance(answer, dict) else None
    if not isinstance(contents, list):
        return None
    found: set[str] = set()
    seen = False
    for part in contents:
        if not isinstance(part, dict) or part.get("type") != "hooks":
            continue
        modules = part.get("modules")
        if part.get("errors") or not isinstance(modules, list):
            return None
        # A module of which it has a word to say (such as: no types) comes as a part of its own
        # once more, and names none.
        if not modules and str(part.get("file", ".json")).endswith(".json"):
            return None
        for module in modules:
            uses = module.get("uses") if isinstance(module, dict) else None
            events = uses.get("events") if isinstance(uses, dict) else None
            if not isinstance(events, list):
                return None
            seen = True
            names = [e.get("event", e.get("name")) if isinstance(e, dict) else e for e in events]
            if not all(isinstance(n, str) and _EVENT.match(n) for n in names):
                return None
            found.update(map(str, names))
    return found if seen else None


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else [value] if value else []


def _judged(folder: Path, modules: list[tuple[Path, Any]]) -> Mod:
    """The mod by the text of its modules: what they name, which is all only of a plain one."""
    found: set[str] = set()
    plain = len(modules) == 1
    for base, name in modules[:_MOST_MODULES]:
        try:
            file = base / name if isinstance(name, str) else None
            text = read_bounded(file, most=_LARGEST, follow=True) if file else None
        except (SettingsError, ValueError):
            text = None
        found |= {x.decode() for x in _ON.findall(text or b"")}
        plain = plain and text is not None and _is_plain(text)
    events = tuple(sorted(found))
    return Mod(folder, events if events and plain else None, events)


def _is_plain(text: bytes) -> bool:
    """Whether a module's text shows every event that it hooks."""
    text = _TYPES.sub(b"", text)
    return (
        text.count(b"export") == len(_REGISTER.findall(text)) == 1
        and _CLEVER.search(text) is None
        and len(re.findall(rb"\bon\b", text)) == 1 + len(_ON.findall(text))
    )


def _folders(place: Path) -> Iterator[Path]:
    try:
        with os.scandir(place) as entries:
            names = sorted(e.name for e in islice(entries, _MOST_FOLDERS))
    except OSError:
        return
    for name in names:
        yield place / name
