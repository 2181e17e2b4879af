"""The types that settings have: how a written value is checked, and how plain text is read.

A value comes from TOML (typed) or from the environment and flags (text); ``parse`` turns text
into what TOML would hold, ``check`` turns that into the value that is used.  Both raise
``ValueError``, whose message may narrow down what was expected.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from plandock.settings import hosts

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True)
class Kind:
    """A type of setting; ``shown`` is false where the value could hold a secret."""

    expected: str
    check: Callable[[object], Any]
    parse: Callable[[str], object] = str
    shown: bool = True


def excerpt(value: object) -> str:
    """The value for an error message: escaped, and short whatever it is."""
    text = repr(value[:60] if isinstance(value, str) else value)
    return text if len(text) <= 64 else text[:60] + "…"


def _text(value: object, longest: int = 1024) -> str:
    if not isinstance(value, str) or len(value) > longest or _CONTROL.search(value):
        raise ValueError
    return value


def _matching(pattern: str, expected: str, *, shown: bool = True, empty: bool = False) -> Kind:
    compiled = re.compile(pattern)

    def check(value: object) -> str:
        text = _text(value)
        if not (empty and not text) and not compiled.fullmatch(text):
            raise ValueError
        return text

    return Kind(expected, check, shown=shown)


def choice(*options: str) -> Kind:
    """One of the given words."""

    def check(value: object) -> str:
        if not isinstance(value, str) or value not in options:
            raise ValueError
        return value

    return Kind("one of " + ", ".join(options), check)


def whole(low: int, high: int) -> Kind:
    """A whole number within both bounds."""

    def check(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError
        return value

    return Kind(f"a whole number from {low} to {high}", check, int)


def _list_from_text(text: str) -> object:
    """A JSON array, or words with commas between them."""
    if text.lstrip().startswith("["):
        import json  # only here: the hook's ordinary path reads no list from the environment

        return json.loads(text)
    return [word.strip() for word in text.split(",") if word.strip()]


def _list_of(item: Callable[[str], bool], expected: str) -> Kind:
    def check(value: object) -> tuple[str, ...]:
        if not isinstance(value, (list, tuple)) or len(value) > 256:
            raise ValueError
        for one in value:
            if not item(_text(one)):
                raise ValueError(f"{expected}; {excerpt(one)} is none")
        return tuple(dict.fromkeys(value)) if item is not _any_word else tuple(value)

    return Kind(expected, check, _list_from_text)


def subset(*options: str) -> Kind:
    """A list of some of the given words."""
    return _list_of(lambda word: word in options, "a list of some of " + ", ".join(options))


def _any_word(word: str) -> bool:
    return "\n" not in word


def _switch(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _switch_from_text(text: str) -> object:
    try:
        return {"1": True, "true": True, "yes": True, "on": True,
                "0": False, "false": False, "no": False, "off": False}[text.lower()]  # fmt: skip
    except KeyError:
        raise ValueError from None


_UNIT_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_UNIT_BYTES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def _duration(value: object) -> float:
    if isinstance(value, str):
        parts = re.findall(r"(\d{1,9}(?:\.\d{1,6})?)([smhd])", value)
        if not parts or "".join(n + u for n, u in parts) != value.replace(" ", ""):
            raise ValueError
        seconds = sum(float(n) * _UNIT_S[u] for n, u in parts)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value)
    else:
        raise ValueError
    if not 1.0 <= seconds <= 30 * 86400.0:
        raise ValueError
    return seconds


def _number_or_text(text: str) -> object:
    try:
        return float(text)
    except ValueError:
        return text


def _size(value: object) -> int:
    if isinstance(value, str):
        found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,3})?) ?([kmgt]?)(?:i?b)?", value.lower())
        if not found:
            raise ValueError
        value = int(float(found[1]) * _UNIT_BYTES[found[2]])
    if not isinstance(value, int) or isinstance(value, bool) or not 64 << 20 <= value <= 1 << 50:
        raise ValueError
    return value


def _cpus(value: object) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise ValueError
    if not 0.01 <= value <= 4096:
        raise ValueError
    return float(value)


def _dollars(value: object) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise ValueError
    if not 0.01 <= value <= 1_000_000:
        raise ValueError
    return float(value)


def _branch(value: object) -> str:
    # git-check-ref-format(1), and no leading dash; the placeholders stand for safe words.
    text = _text(value, 200)
    plain = text.replace("{slug}", "s").replace("{run}", "r")
    if not plain or re.search(r"[\s~^:?*\[\\{}\x7f]|\.\.|//|@|(^|/)[.-]|\.lock(/|$)", plain):
        raise ValueError
    if plain[0] == "/" or plain[-1] in "/." or plain.startswith("refs/") or plain == "HEAD":
        raise ValueError
    return text


def _script(value: object) -> str:
    if not isinstance(value, str) or len(value) > 65_536 or "\0" in value:
        raise ValueError
    return value


_PRESET = re.compile(r"[a-z][a-z0-9_-]{0,31}")


def _hosts(value: object) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or len(value) > 256:
        raise ValueError
    for one in value:
        if why := hosts.complaint(_text(one)):
            raise ValueError(f"{_HOSTS}; {excerpt(one)} is none ({why})")
    return tuple(dict.fromkeys(one.lower() for one in value))


def _inside(text: str) -> bool:
    """A relative path, or pattern, that stays in the tree and out of ``.git``."""
    parts = text.split("/")
    return (
        bool(text)
        and text[0] not in "/-~!"
        and "\n" not in text
        and not any(part == ".." or part.lower() == ".git" for part in parts)
    )


def _cache(text: str) -> bool:
    """A preset's name, or an absolute folder in the box that a mount can name."""
    if _PRESET.fullmatch(text):
        return True
    return bool(re.fullmatch(r"(/[A-Za-z0-9_@%+=.-]+)+", text)) and ".." not in text.split("/")


BRANCH = Kind("a branch name; {slug} and {run} may stand in it", _branch)
IMAGE = _matching(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}", "an image's name")
WORD = _matching(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "one word", empty=True)
WEB_ADDRESS = _matching(
    r"https?://[A-Za-z0-9._\[\]:-]+(/[^\s@?#]*)?",
    "an http(s) address without a login in it",
    shown=False,
    empty=True,
)
SWITCH = Kind("true or false", _switch, _switch_from_text)
SCRIPT = Kind("a shell command, up to 64 KiB", _script)
_HOSTS = "a list of host names or presets (no addresses, no ports)"
HOSTS = Kind(_HOSTS, _hosts, _list_from_text)
CARRIED = _list_of(_inside, "a list of paths inside the repository")
CACHES = _list_of(_cache, "a list of presets or absolute folders in the box")
WORDS = _list_of(_any_word, "a list: a program and its arguments")
DURATION = Kind('a time from 1s to 30d, such as "90m" or "4h"', _duration, _number_or_text)
SIZE = Kind('a size from 64m up, such as "4g"', _size)
CPUS = Kind("a number of processors, such as 2 or 1.5", _cpus, float)
DOLLARS = Kind("an amount in US dollars from 0.01 up, such as 5", _dollars, float)
