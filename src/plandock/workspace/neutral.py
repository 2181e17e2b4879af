"""What a repository's configuration would run, found and switched off for our own calls.

:data:`plandock.git.SAFE_OPTIONS` covers what has a fixed name (hooks, monitor, pager).
Content filters have names of the user's choosing, which may hold ``=`` and so cannot be given as
``-c name=value``; ``GIT_CONFIG_COUNT`` (git 2.31) takes any name and outranks every file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from plandock import git
from plandock.errors import RepositoryError

_PROBE = "plandock.probe"
_FIXED: tuple[tuple[str, str], ...] = (
    # A split index would put a new shared half beside the user's own.
    ("core.splitIndex", "false"),
    # CRLF that does not survive a round trip: `git add` may warn or die, a snapshot takes it.
    ("core.safecrlf", "false"),
    # Our refs get no reflog, even with `core.logAllRefUpdates=always`.
    ("core.logAllRefUpdates", "false"),
    ("i18n.commitEncoding", "UTF-8"),
    ("merge.verifySignatures", "false"),
    ("gpg.program", "false"),
)


@dataclass(frozen=True)
class Neutral:
    """The environment for git calls that must run no content filter, and what was found.

    ``drivers`` are the names of filters that would change content on its way in.
    ``settings`` holds the effective value of every key, section and variable in lower case.
    """

    env: Mapping[str, str]
    drivers: frozenset[str]
    settings: Mapping[str, str]

    def truth(self, key: str) -> bool:
        """Whether a boolean setting is on (git-config(1): yes, on, true, 1 or no value)."""
        return _truth(self.settings.get(key, "false"))


def neutralise(repo: str | os.PathLike[str]) -> Neutral:
    """Read the effective configuration and build the environment that switches filters off.

    Raises :class:`RepositoryError` for a partial clone (any call could go and fetch what is
    missing, with the user's credentials) and for a git older than 2.31.
    """
    listed = git.git(repo, "config", "--list", "-z", env=_environment(((_PROBE, "yes"),)))
    settings: dict[str, str] = {}
    filters: dict[str, set[str]] = {}
    for entry in listed.stdout.decode("utf-8", "surrogateescape").split("\0"):
        key, newline, value = entry.partition("\n")
        if not key:
            continue
        settings[key] = value if newline else "true"
        if key.startswith("filter.") and key.count(".") > 1:
            filters.setdefault(key[7:].rpartition(".")[0], set())
    if settings.get(_PROBE) != "yes":
        raise RepositoryError("git is too old", hint="install git 2.31 or newer")
    _refuse_partial_clone(settings)
    overrides = list(_FIXED)
    for name in filters:
        # An empty command is no conversion; without `required` that is no error either.
        overrides += [(f"filter.{name}.{x}", "") for x in ("clean", "smudge", "process")]
        overrides.append((f"filter.{name}.required", "false"))
    # `false` makes a conflict; an empty command would make the merge keep one side in silence.
    overrides += [
        (key, "false") for key in settings if re.fullmatch(r"merge\..+\.driver", key, re.S)
    ]
    overrides += [
        (key, "") for key in settings if re.fullmatch(r"branch\..+\.mergeoptions", key, re.S)
    ]
    drivers = {
        name
        for name in filters
        if settings.get(f"filter.{name}.clean") or settings.get(f"filter.{name}.process")
    }
    return Neutral(_environment(overrides), frozenset(drivers), settings)


def _environment(pairs: tuple[tuple[str, str], ...] | list[tuple[str, str]]) -> dict[str, str]:
    env = {"GIT_CONFIG_COUNT": str(len(pairs)), "GIT_NO_REPLACE_OBJECTS": "1"}
    for number, (key, value) in enumerate(pairs):
        env[f"GIT_CONFIG_KEY_{number}"] = key
        env[f"GIT_CONFIG_VALUE_{number}"] = value
    return env


def _truth(value: str) -> bool:
    text = value.strip().lower()
    return text in {"true", "yes", "on"} or (text.lstrip("+-").isdigit() and int(text) != 0)


def _refuse_partial_clone(settings: Mapping[str, str]) -> None:
    for key, value in settings.items():
        promisor = key.startswith("remote.") and key.endswith(".promisor") and _truth(value)
        if promisor or key == "extensions.partialclone":
            raise RepositoryError(
                "the repository is a partial clone: some of its objects are only at the remote",
                hint="hand off from a full clone (git clone without --filter)",
            )
