"""Editing JSON as text: what is not touched keeps every byte.

Two operations on a container (an object or an array), each the other's inverse: :func:`added`
puts a member behind the last one, :func:`removed` takes one out.  Both keep to the style around
them: line ends, indentation, one line or many.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, NoReturn

from plandock.errors import SettingsError

_SPACE = re.compile(r"[ \t\r\n]*")


@dataclass(frozen=True)
class Part:
    """A member of an object (``key`` set) or an element of an array; offsets into the text."""

    key: str | None
    start: int
    value_start: int
    end: int


@dataclass(frozen=True)
class Container:
    """An object or array: ``start`` is its opening bracket, ``end`` just behind the closing one."""

    start: int
    end: int
    parts: tuple[Part, ...]

    def named(self, key: str) -> Part | None:
        """The member of that name."""
        return next((part for part in self.parts if part.key == key), None)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def place(text: str, offset: int) -> str:
    """Where an offset is, for an error message; lines and columns count from 1."""
    line = text.count("\n", 0, offset) + 1
    return f"line {line}, column {offset - text.rfind(chr(10), 0, offset)}"


def parse(text: str) -> Any:
    """The value of a whole document (a byte order mark may stand in front).

    Raises :class:`SettingsError` naming line and column; comments and trailing commas are errors.
    """
    body = start_of(text)
    try:
        value, end = _DECODER.raw_decode(text, body)
        end = _skip(text, end)
        if end != len(text):
            raise json.JSONDecodeError("something stands behind the end", text, end)
    except json.JSONDecodeError as error:
        raise SettingsError(
            f"{place(text, error.pos)}: not JSON: {error.msg}",
            hint="mend the file first (no comments, no trailing commas); nothing was changed",
        ) from None
    except (ValueError, RecursionError) as error:
        what = "nested too deeply" if isinstance(error, RecursionError) else str(error)[:80]
        raise SettingsError(f"not JSON: {what}", hint="nothing was changed") from None
    return value


def start_of(text: str) -> int:
    """The offset of a document's value."""
    return _skip(text, 1 if text.startswith("\ufeff") else 0)


def container(text: str, start: int) -> Container:
    """The object or array that opens at ``start``, in a text that :func:`parse` took."""
    is_object = text[start] == "{"
    at = _skip(text, start + 1)
    parts: list[Part] = []
    while text[at] not in "]}":
        first, key = at, None
        if is_object:
            key, at = _DECODER.raw_decode(text, at)
            at = _skip(text, _skip(text, at) + 1)  # over the colon
        _, end = _DECODER.raw_decode(text, at)
        parts.append(Part(key, first, at, end))
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return Container(start, at + 1, tuple(parts))


def added(text: str, box: Container, key: str | None, value: object) -> str:
    """The text with one more member, or element, behind the last one of ``box``."""
    style = Style.of(text)
    lead = _lead(text, box, style)
    if lead is None:
        new = json.dumps(value, separators=style.separators, ensure_ascii=False)
    else:
        between = (",", style.separators[1])
        new = json.dumps(value, indent=style.unit, separators=between, ensure_ascii=False)
        new = new.replace("\n", style.newline + lead)
    if key is not None:
        new = json.dumps(key) + style.separators[1] + new
    if box.parts:
        gap = style.separators[0][1:] if lead is None else style.newline + lead
        at = box.parts[-1].end
        return text[:at] + "," + gap + new + text[at:]
    at = box.start + 1
    if lead is not None:
        new = style.newline + lead + new
        if at == box.end - 1:  # `{}`: the closing bracket goes to a line of its own
            new += style.newline + _indentation(text, box.start)
    return text[:at] + new + text[at:]


def removed(text: str, box: Container, index: int, *, keep_space: bool = False) -> str:
    """The text without one part.  The last one leaves ``{}`` or ``[]``, or with ``keep_space``
    the white space that stands behind it."""
    part = box.parts[index]
    if len(box.parts) == 1:
        end = part.end if keep_space else box.end - 1
        return text[: box.start + 1] + text[end:]
    if index:
        return text[: box.parts[index - 1].end] + text[part.end :]
    return text[: part.start] + text[box.parts[1].start :]


@dataclass(frozen=True)
class Style:
    """How a document is written; ``unit`` is one level's indentation (None: all on one line)."""

    newline: str
    unit: str | None
    separators: tuple[str, str]

    @classmethod
    def of(cls, text: str) -> Style:
        """The style of a document, seen on its outermost object."""
        newline = "\r\n" if "\r\n" in text else "\n"
        root = container(text, start_of(text))
        unit: str | None = "  "
        separators = (", ", ": ")
        if root.parts:
            first = root.parts[0]
            unit = _line_lead(text, root.start, first)
            if text[first.value_start - 1] == ":":
                separators = (",", ":")
        return cls(newline, unit, separators)


def _lead(text: str, box: Container, style: Style) -> str | None:
    """The white space before a new part's line in ``box``; None when it is written on one line."""
    if style.unit is None:
        return None
    if box.parts:
        return _line_lead(text, box.start, box.parts[0])
    return _indentation(text, box.start) + style.unit


def _line_lead(text: str, opening: int, first: Part) -> str | None:
    between = text[opening + 1 : first.start]
    return between[between.rfind("\n") + 1 :] if "\n" in between else None


def _indentation(text: str, offset: int) -> str:
    """The white space at the beginning of the line that ``offset`` is on."""
    line = text[text.rfind("\n", 0, offset) + 1 : offset].lstrip("\ufeff")
    return line[: len(line) - len(line.lstrip(" \t\r"))]


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at
