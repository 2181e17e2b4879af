"""Mods in reach of a folder: code that runs inside Claude Code and can swallow hooks.

A mod is a plugin whose hooks file names ``modules``.  It loads from ``.claude/skills/<name>`` of
the folder that Claude Code is started in, from the user's own skills, and from enabled plugins;
it needs ``.claude-plugin/plugin.json`` (measured, 2.1.332; 2.1.197 knows no mods).  Read here
without running anything, and hostile until checked: sizes and counts are bounded.
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
from plandock.settings.files import read_bounded

# What can keep our hooks, or the words that they answer with, from their effect.
REACHES = ("classic.", "tool.", "turn.", "prompt.")

_MOST_FOLDERS = 500
_MOST_MODULES = 20
_LARGEST = 1 << 20
_ON = re.compile(rb"""\bon\s*\(\s*["'`]([a-z]{1,30}\.[A-Za-z]{1,40})["'`]""")
_EVENT = re.compile(r"[a-z]{1,30}\.[A-Za-z]{1,40}\Z")
# As the validator's longest answer on a loaded machine (seconds; 0.5 measured).
_VALIDATE_S = 20.0


@dataclass(frozen=True)
class Mod:
    """A mod: its folder, and the events that it hooks; None where they are not known."""

    folder: Path
    events: tuple[str, ...] | None

    @property
    def reaches(self) -> bool:
        """Whether it can keep plandock's hooks from firing; what is not known can."""
        return self.events is None or any(e.startswith(REACHES) for e in self.events)

    def __str__(self) -> str:
        if self.events is None:
            return f"{self.folder} (what it hooks is not known)"
        shown = [e for e in self.events if e.startswith(REACHES)] or list(self.events)
        more = f" and {len(shown) - 6} more" if len(shown) > 6 else ""
        return f"{self.folder} (hooks {', '.join(shown[:6])}{more})"


def in_reach(folders: Iterable[Path], config_dir: Path) -> list[Mod]:
    """Every mod that Claude Code may load when it is started in the first of these folders.

    ``folders`` are that folder and those above it.  Raises nothing.
    """
    folders = list(folders)
    places = [folder / ".claude" / "skills" for folder in folders]
    found: dict[str, Mod] = {}
    candidates = [*(x for p in [*places, config_dir / "skills"] for x in _folders(p))]
    candidates += _plugins(folders, config_dir)
    for folder in candidates:
        if (mod := read(folder)) is not None:
            found.setdefault(os.path.realpath(folder), mod)
    return list(found.values())


def at_start(cwd: str, config_dir: Path) -> str:
    """What the person reads when a conversation starts beside such a mod; "" without one.

    Where plandock stands in managed settings, no mod reaches it.
    """
    if not cwd or managed_file(os.getuid()).exists():
        return ""
    found = [mod for mod in in_reach([Path(cwd)], config_dir) if mod.reaches]
    if not found:
        return ""
    from plandock.printable import one_line

    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return (
        f"plandock: {one_line('; '.join(map(str, found[:3])))}{more} runs inside Claude Code and "
        "can swallow plandock's hooks: an accepted plan may then be carried out on this machine. "
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


def read(folder: Path) -> Mod | None:
    """The mod in a plugin's folder by its own files, or None where it holds none."""
    manifest = folder / ".claude-plugin" / "plugin.json"
    if not os.path.lexists(manifest):
        return None
    try:
        held = _read_object(manifest)
        named = held.get("hooks")
        listed = named if isinstance(named, list) else [named]
        parts = [(folder, x) for x in listed if isinstance(x, dict)]
        names = ["hooks/hooks.json", *(x for x in listed if isinstance(x, str))]
        for file in [folder / name for name in names[:_MOST_MODULES]]:
            parts.append((file.parent, _read_object(file)))
    except (SettingsError, ValueError, RecursionError):
        return Mod(folder, None)
    # A module's path starts from the file that names it.
    modules = [(base, m) for base, part in parts for m in _listed(part.get("modules"))]
    return Mod(folder, _events_in(modules)) if modules else None


def validated(mod: Mod, program: Path) -> Mod:
    """The mod as `claude plugin validate --json` reads it; it runs nothing of the mod.

    What it cannot judge (and every version without that command) leaves the events unknown,
    unless the mod's own text names some that reach.
    """
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
        return mod if mod.events and mod.reaches else Mod(mod.folder, None)
    return Mod(mod.folder, tuple(sorted({*events, *(mod.events or ())})))


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
        if part.get("errors") or not isinstance(modules, list) or not modules:
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


def _events_in(modules: list[tuple[Path, Any]]) -> tuple[str, ...] | None:
    """The events that the text of the modules names; None where there is none to be seen."""
    found: set[str] = set()
    files = [base / m for base, m in modules[:_MOST_MODULES] if isinstance(m, str)]
    for file in files:
        try:
            text = read_bounded(file, most=_LARGEST, follow=True)
        except (SettingsError, ValueError):
            return None
        found |= {x.decode() for x in _ON.findall(text or b"")}
    if len(modules) > len(files) or not found:
        return None
    return tuple(sorted(found))


def _folders(place: Path) -> Iterator[Path]:
    try:
        with os.scandir(place) as entries:
            names = sorted(e.name for e in islice(entries, _MOST_FOLDERS))
    except OSError:
        return
    for name in names:
        yield place / name


def _plugins(folders: list[Path], config_dir: Path) -> Iterator[Path]:
    """The folders of installed plugins that some settings file enables."""
    enabled: set[str] = set()
    files = [config_dir / "settings.json"]
    for folder in folders:
        files += [folder / ".claude" / name for name in ("settings.json", "settings.local.json")]
    for file in files:
        held = _object(file).get("enabledPlugins")
        if isinstance(held, dict):
            enabled |= {name for name, on in held.items() if on}
    installed = _object(config_dir / "plugins" / "installed_plugins.json").get("plugins")
    for name, entries in installed.items() if isinstance(installed, Mapping) else ():
        if name in enabled:
            for entry in entries if isinstance(entries, list) else [entries]:
                path = entry.get("installPath") if isinstance(entry, dict) else None
                if isinstance(path, str) and path.startswith("/") and "\0" not in path:
                    yield Path(path)


def _object(file: Path) -> dict[str, Any]:
    try:
        return _read_object(file)
    except (SettingsError, ValueError, RecursionError):
        return {}


def _read_object(file: Path) -> dict[str, Any]:
    """The JSON object in a file, {} where there is none; raises for anything else."""
    data = read_bounded(file, most=_LARGEST, follow=True)
    held = {} if data is None else json.loads(data)
    if not isinstance(held, dict):
        raise ValueError("no JSON object")
    return held
