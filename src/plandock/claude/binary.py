"""The host's own Claude Code: where it is, and which version.

The box's image carries exactly the version that the host runs, so the answer is asked for at
every hand-off and kept, for as long as the program file stays the same.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plandock import paths, proc
from plandock.claude import jsonfile
from plandock.claude.redact import redact
from plandock.errors import PlandockError

TESTED = ("2.1.197", "2.1.332")
"""The oldest and the newest version that the tests are run with; payloads of both are recorded."""

# `claude --version` prints "2.1.330 (Claude Code)".
_VERSION = re.compile(r"^\s*v?(\d{1,6}\.\d{1,6}\.\d{1,6}(?:-[0-9A-Za-z.-]{1,40})?)(?=\s|$)", re.M)

_RELEASE = re.compile(r"(\d+)\.(\d+)\.(\d+)")

# A small file is a wrapper: what it starts can change while it stays as it is.
_WRAPPER_BYTES = 1 << 20
_KEPT = 8


def find_claude(environ: Mapping[str, str]) -> Path:
    """The ``claude`` program that the user runs, as an absolute path (links not resolved).

    ``PLANDOCK_CLAUDE``, else the first on ``PATH``, else the places where its installers put it.
    Raises :class:`PlandockError` with the next step.
    """
    named = environ.get("PLANDOCK_CLAUDE", "")
    if named:
        if not _runs(Path(named)):
            raise PlandockError(
                f"PLANDOCK_CLAUDE names {named}, which is not a program",
                hint="set it to the path of `claude`, or unset it",
            )
        return Path(os.path.abspath(named))
    # Relative entries are left out: they would find a program of the repository's.
    folders = [x for x in environ.get("PATH", "").split(os.pathsep) if os.path.isabs(x)]
    found = shutil.which("claude", path=os.pathsep.join(folders)) if folders else None
    if found:
        return Path(found)
    home = Path(environ.get("HOME") or paths.home())
    for place in (
        home / ".claude/local/claude",
        home / ".local/bin/claude",
        Path("/opt/homebrew/bin/claude"),
        Path("/usr/local/bin/claude"),
    ):
        if _runs(place):
            return place
    raise PlandockError(
        "Claude Code was not found on this machine",
        hint="install it, or set PLANDOCK_CLAUDE to the path of `claude`",
    )


def version_of(binary: Path, *, timeout_s: float = 120.0) -> str:
    """The version of a ``claude`` program, such as ``2.1.330``.

    Starts it once and remembers the answer by (real path, change time, size).  Raises
    :class:`PlandockError` where it does not run or says something else.
    """
    real = os.path.realpath(binary)
    try:
        found = os.stat(real)
    except OSError as error:
        raise PlandockError(f"{binary} cannot be used: {error.strerror}") from None
    stamp = [found.st_mtime_ns, found.st_size]
    known = _known_versions()
    kept = known.get(real)
    if isinstance(kept, dict) and kept.get("stamp") == stamp and _is_version(kept.get("version")):
        return str(kept["version"])
    version = _ask(binary, timeout_s)
    if found.st_size >= _WRAPPER_BYTES and not _is_shim(binary, real):
        known.pop(real, None)
        known[real] = {"stamp": stamp, "version": version}
        _keep(dict(list(known.items())[-_KEPT:]))
    return version


def tested(version: str) -> bool:
    """Whether a version lies within :data:`TESTED`, both ends included; no pre-release does."""
    return _RELEASE.fullmatch(version) is not None and not older(version) and not newer(version)


def older(version: str) -> bool:
    """Whether a version comes before :data:`TESTED`."""
    return _numbers(version) < _numbers(TESTED[0])


def newer(version: str) -> bool:
    """Whether a version comes after :data:`TESTED`."""
    return _numbers(version) > _numbers(TESTED[1])


def comes_after(version: str, other: str) -> bool:
    """Whether a version is a later one than another; what is none is never."""
    return bool(_RELEASE.match(version)) and order(version) > order(other)


def order(version: str) -> tuple[int, ...]:
    """A key by which versions can be sorted."""
    return _numbers(version)


def _numbers(version: str) -> tuple[int, ...]:
    # What is no version at all is neither older nor newer.
    found = _RELEASE.match(version) or _RELEASE.match(TESTED[0])
    assert found is not None, "TESTED holds versions"
    return tuple(map(int, found.groups()))


def _ask(binary: Path, timeout_s: float) -> str:
    env = proc.clean_environment(
        {"DISABLE_AUTOUPDATER": "1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}
    )
    try:
        done = proc.run((str(binary), "--version"), env=env, timeout_s=timeout_s, cwd="/")
    except proc.ProcessFailed as error:
        raise PlandockError(
            f"`claude --version` failed: {redact(error.message)}", hint="see: plandock doctor"
        ) from None
    match = _VERSION.search(done.text)
    if match is None:
        raise PlandockError(
            f"{binary} does not say which version of Claude Code it is",
            hint="set PLANDOCK_CLAUDE to the path of `claude`",
        )
    return match.group(1)


def _is_shim(binary: Path, real: str) -> bool:
    """Whether one program answers to many names (volta's does): what it starts for this one can
    change while it stays as it is."""
    name = os.path.basename(real)
    return name != binary.name and "claude" not in name and "/claude/versions/" not in real


def _runs(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def _is_version(value: object) -> bool:
    return isinstance(value, str) and _VERSION.fullmatch(value) is not None


def _cache_file() -> Path:
    return paths.state_dir() / "cli-version.json"


def _known_versions() -> dict[str, Any]:
    try:
        return jsonfile.read_object(_cache_file(), limit=65536) or {}
    except jsonfile.Unreadable:
        return {}  # it is only a cache


def _keep(known: dict[str, Any]) -> None:
    try:
        paths.make_private(_cache_file().parent)
        # A path may hold bytes that are no UTF-8; JSON keeps them as escaped surrogates.
        jsonfile.write_private(_cache_file(), json.dumps(known).encode("ascii"))
    except OSError:
        pass  # the next call asks again
