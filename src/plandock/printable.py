"""Text from a box, a model or a commit, made safe to show on a terminal.

Standard library only.  Commit messages and file names may hold anything: escape sequences that
rewrite the screen, set the title or answer as if typed, and direction marks that make a line
read differently from what it is.  Objects keep them; what is shown does not.
"""

from __future__ import annotations

import re

# ECMA-48: CSI … final byte; OSC/DCS/SOS/PM/APC strings up to BEL or ST; then any two-byte escape.
# The same introducers exist as single C1 characters.  Of a string without an end only the
# introducer goes: it must not take with it what follows, which a reader is to see.
_SEQUENCES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])(?:[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c))?"
    r"|\x1b[ -/]*[0-~]?"
)
# C0 but tab and newline, DEL, C1; direction marks, embeddings, overrides and isolates; invisible
# fillers, the byte order mark, tag characters.  The joiners U+200C/U+200D stay: words and emoji
# need them.
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064"
    "\u2066-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_BREAKS = re.compile("\r\n|\u2028|\u2029")
_SURROGATES = re.compile("[\ud800-\udfff]")
_SPACES = re.compile(r"\s+")


def printable(text: str) -> str:
    """``text`` without escape sequences, control characters and direction marks.

    Tabs and newlines stay.  Bytes that were not UTF-8 (kept as surrogates) are spelled ``\\xNN``,
    so that the result can always be encoded.
    """
    text = _BREAKS.sub("\n", text)
    text = _CONTROLS.sub("", _SEQUENCES.sub("", text))
    return _SURROGATES.sub(_spelled, text)


def one_line(text: str, *, limit: int = 500) -> str:
    """:func:`printable`, every run of white space one space, at most ``limit`` characters."""
    flat = _SPACES.sub(" ", printable(text)).strip()
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def spelled(text: str) -> str:
    """``text`` with everything that has no shape of its own spelled out (``\\x1b``, ``\\u202e``).

    For names: here a reader has to see that something is there.
    """
    return "".join(c if c.isprintable() else _named(c) for c in text)


def _named(c: str) -> str:
    code = ord(c)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return c.encode("unicode_escape", "backslashreplace").decode()


def _spelled(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else "\ufffd"
