"""Putting the layers together: defaults, the repository's file, the user's, variables, flags.

Later wins.  What the repository says counts only as far as each key's rule goes, or as far as
the user's own file grants it: ``[repository."/path/to/it"] allow = ["egress"]``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plandock import paths
from plandock.errors import SettingsError
from plandock.settings.environment import from_repository, misspelt, variable
from plandock.settings.files import line_of, read_toml
from plandock.settings.keys import PROCESSORS, Key, Refused, Settings, all_keys, checked

REPOSITORY_FILE = ".plandock.toml"


@dataclass
class _Layer:
    """Typed values by key, and where each was written."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)

    def put(self, key: str, value: Any, origin: str, place: str = "") -> None:
        self.values[key] = value
        self.origins[key] = origin
        self.places[key] = place or origin

    def lay_over(self, other: _Layer) -> None:
        self.values.update(other.values)
        self.origins.update(other.origins)
        self.places.update(other.places)


def load(
    *,
    repo: Path | None,
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """The settings for a run in ``repo`` (its top folder; ``None``: no repository).

    ``flags`` are the command line's, by key; ``None`` and an empty tuple mean "not given", text
    is read as from the environment (``None``: the process's own).  Raises
    :class:`SettingsError` naming file and line for an unknown key or a wrong value; what the
    repository may not say is no error and stands in ``Settings.refused``.
    """
    env = os.environ if environ is None else environ
    user_file = paths.config_dir() / "config.toml"
    table, text = read_toml(user_file, follow=True)
    granted = _granted(table.pop("repository", {}), repo, user_file)
    own = _from_table(table, text, user_file)

    repository = _Layer()
    theirs = from_repository(env, repo)
    if repo is not None:
        path = repo / REPOSITORY_FILE
        repository = _from_table(*read_toml(path), path)
    repository.lay_over(_from_environment({n: env[n] for n in theirs}, theirs))
    ours = {n: v for n, v in env.items() if n not in theirs}
    if wrong := misspelt(ours, map(variable, all_keys())):
        raise SettingsError(f"the variable {wrong[0]} is no setting", hint=f"it is {wrong[1]}")
    own.lay_over(_from_environment(ours, {}))
    own.lay_over(_from_flags(flags or {}))

    result = _Layer()
    for key in all_keys().values():
        result.put(key.name, key.default, "default")
    refused = _admit(repository, into=result, below=own, granted=granted)
    result.lay_over(own)
    fields = {all_keys()[name].field: value for name, value in result.values.items()}
    return Settings(**fields, origins=result.origins, refused=tuple(refused))


def _admit(
    repository: _Layer, *, into: _Layer, below: _Layer, granted: frozenset[str]
) -> list[Refused]:
    """Lay what the repository may say ``into`` the defaults; returns what it may not."""
    refused = []
    for name, value in repository.values.items():
        key = all_keys()[name]
        without = below.values.get(name, key.default)
        why = "" if name in granted else _objection(key, value, without)
        if why and value != without:
            refused.append(Refused(name, repository.places.get(name, ""), why))
        elif not why:
            into.put(name, value, repository.origins[name])
    return refused


def _objection(key: Key, value: Any, without: Any) -> str:
    if key.rule == "user":
        return "counts only from your own settings"
    bound = PROCESSORS if key.name == "cpus" and without is None else without
    if key.rule == "lower" and bound is not None and value > bound:
        return "a repository may only lower it"
    return ""


def _granted(tables: object, repo: Path | None, file: Path) -> frozenset[str]:
    """The keys that the user's file lets this very repository set."""
    if not isinstance(tables, dict):
        raise SettingsError(f'{file}: write [repository."/path"] with allow = ["KEY"]')
    granted: frozenset[str] = frozenset()
    for path, table in tables.items():
        where = f"{file}, [repository.{path[:200]!r}]"
        if not isinstance(table, dict) or set(table) - {"allow"}:
            raise SettingsError(f"{where}: only allow = [KEYS] may stand here")
        allowed = table.get("allow", [])
        if not isinstance(allowed, list) or not all(isinstance(k, str) for k in allowed):
            raise SettingsError(f"{where}: allow must be a list of keys")
        folder = os.path.expanduser(path)
        if not os.path.isabs(folder):
            raise SettingsError(f"{where}: the path must be absolute")
        for name in allowed:
            if name not in all_keys():
                raise _unknown(name, where)
        if repo is not None and os.path.realpath(folder) == os.path.realpath(repo):
            granted |= frozenset(allowed)
    return granted


def _from_table(table: Mapping[str, object], text: str, path: Path) -> _Layer:
    layer = _Layer()
    for name, value in table.items():
        line = line_of(text, name) if name not in all_keys() else 0
        if name not in all_keys():
            raise _unknown(name, f"{path}, line {line}" if line else str(path))
        key = all_keys()[name]
        try:
            layer.put(name, checked(key, value, str(path)), str(path))
        except SettingsError:
            line = line_of(text, name)
            checked(key, value, f"{path}, line {line}" if line else str(path))
            raise
    return layer


def _from_environment(environ: Mapping[str, str], files: Mapping[str, Path]) -> _Layer:
    """Settings among the variables; others, and empty ones, are passed over."""
    layer = _Layer()
    for name, key in all_keys().items():
        text = environ.get(variable(name), "")
        if text:
            place = f"{files[variable(name)]} (env)" if variable(name) in files else ""
            value = _from_text(key, text, place or variable(name))
            layer.put(name, value, place or variable(name))
    return layer


def _from_flags(flags: Mapping[str, object]) -> _Layer:
    layer = _Layer()
    for name, value in flags.items():
        if name not in all_keys():
            raise _unknown(name, "flag")
        if value is None or value == ():
            continue
        key = all_keys()[name]
        where = "--" + name.replace("_", "-")
        if isinstance(value, str):
            layer.put(name, _from_text(key, value, where), "flag")
        else:
            layer.put(name, checked(key, value, where), "flag")
    return layer


def _from_text(key: Key, text: str, where: str) -> Any:
    try:
        value = key.kind.parse(text)
    except (ValueError, RecursionError):
        value = text
    return checked(key, value, where)


def _unknown(name: str, where: str) -> SettingsError:
    import difflib

    near = difflib.get_close_matches(name[:64].replace("-", "_"), all_keys(), 1, 0.5)
    hint = f"did you mean {near[0]}?" if near else "'plandock config' lists every setting"
    return SettingsError(f"{where}: unknown setting {name[:64]!r}", hint=hint)
