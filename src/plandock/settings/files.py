"""Reading a settings file that anyone may have written, without crashing or hanging."""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path
from typing import Any

from plandock.errors import SettingsError

LARGEST = 256 * 1024
# tomllib walks every part of a key for every part of it: 256 KiB of `a.a.a…` would take hours.
_MOST_DOTS = 64
_MOST_LINES = 4096


def read_bounded(path: Path, *, most: int = LARGEST, follow: bool = False) -> bytes | None:
    """The bytes of a regular file of at most ``most`` bytes; ``None`` when there is none.

    Never blocks (a FIFO is refused) and, without ``follow``, takes no symbolic link.  Raises
    :class:`SettingsError` for anything but a plain, readable, small file.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    try:
        handle = os.open(path, flags)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        # O_NOFOLLOW on a link: ELOOP on Linux and macOS, EMLINK on FreeBSD.
        link = not follow and error.errno in (errno.ELOOP, errno.EMLINK)
        what = "is a symbolic link" if link else f"cannot be read: {error.strerror}"
        raise SettingsError(f"{path} {what}", hint="make it a plain file, or remove it") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise SettingsError(f"{path} is not a plain file", hint="remove it")
    with os.fdopen(handle, "rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise SettingsError(f"{path} is larger than {most >> 10} KiB", hint="make it smaller")
    return data


def read_toml(path: Path, *, follow: bool = False) -> tuple[dict[str, Any], str]:
    """The file parsed, and its text; both empty when there is no such file.

    Raises :class:`SettingsError` naming file and, where it is known, line and column.
    """
    data = read_bounded(path, follow=follow)
    if data is None:
        return {}, ""
    hint = f"mend {path.name} (TOML)"
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SettingsError(f"{path}, line {line}: not UTF-8 text", hint=hint) from None
    lines = text.split("\n")
    if len(lines) > _MOST_LINES:
        raise SettingsError(f"{path}: more than {_MOST_LINES} lines", hint="make it smaller")
    for number, line_text in enumerate(lines, 1):
        if line_text.count(".") > _MOST_DOTS:
            raise SettingsError(
                f"{path}, line {number}: more than {_MOST_DOTS} dots", hint="break the line"
            )
    import tomllib  # only when there is a file: the hook mostly finds none

    try:
        return tomllib.loads(text), text
    except RecursionError:
        raise SettingsError(f"{path}: nested too deeply", hint=hint) from None
    except ValueError as error:
        found = re.search(r"\(at (line \d+, column \d+|end of document)\)", str(error))
        place = f", {found[1]}" if found else ""
        what = re.sub(r" \(at .*", "", str(error))[:120]
        raise SettingsError(f"{path}{place}: {what}", hint=hint) from None


def line_of(text: str, key: str) -> int:
    """The line on which a top-level key or table is written, counted from 1; 0 when not found.

    tomllib keeps no positions: a line that looks right counts when what stands before it is TOML
    by itself, so that a line inside a multi-line string is passed over.
    """
    import tomllib

    name = re.escape(key)
    pattern = re.compile(rf"\s*(\[\[?\s*)?[\"']?{name}[\"']?\s*[=.\]]")
    lines = text.split("\n")
    candidates = [index for index, line in enumerate(lines) if pattern.match(line)]
    for index in candidates[:16]:  # a hostile file could hold thousands, each parsed again
        try:
            tomllib.loads("\n".join(lines[:index]))
        except (ValueError, RecursionError):
            continue
        return index + 1
    return 0
