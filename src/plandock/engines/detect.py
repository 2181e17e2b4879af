"""Which container engine to use."""

from __future__ import annotations

import shutil
from functools import lru_cache

from plandock.engines.command_line import CommandLineEngine
from plandock.engines.dialect import EngineName
from plandock.engines.protocol import Engine, EngineDown, OtherEngine
from plandock.errors import EngineError, UsageError

NAMES: tuple[EngineName, ...] = ("docker", "podman")
_INSTALL = "install Docker or Podman (docker.io or podman in Debian's packages), and start it"


def choose(name: str = "auto") -> Engine:
    """The engine called ``name``; for ``auto`` docker if it answers, else podman.

    Raises :class:`EngineError` (exit code 20) that says for each engine why it cannot be used,
    and :class:`UsageError` for a name that is none.  One that answered is asked no second time
    in this process, and keeps what it said of itself.
    """
    if name not in ("auto", *NAMES):
        raise UsageError(f"there is no engine {name}", hint="use auto, docker or podman")
    reasons: list[str] = []
    hints: list[str] = []
    for candidate in NAMES:
        if name in ("auto", candidate):
            try:
                return _usable(candidate)
            except EngineError as error:
                reasons.append(error.message)
                hints.append(error.hint)
    found = [hint for hint in hints if hint and hint != _INSTALL]
    raise EngineDown(
        f"no container engine can be used: {'; '.join(reasons)}",
        hint=found[0] if found else _INSTALL,
    )


@lru_cache
def _usable(name: EngineName) -> CommandLineEngine:
    """The engine, after it has answered; a failure is raised, and so not remembered."""
    if shutil.which(name) is None:
        raise EngineDown(f"{name} is not installed", hint=_INSTALL)
    engine = CommandLineEngine(name)
    try:
        engine.ping()
    except OtherEngine:
        raise
    except EngineError as error:
        if "permission denied" in error.message.lower():
            raise EngineDown(
                f"{name} is there, but this user may not use it",
                hint="add yourself to the group docker and log in again, or use rootless Docker",
            ) from error
        raise EngineDown(
            f"{name} is installed but does not answer ({error.message})",
            hint=f"start {name} and see that `{name} info` answers",
        ) from error
    return engine
