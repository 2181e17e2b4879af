"""The plugins that Claude Code's settings files enable in a folder, and where their files lie.

A repository can bring both along: a marketplace of a folder of its own and the plugin in it load
at the first start, with no question asked (measured, 2.1.332).  Hostile until checked.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from plandock.errors import SettingsError
from plandock.settings.claude_project import local_root
from plandock.settings.files import read_bounded

_LARGEST = 1 << 20
_MOST = 500
_NEWEST = "999.0.0"

Found = tuple[str, Path | None, Mapping[str, Any] | None]


def enabled(folders: Iterable[Path], config_dir: Path) -> Iterator[Found]:
    """Name, folder and the marketplace's entry of each enabled plugin.

    The folder is None where its files are not to be had here: they come from elsewhere, at a
    start of Claude Code.  ``folders`` are those that it may be started in.
    """
    folders = list(folders)
    files = [(config_dir, "settings.json")]
    for folder in folders:
        mine, root = folder / ".claude", local_root(folder, _NEWEST)
        files += [(mine, "settings.json"), (mine, "settings.local.json")]
        files += [(root / ".claude", "settings.local.json")]
    names: dict[str, list[tuple[str, bool]]] = {}
    markets: dict[str, list[Path | None]] = {}
    for place, file in dict.fromkeys(files):
        held = _object(place / file)
        for name, on in _pairs(held.get("enabledPlugins")):
            names.setdefault(name, []).append((file, bool(on)))
        for name, declared in _pairs(held.get("extraKnownMarketplaces")):
            # What a relative one starts from is known for the start folder alone.
            starts = [place, place.parent, *folders]
            markets.setdefault(name, []).extend(_places(declared, starts))
    known = config_dir / "plugins"
    for name, declared in _pairs(_object(known / "known_marketplaces.json")):
        markets.setdefault(name, []).extend(_places(declared, [known]))
    installed = dict(_pairs(_object(known / "installed_plugins.json").get("plugins")))
    for name, said in names.items():
        # Local files decide where they say something; of several, one is enough.
        local = [on for file, on in said if file == "settings.local.json"]
        if any(local) if local else said[-1][1]:
            yield from _of_one(name, markets, installed.get(name))


def _of_one(
    name: str, markets: Mapping[str, list[Path | None]], entries: object
) -> Iterator[Found]:
    own, _, market = name.rpartition("@")
    found: list[Found] = []
    for entry in entries if isinstance(entries, list) else [entries]:
        path = entry.get("installPath") if isinstance(entry, dict) else None
        if isinstance(path, str) and path.startswith("/") and "\0" not in path:
            found.append((name, Path(path), None))
    is_installed, places = bool(found), markets.get(market, [])
    for place in places:
        found += _in_marketplace(name, own, place) if place else ()
    yield from found
    if not found or (None in places and not is_installed):
        yield name, None, None


def _in_marketplace(name: str, own: str, place: Path) -> Iterator[Found]:
    """What a marketplace's folder, or its file, says of one plugin of it."""
    for file, root in (
        (place / ".claude-plugin" / "marketplace.json", place),
        (place, place.parent),
        (place, place.parent.parent),
    ):
        held = _object(file)
        listed = held.get("plugins")
        about = held.get("metadata")
        below = about.get("pluginRoot") if isinstance(about, dict) else None
        for entry in listed if isinstance(listed, list) else []:
            if not isinstance(entry, dict) or entry.get("name") != own:
                continue
            source = entry.get("source")
            if not isinstance(source, str) or "\0" in source:
                continue
            tops = [root, root / below] if isinstance(below, str) and "\0" not in below else [root]
            for folder in (top / source for top in tops):
                if os.path.isdir(folder):
                    yield name, folder, entry


def _places(declared: object, starts: list[Path]) -> list[Path | None]:
    """Where the files of a declared marketplace may lie on this machine; None for elsewhere."""
    if not isinstance(declared, dict):
        return [None]
    source, named = declared.get("source"), [declared.get("installLocation")]
    if isinstance(source, dict) and source.get("source") in ("directory", "file"):
        named.append(source.get("path"))
    found = [s / x for x in named if isinstance(x, str) and "\0" not in x for s in starts]
    return list(dict.fromkeys(found)) or [None]


def _pairs(value: object) -> list[tuple[str, Any]]:
    return list(islice(value.items(), _MOST)) if isinstance(value, dict) else []


def _object(file: Path) -> dict[str, Any]:
    try:
        return read_object(file)
    except (SettingsError, ValueError, RecursionError):
        return {}


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object in a file, {} where there is none; raises for anything else."""
    data = read_bounded(file, most=_LARGEST, follow=True)
    # As Node decodes it: a stray byte does not make a file invalid there.
    text = "{}" if data is None else data.decode("utf-8", "replace").removeprefix("\ufeff")
    held = json.loads(text)
    if not isinstance(held, dict):
        raise ValueError("no JSON object")
    return held
