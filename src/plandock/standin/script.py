"""What the stand-in answers, as data: scenes made of turns, and failures on demand.

Everything here is frozen, JSON-able (`to_json` / `script_from_json`) and free of any network code,
so that a demo can keep its script in a file and a test can build one in a line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

FailureKind = Literal[
    "usage_limit",  # 429 with anthropic-ratelimit-unified-* headers, status rejected
    "rate_limited",  # 429 with nothing that says until when
    "overloaded",  # 529
    "server_error",  # 500
    "unauthorized",  # 401
    "cut_stream",  # the connection drops in the middle of a tool call
    "reset",  # the connection is reset before anything is answered
    "silence",  # the request is read and not answered, at most `silent_s` seconds
    "malformed",  # an event stream whose data is not JSON
    "slow",  # the right answer, `delay_s` before every chunk
    "credits",  # the right answer, paid with usage credits: the allowance is used up
    "credits_required",  # 429: the model is for usage credits alone, and there are none
    "limits",  # the right answer, with `limits` in its headers
]


class ScriptError(ValueError):
    """A script, or a failure that was asked for, does not have the shape it must have.

    Not one of `plandock.errors`: the stand-in stands alone and imports nothing of plandock.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        """Say in one line what is wrong, and in `hint` what would be right."""
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True)
class Failure:
    """One way to fail, and when.

    `times` is how many requests it meets before it is used up (None: every one).
    `if_token` limits it to requests that carry exactly that bearer token (or API key).
    `scene` and `step` limit an injected failure to one place of the script; `side` lets it meet
    requests without tools too. `until_reset` makes a usage limit last until the moment it named
    the first time it was met, whatever `times` says. `limits` are headers of the answer, without
    `anthropic-ratelimit-unified-` in front, over those that it has by itself ("": without that
    one). Durations are seconds.
    """

    kind: FailureKind
    times: int | None = 1
    if_token: str | None = None
    scene: str | None = None
    step: int | None = None
    side: bool = False
    reset_in_s: float = 3600.0
    until_reset: bool = False
    limit_type: str = "five_hour"
    silent_s: float = 60.0
    delay_s: float = 0.05
    limits: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        """Refuse an unknown kind early: otherwise it would pass for a well-behaved answer."""
        if self.kind not in get_args(FailureKind):
            raise ScriptError(
                f"unknown failure {self.kind!r}",
                hint="one of " + ", ".join(get_args(FailureKind)),
            )


@dataclass(frozen=True)
class ToolCall:
    """A tool call. Strings in `input` may hold `{cwd}` and `{plan_file}`.

    `if_in_schema` holds inputs that are sent only when the request's own definition of the tool
    has a property of that name.
    """

    name: str
    input: Mapping[str, Any]
    if_in_schema: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Turn:
    """One answer of the model: text, tool calls, or both; or a failure in front of them.

    `unless_offered` skips the turn while the request offers a tool of that name, and
    `if_offered` skips it while the request does not. `needs_ok` names a tool whose latest result
    must not be an error; where it is one (a plan that was turned down), `otherwise` is said
    instead and no tool is called.
    """

    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    failure: Failure | None = None
    unless_offered: str = ""
    if_offered: str = ""
    needs_ok: str = ""
    otherwise: str = "Understood."


@dataclass(frozen=True)
class Scene:
    """A named list of turns. `match` is a regular expression that some user text must contain.

    An empty `match` never selects the scene: it can only be the script's default.
    """

    name: str
    turns: tuple[Turn, ...]
    match: str = ""

    def __post_init__(self) -> None:
        """Refuse a pattern that does not compile where it was written, not at a request."""
        try:
            re.compile(self.match)
        except re.error as error:
            raise ScriptError(f"scene {self.name!r}: bad pattern: {error}") from error


@dataclass(frozen=True)
class Script:
    """All scenes, in order of precedence within one user text; `default` (a name) when none match.

    An empty `default` means the last scene. `closing` is said past a scene's last turn, `side`
    in answer to requests without tools (the title of a conversation and the like).
    """

    scenes: tuple[Scene, ...]
    default: str = ""
    closing: str = "There is nothing more to do."
    side: str = "Stand-in conversation"

    def __post_init__(self) -> None:
        """Refuse a script that could not answer."""
        names = [scene.name for scene in self.scenes]
        if not names:
            raise ScriptError("a script needs at least one scene")
        if len(set(names)) != len(names):
            raise ScriptError("two scenes have the same name")
        if self.default and self.default not in names:
            raise ScriptError(f"the default scene {self.default!r} does not exist")

    @property
    def default_scene(self) -> Scene:
        """The scene for a conversation in which no user text matches."""
        return self.scene(self.default) if self.default else self.scenes[-1]

    def scene(self, name: str) -> Scene:
        """Return the scene of that name; raises ScriptError where there is none."""
        for scene in self.scenes:
            if scene.name == name:
                return scene
        raise ScriptError(f"no scene {name!r}")


def to_json(value: object) -> Any:
    """Turn a script or any part of one into JSON values, leaving out what is at its default."""
    if isinstance(value, Script | Scene | Turn | ToolCall | Failure):
        out: dict[str, Any] = {}
        for field in fields(value):
            item = getattr(value, field.name)
            if item != field.default:
                out[field.name] = to_json(item)
        return out
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return value


def script_from_json(data: object) -> Script:
    """Read a script from JSON values; raises ScriptError, naming the place, on a wrong shape."""
    found = _members(data, Script, "script")
    scenes = tuple(
        _scene(item, f"scenes[{index}]")
        for index, item in enumerate(_sequence(found.pop("scenes", ()), "scenes"))
    )
    return Script(scenes, **found)


def failure_from_json(data: object) -> Failure:
    """Read one failure: a kind alone (`"overloaded"`) or an object with Failure's fields."""
    if isinstance(data, str):
        data = {"kind": data}
    found = _members(data, Failure, "failure")
    if "kind" not in found:
        raise ScriptError("a failure needs a kind")
    return Failure(**found)


def load_script(path: Path) -> Script:
    """Read a script file (UTF-8 JSON); raises ScriptError when it is unreadable or misshapen."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ScriptError(f"cannot read the script {path}: {error}") from error
    return script_from_json(data)


def _scene(data: object, place: str) -> Scene:
    found = _members(data, Scene, place)
    turns = tuple(
        _turn(item, f"{place}.turns[{index}]")
        for index, item in enumerate(_sequence(found.pop("turns", ()), place))
    )
    if "name" not in found:
        raise ScriptError(f"{place} needs a name")
    return Scene(turns=turns, **found)


def _turn(data: object, place: str) -> Turn:
    found = _members(data, Turn, place)
    if "calls" in found:
        found["calls"] = tuple(_call(item, place) for item in _sequence(found["calls"], place))
    if found.get("failure") is not None:
        found["failure"] = failure_from_json(found["failure"])
    return Turn(**found)


def _call(data: object, place: str) -> ToolCall:
    found = _members(data, ToolCall, place)
    if "name" not in found:
        raise ScriptError(f"{place}: a tool call needs a name")
    return ToolCall(**{"input": {}, **found})


#: Fields whose JSON type is not a string, so that a misspelt value fails when it is read.
_TYPES: dict[str, tuple[type, ...]] = {
    "input": (dict,),
    "if_in_schema": (dict, type(None)),
    "scenes": (list,),
    "turns": (list,),
    "calls": (list,),
    "failure": (dict, str, type(None)),
    "times": (int, type(None)),
    "if_token": (str, type(None)),
    "scene": (str, type(None)),
    "step": (int, type(None)),
    "side": (str,),
    "reset_in_s": (int, float),
    "until_reset": (bool,),
    "silent_s": (int, float),
    "delay_s": (int, float),
    "limits": (dict, type(None)),
}


def _members(data: object, cls: type, place: str) -> dict[str, Any]:
    """Check one object's keys against a dataclass: a key nobody reads would hide a mistake."""
    if not isinstance(data, dict):
        raise ScriptError(f"{place} must be an object")
    known = {field.name for field in fields(cls)}
    for key, value in data.items():
        if key not in known:
            raise ScriptError(f"{place}: unknown key {key!r}", hint=f"one of {sorted(known)}")
        types = _TYPES.get(key, (str,))
        if key == "side" and cls is Failure:
            types = (bool,)
        if not isinstance(value, types):
            raise ScriptError(f"{place}.{key} has the wrong type")
    return dict(data)


def _sequence(data: object, place: str) -> Sequence[object]:
    if not isinstance(data, list | tuple):
        raise ScriptError(f"{place} must be a list")
    return data
