"""What keeps plandock's hooks from firing here, for `doctor` and `init`: see docs/hooks-off.md.

Claude Code says nothing of it: where hooks are turned off or swallowed, an accepted plan runs on
this machine.  Managed settings outlast all of it but one key of their own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plandock.claude import binary, jsonfile
from plandock.cli import missed
from plandock.hook import mods
from plandock.hook.settings_file import Wired
from plandock.settings import claude_project, project
from plandock.settings.inside.repository_settings import FILES

BY_HAND = "plandock run --session last"
_HOLDS = "sudo plandock init --scope managed"

# The variable by which Claude Code runs its hooks through another program (measured; SHELL,
# CLAUDE_CODE_SHELL, BASH_ENV and ENV do nothing of the kind).
_PREFIX = "CLAUDE_CODE_SHELL_PREFIX"
# Variables that reach a hook's shell or its loader, empty ones as well.  Some were measured to end
# every hook (LD_TRACE_LOADED_OBJECTS, LD_LIBRARY_PATH, SHELLOPTS); all of them are what 2.1.332
# keeps from managed hooks.
_OF_THE_SHELL = ("LD_", "DYLD_", "BASH_FUNC_", "__BASH_FUNC<")
_SHELL_READS = frozenset(
    {
        "ENV", "BASH_ENV", "SHELLOPTS", "BASHOPTS", "PS4", "GCONV_PATH", "IFS", "POSIXLY_CORRECT",
        "EXECIGNORE", "GLOBIGNORE", "LOCPATH", "NLSPATH",
    }
)  # fmt: skip
_MOST_NAMES = 6
# The last version that was measured to load no mods, and to let all of them reach managed hooks.
_OLD = (2, 1, 197)


@dataclass(frozen=True)
class Look:
    """One thing that was looked at; ``ok`` is None for a warning."""

    ok: bool | None
    detail: str
    remedy: str = ""


@dataclass(frozen=True)
class Place:
    """Where Claude Code is started, and in which scopes plandock is wired."""

    cwd: Path
    config_dir: Path
    environ: Mapping[str, str]
    wired: list[Wired]
    program: Path | None = None  # the CLI, which judges mods
    version: str = ""

    @property
    def holds(self) -> bool:
        """Whether our hooks stand in managed settings, as this version writes them."""
        return any(w.scope == "managed" and w.complete for w in self.wired)


def look(place: Place, *, repository: bool = False) -> Iterator[Look]:
    """All that can turn our hooks off here; raises nothing for what it finds.

    A repository's own `disableAllHooks` is among it with ``repository``: `doctor` has a check of
    its own for what a repository asks for.
    """
    yield from _managed(place)
    yield from _environment(place)
    yield from _settings(place, repository)
    yield from _mods(place)
    yield from _missed(place)


def _managed(place: Place) -> Iterator[Look]:
    folder = mods.managed_dir()
    try:
        dropins = sorted((folder / "managed-settings.d").glob("*.json"))
    except OSError:
        dropins = []
    for file in (folder / "managed-settings.json", *dropins):
        held = _held(file)
        if held is None:
            yield Look(
                None, f"{file} cannot be read: it may turn hooks off", "look at who wrote it"
            )
            continue
        if _is_on(held.get("disableAllHooks")):
            yield Look(
                False,
                f"{file} turns all hooks off (disableAllHooks), managed ones as well: an accepted "
                "plan is carried out on this machine",
                f"ask who manages this machine; by hand: {BY_HAND}",
            )
        if names := shell_variables(held):
            yield Look(
                None, f"{file} sets {names}: what starts a hook's shell can end every hook",
                f"ask who manages this machine; by hand: {BY_HAND}",
            )  # fmt: skip
        only = held.get("strictPluginOnlyCustomization")
        plugins = only is True or (isinstance(only, list) and "hooks" in only)
        for name, on in (
            ("allowManagedHooksOnly", _is_on(held.get("allowManagedHooksOnly"))),
            ("strictPluginOnlyCustomization", plugins),
        ):
            if on:
                yield _judged(place, f"{file} lets only managed hooks run ({name})")


def _environment(place: Place) -> Iterator[Look]:
    """What `claude` would be told by variables when it is started from this very shell."""
    if _is_truthy(place.environ.get("CLAUDE_CODE_SAFE_MODE")):
        said = "CLAUDE_CODE_SAFE_MODE is set here, and lets only managed hooks run"
        yield _judged(place, said, "unset it, or ")
    if _is_truthy(place.environ.get("CLAUDE_CODE_SIMPLE")):
        said = (
            "CLAUDE_CODE_SIMPLE is set here: Claude Code then reads no login and proposes no plan"
        )
        yield Look(None, said, "unset it")


def _settings(place: Place, repository: bool) -> Iterator[Look]:
    own = place.config_dir / "settings.json"
    held = _held(own)
    if held is not None:
        if _is_on(held.get("disableAllHooks")):
            yield judge_switch(place, f"{own} turns all hooks off (disableAllHooks)", own)
        yield from _in_file(place, own, held)
    theirs = [
        folder / ".claude" / name
        for folder in project.folders_of(place.cwd, place.environ)
        for name in FILES
    ]
    # Beyond those there is the home folder's local file, which is no repository's.
    others = [f for f in _read_here(place) if f != own and f not in theirs]
    for path, settings in project.read_files([*theirs, *others]).parsed:
        asked = repository or path in others
        if asked and _is_on(settings.get("disableAllHooks")):
            yield judge_switch(place, f"{path} turns all hooks off (disableAllHooks)", path)
        for found in _in_file(place, path, settings):
            yield _as_read(place, found, path)


def _read_here(place: Place) -> list[Path]:
    """The settings files that Claude Code reads when it is started here.

    Of a version that is not known, what the newest reads: it reads more than the older ones.
    """
    version = place.version or binary.TESTED[1]
    read = claude_project.files_read(place.cwd, config_dir=place.config_dir, version=version)
    return [file.path for file in read]


def _as_read(place: Place, found: Look, file: Path) -> Look:
    """What was found in a file: a warning at most where Claude Code does not read it from here."""
    if found.ok or os.path.realpath(file) in map(os.path.realpath, _read_here(place)):
        return found
    return Look(
        None, f"where Claude Code is started in {file.parents[1]}: {found.detail}", found.remedy
    )


def _in_file(place: Place, file: Path, held: dict[str, Any]) -> Iterator[Look]:
    block = held.get("env")
    told = []
    if isinstance(block, dict) and block.get(_PREFIX):
        told.append(f"{file} sets {_PREFIX}: another program decides what becomes of a hook")
    if names := shell_variables(held):
        told.append(f"{file} sets {names}: what starts a hook's shell can end every hook")
    for said in told:
        if place.holds and _is_old(place.version):
            yield Look(
                False, f"{said}, in Claude Code {place.version} of a managed one, too",
                f"take it out of {file}, or: claude update; by hand: {BY_HAND}",
            )  # fmt: skip
        else:
            yield _judged(place, said, f"take it out of {file}, or ")


def shell_variables(held: Mapping[str, Any]) -> str:
    """The variables of a settings file's `env` that reach the shell of every hook; "" for none."""
    block = held.get("env")
    names = sorted(
        n for n in (block if isinstance(block, dict) else ())
        if n in _SHELL_READS or n.startswith(_OF_THE_SHELL)
    )  # fmt: skip
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(repr(n)[1:-1][:64] for n in names[:_MOST_NAMES]) + more


def reach_shells(file: Path) -> str:
    """Those of a file of the repository."""
    return "".join(shell_variables(held) for _, held in project.read_files([file]).parsed)


def judge_switch(place: Place, said: str, file: Path) -> Look:
    """What a `disableAllHooks` means, in a file that is not a managed one."""
    return _as_read(place, _judged(place, said, f"take it out of {file}, or "), file)


def _judged(place: Place, said: str, first: str = "") -> Look:
    if place.holds:
        return Look(True, f"{said}; plandock's managed hooks fire all the same")
    return Look(
        False,
        f"{said}: plandock cannot fire, and an accepted plan is carried out on this machine",
        f"{first}{_HOLDS}; by hand: {BY_HAND}",
    )


def mods_here(place: Place) -> list[mods.Mod]:
    """The mods that Claude Code loads when it is started here, judged by the CLI where it can."""
    found = mods.in_reach([place.cwd], place.config_dir)
    if place.program is None:
        return found
    return [mods.validated(mod, place.program) for mod in found[:20]] + found[20:]


def _mods(place: Place) -> Iterator[Look]:
    here = mods_here(place)
    known = {mod.folder for mod in here}
    for mod in here:
        said = f"{mod} runs inside Claude Code"
        if not mod.reaches:
            yield Look(True, f"{said}; it reaches for no hook")
        elif place.holds:
            yield Look(True, f"{said}; plandock's managed hooks fire all the same")
        elif _is_old(place.version):
            yield Look(None, f"{said} of later versions than {place.version}", _HOLDS)
        else:
            yield Look(
                False,
                f"{said} and can swallow plandock's hooks: an accepted plan is then carried out on "
                "this machine",
                f"look at who wrote it; {_HOLDS}; by hand: {BY_HAND}",
            )
    for top in project.folders_of(place.cwd, {})[1:]:
        for mod in mods.in_reach([top], place.config_dir):
            if mod.folder not in known and mod.reaches and not place.holds:
                known.add(mod.folder)
                said = f"{mod} runs where Claude Code is started in {top}"
                yield Look(None, said, _HOLDS)


def _missed(place: Place) -> Iterator[Look]:
    for plan in missed.known(place.cwd, place.config_dir):
        how = "" if plan.mode else ", by hand or automatically,"
        yield Look(
            False if plan.mode else None,
            f"a plan was accepted{how} at {plan.at} in conversation {plan.session}, and Claude "
            "Code did not call plandock: it may have been carried out on this machine",
            f"plandock run --session {plan.session} (in {plan.cwd}); seen to: plandock unlatch "
            f"{plan.session}",
        )


def _is_old(version: str) -> bool:
    parts = version.split(".")
    if not all(p.isascii() and p.isdecimal() and len(p) < 9 for p in parts):
        return False
    return tuple(map(int, parts)) <= _OLD


def _held(file: Path) -> dict[str, Any] | None:
    """A settings file's object, {} where there is none; None where it cannot be read."""
    try:
        return jsonfile.read_object(file) or {}
    except jsonfile.Unreadable:
        return None


def _is_truthy(value: str | None) -> bool:
    """As Claude Code reads a variable that is a switch."""
    return (value or "").strip().lower() in ("1", "true", "yes", "on")


def _is_on(value: object) -> bool:
    """As the newest CLI reads a switch: anything that is set, but false."""
    return value not in (None, False, "false")
