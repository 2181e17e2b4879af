"""The YAML at the head of an agent, a skill or a command: what in it is code goes.

Measured in 2.1.332: agents and skills may declare ``hooks`` and ``mcpServers`` there, and the head
of a SKILL.md counts as a plugin's manifest.
"""

from __future__ import annotations

import re

# What names a program that the CLI itself would start, or where more of them lie.
_CODE = frozenset(
    {
        "hooks", "mcpservers", "lspservers", "monitors", "modules", "channels", "plugins",
        "extensions", "statusline", "bin", "env", "settings", "dependencies", "userconfig",
    }
)  # fmt: skip
_DEEP = frozenset({"hooks", "mcpservers", "lspservers"})
_ANY_KEY = re.compile(r"""(?:^|[{,])\s*(?:-\s+)?["']?([A-Za-z][\w-]*)["']?\s*:""", re.M)
_KEY = re.compile(r"""["']?([A-Za-z][\w-]*)["']?\s*:""")


def without_code(text: str) -> tuple[str, list[str]]:
    """The text less the entries that declare code, and their names.

    Where the head is no plain mapping of keys to values (a brace, a tag, an anchor, an escape, a
    ``?``), it goes as a whole: what it names is not certain.
    """
    body = text.removeprefix("\ufeff").lstrip()
    lines = body.splitlines(keepends=True)
    if not lines or lines[0].rstrip() != "---":
        return text, []
    end = next((n for n, x in enumerate(lines[1:], 1) if x.rstrip() == "---"), None)
    if end is None:
        return text, []
    kept: list[str] = []
    gone: list[str] = []
    dropping = False
    first = next((x for x in lines[1:end] if x.strip() and x.lstrip()[0] != "#"), "")
    if first[:1].isspace():
        return _headless(lines, end)
    for line in lines[1:end]:
        if line[:1] not in (" ", "\t", "#", "-", "\n", "\r", "]", "}"):
            key = _KEY.match(line)
            if key is None:
                return _headless(lines, end)
            dropping = _plain(key[1]) in _CODE
            if dropping:
                gone.append(key[1])
        if not dropping:
            kept.append(line)
    # An alias, a merge or a flow mapping could still bring one in.
    if _names_code("".join(kept)):
        return _headless(lines, end)
    return ("".join([lines[0], *kept, *lines[end:]]) if gone else text), gone


def _headless(lines: list[str], end: int) -> tuple[str, list[str]]:
    return "".join(lines[end + 1 :]), ["its head"]


def _names_code(head: str) -> bool:
    """Whether a head names code as a key at any depth, in block or flow style."""
    return any(_plain(found) in _DEEP for found in _ANY_KEY.findall(head))


def _plain(key: str) -> str:
    return key.lower().replace("-", "").replace("_", "")
