"""Which settings files this user has had wired, so that the launcher goes with the last of them.

The launcher is one for all scopes and folders.  Taken away while another repository is still
wired, that one would hand plans off and no longer guard the host, so `init` leaves a note of where.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from plandock import paths
from plandock.claude import jsonfile
from plandock.errors import PlandockError
from plandock.hook.settings_file import Wired, wired


def _file() -> Path:
    return paths.state_dir() / "wired.json"


def _places() -> list[tuple[str, str]]:
    """Pairs of Claude Code's folder and a repository ("" for none)."""
    try:
        held = jsonfile.read_object(_file(), limit=1 << 20) or {}
    except jsonfile.Unreadable:
        return []
    rows = held.get("places")
    return [
        (row[0], row[1])
        for row in (rows if isinstance(rows, list) else [])
        if isinstance(row, list) and len(row) == 2 and all(isinstance(x, str) for x in row)
    ]


def _keep(places: list[tuple[str, str]]) -> None:
    try:
        if not places:
            _file().unlink(missing_ok=True)
            return
        paths.make_private(_file().parent)
        data = json.dumps({"places": sorted(set(places))}).encode("ascii")
        jsonfile.write_private(_file(), data)
    except OSError as error:
        raise PlandockError(
            f"{_file()} cannot be written: {error.strerror}", hint="check who owns it and its mode"
        ) from None


def remember(config_dir: Path, repo: Path | None) -> None:
    """Note that this place has been wired; raises :class:`PlandockError` where it cannot."""
    place = (os.path.abspath(config_dir), os.path.abspath(repo) if repo else "")
    places = _places()
    if place not in places:
        _keep([*places, place])


def still_wired(config_dir: Path, repo: Path | None) -> list[Wired]:
    """Every file, here and in the places noted, that holds our hooks; forgets the others.

    A file that cannot be read counts as wired: it may hold them.
    """
    here = (os.path.abspath(config_dir), os.path.abspath(repo) if repo else "")
    found: dict[Path, Wired] = {}
    kept = []
    for place in dict.fromkeys([*_places(), here]):
        there = wired(Path(place[0]), Path(place[1]) if place[1] else None)
        found.update({w.path: w for w in there})
        if there:
            kept.append(place)
    if kept or _file().exists():
        _keep(kept)
    return list(found.values())
