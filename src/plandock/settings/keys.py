"""Every setting: its name, type, default, and what a repository's own file may do with it.

The keys and defaults are the outside contract (shared/design.md, section 4).  Standard library
only: the hook imports this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from functools import cache
from typing import Any, Literal

from plandock.errors import SettingsError
from plandock.settings import kinds
from plandock.settings.kinds import Kind

# What a repository's file may do with a key unless the user's own file grants more: set it,
# lower it, or nothing.
Rule = Literal["free", "lower", "user"]

WITH_CREDITS = "subscription+credits"
"""The value of ``billing`` that lets a subscription's usage credits pay as well."""

PROCESSORS = 2.0
"""Of the box where ``cpus`` is empty; fewer where the machine has fewer."""


@dataclass(frozen=True)
class Key:
    """What is known about one setting; ``field`` is its attribute on :class:`Settings`."""

    name: str
    field: str
    kind: Kind
    rule: Rule
    about: str
    default: Any


@dataclass(frozen=True)
class Refused:
    """A value from the repository that does not count; the run goes on with the safe one."""

    key: str
    where: str
    why: str


def _key(default: Any, kind: Kind, rule: Rule, about: str, name: str = "") -> Any:
    return field(
        default=default, metadata={"kind": kind, "rule": rule, "about": about, "name": name}
    )


@dataclass(frozen=True)
class Settings:
    """The resolved settings of one run; frozen into it through :meth:`to_dict`.

    ``origins`` says for each key where its value comes from: ``default``, the path of a file,
    the name of an environment variable, or ``flag``.  ``refused`` lists what the repository
    asked for and did not get.
    """

    branch: str = _key(
        "feature/auto", kinds.BRANCH, "free",
        "branch that comes back; taken → -2; {slug} and {run} are filled in",
    )  # fmt: skip
    engine: str = _key("auto", kinds.choice("auto", "docker", "podman"), "user", "container engine")
    image: str = _key(
        "debian:bookworm-slim", kinds.IMAGE, "user", "base image that the box is built on"
    )
    runtime: str = _key(
        "", kinds.WORD, "user", "the engine's runtime, such as runsc; empty: the engine's own"
    )
    node: bool = _key(False, kinds.SWITCH, "free", "put Node.js into the image")
    npm_registry: str = _key(
        "", kinds.WEB_ADDRESS, "user",
        "where the CLI's package is taken from; empty: npm's own setting",
    )  # fmt: skip
    setup: str = _key("", kinds.SCRIPT, "free", "command run in the box before the agent")
    caches: tuple[str, ...] = _key(
        (), kinds.CACHES, "user", "folders in the box that are kept from run to run"
    )
    carry: tuple[str, ...] = _key(
        (), kinds.CARRIED, "user", "ignored files to take along into the box"
    )
    dirty: str = _key(
        "include", kinds.choice("include", "exclude", "refuse"), "free",
        "what to do with uncommitted changes",
    )  # fmt: skip
    egress: tuple[str, ...] = _key(
        (), kinds.HOSTS, "user", "hosts, or presets, that the box may reach beside Anthropic's"
    )
    max_turns: int = _key(50, kinds.whole(1, 100_000), "lower", "turns before the agent is ended")
    timeout_s: float = _key(
        14_400.0, kinds.DURATION, "lower", "time before the agent is ended", "timeout"
    )
    max_budget_usd: float | None = _key(
        None, kinds.DOLLARS, "lower",
        "what the agent may use before it is ended, at an API key's prices; empty: no limit",
    )  # fmt: skip
    silence_s: float = _key(
        300.0, kinds.DURATION, "user",
        "time without a byte from the model after which a request is given up", "silence",
    )  # fmt: skip
    background_s: float = _key(
        600.0, kinds.DURATION, "lower",
        "time that a run waits, without a word, for what is still at work in the background",
        "background",
    )  # fmt: skip
    max_parallel: int = _key(2, kinds.whole(1, 64), "user", "runs that go at the same time")
    prestage: bool = _key(True, kinds.SWITCH, "free", "make ready while the plan is being read")
    billing: str = _key(
        "subscription", kinds.choice("subscription", WITH_CREDITS, "api-key"), "user",
        f"who pays; {WITH_CREDITS}: the subscription's usage credits too, beyond its allowance",
    )  # fmt: skip
    max_credits_usd: float | None = _key(
        None, kinds.DOLLARS, "user",
        "usage credits that one run may use before it is ended, by the CLI's own count; "
        "empty: no limit",
    )  # fmt: skip
    credentials: str = _key(
        "auto", kinds.choice("auto", "token", "host", "box", "sealed"), "user",
        "which login the box gets",
    )  # fmt: skip
    memory: int = _key(4 << 30, kinds.SIZE, "lower", "memory limit of the box, in bytes")
    cpus: float | None = _key(None, kinds.CPUS, "lower", "processor limit of the box; empty: 2")
    pids: int = _key(2048, kinds.whole(64, 1_000_000), "lower", "process limit of the box")
    notify: tuple[str, ...] = _key(
        (), kinds.WORDS, "user", "program, with arguments, started here when a run ends"
    )
    on_accept: tuple[str, ...] = _key(
        ("acceptEdits", "auto", "bypassPermissions"),
        kinds.subset("acceptEdits", "auto", "bypassPermissions"), "user",
        "permission modes after acceptance that mean a hand-off",
    )  # fmt: skip
    origins: Mapping[str, str] = field(default_factory=dict)
    refused: tuple[Refused, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """As JSON, by field name; :meth:`from_dict` reads it back."""
        out: dict[str, object] = {}
        for key in all_keys().values():
            value = getattr(self, key.field)
            out[key.field] = list(value) if isinstance(value, tuple) else value
        out["origins"] = dict(self.origins)
        out["refused"] = [[r.key, r.where, r.why] for r in self.refused]
        return out

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Settings:
        """The settings that :meth:`to_dict` wrote, also by an older or newer plandock.

        Missing keys take their defaults, unknown ones are passed over.  Raises
        :class:`SettingsError` when a value is not of its key's type.
        """
        values: dict[str, Any] = {}
        for key in all_keys().values():
            if key.field in data and data[key.field] != key.default:
                values[key.field] = checked(key, data[key.field], "the run's record")
        origins, refused = data.get("origins", {}), data.get("refused", [])
        if not isinstance(origins, Mapping) or not isinstance(refused, list):
            raise SettingsError("the run's record of its settings is damaged")
        values["origins"] = {str(k): str(v) for k, v in origins.items()}
        values["refused"] = tuple(
            Refused(*map(str, row)) for row in refused if isinstance(row, list) and len(row) == 3
        )
        return cls(**values)


def checked(key: Key, value: object, where: str) -> Any:
    """``value`` as the key's type; :class:`SettingsError` names ``where`` and what is expected."""
    try:
        return key.kind.check(value)
    except ValueError as error:
        shown = f", not {kinds.excerpt(value)}" if key.kind.shown else ""
        raise SettingsError(
            f"{where}: {key.name} must be {str(error) or key.kind.expected}{shown}",
            hint="'plandock config' lists every setting",
        ) from None


@cache
def all_keys() -> dict[str, Key]:
    """Every key by name, in the order in which they are shown."""
    keys = [_described(f) for f in fields(Settings) if "kind" in f.metadata]
    return {key.name: key for key in keys}


def _described(f: Field[Any]) -> Key:
    assert f.default is not MISSING
    meta = f.metadata
    return Key(meta["name"] or f.name, f.name, meta["kind"], meta["rule"], meta["about"], f.default)
