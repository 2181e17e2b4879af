"""Small JSON files that somebody else wrote, read so that none of them can hurt.

A path may name a FIFO, a device, a loop of links or a gigabyte; a document may be nested a
hundred thousand deep.  All of that is one error, :class:`Unreadable`, with the reason in words.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LIMIT_BYTES = 4 * 1024 * 1024

_WORDS = {
    errno.ELOOP: "is a loop of symbolic links",
    errno.EACCES: "may not be read by you",
    errno.EPERM: "may not be read by you",
    errno.ENAMETOOLONG: "has a name that is too long",
    errno.EISDIR: "is a folder",
}


class Unreadable(Exception):
    """The file is there and its contents cannot be had; the text is a predicate ("is …")."""


@dataclass(frozen=True)
class Opened:
    """A file's bytes and what was true of it when it was opened."""

    data: bytes
    mode: int
    owner: int
    written_at: float  # Unix seconds


def read_bytes(path: Path, *, limit: int = LIMIT_BYTES) -> Opened | None:
    """The contents of a regular file of at most ``limit`` bytes; None where there is none.

    Links are followed (people keep their settings elsewhere and link them).  Raises
    :class:`Unreadable`.
    """
    try:
        # Without O_NONBLOCK, opening a FIFO would wait for a writer.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Unreadable(_words(error)) from None
    except ValueError:
        raise Unreadable("has a name that no file can have") from None
    try:
        found = os.fstat(handle)
        # Before fdopen, which refuses a folder's descriptor and leaves it open.
        if not stat.S_ISREG(found.st_mode):
            raise Unreadable("is not a regular file")
        with os.fdopen(handle, "rb", closefd=False) as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise Unreadable(_words(error)) from None
    finally:
        os.close(handle)
    if len(data) > limit:
        raise Unreadable(f"is larger than {limit} bytes")
    return Opened(data, stat.S_IMODE(found.st_mode), found.st_uid, found.st_mtime)


def parse_object(data: bytes | str) -> dict[str, Any]:
    """The JSON object in ``data``; raises :class:`Unreadable` for anything else.

    The message names no character of the document: it may be a secret.
    """
    try:
        text = data if isinstance(data, str) else data.decode("utf-8-sig")
        value = json.loads(text)
    except UnicodeDecodeError:
        raise Unreadable("is not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise Unreadable(f"is not JSON (line {error.lineno})") from None
    except ValueError:
        raise Unreadable("is not JSON") from None
    except RecursionError:
        raise Unreadable("is nested too deep") from None
    if not isinstance(value, dict):
        raise Unreadable("holds no JSON object")
    return value


def read_object(path: Path, *, limit: int = LIMIT_BYTES) -> dict[str, Any] | None:
    """The JSON object in a file, None where there is no file; raises :class:`Unreadable`."""
    opened = read_bytes(path, limit=limit)
    return None if opened is None else parse_object(opened.data)


def write_private(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path`` in one step, readable by its owner alone; raises ``OSError``."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    # O_EXCL with a mode: it is never readable by others, not even for a moment.
    temporary.unlink(missing_ok=True)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(handle)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _words(error: OSError) -> str:
    known = _WORDS.get(error.errno or 0)
    return known or f"cannot be read ({error.strerror or 'unknown error'})"
