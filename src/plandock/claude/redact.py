"""Secrets that do not show, and text with whatever looks like one taken out.

Standard library only.  :func:`redact` stands in front of every log line and error text that
carries words of somebody else: a program's complaint, a model's answer, an engine's message.
"""

from __future__ import annotations

import hmac
import re
from typing import NoReturn
from urllib.parse import quote

MARK = "[redacted]"

# A registered value shorter than this would blank out ordinary words.
_SHORTEST = 8

# Each is linear: no pattern repeats a group that itself repeats.
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[^-]*(?:-----END [A-Z ]{0,40}-----)?"),
     MARK),
    # Anthropic's own, of every kind (api, oat, ort, admin …), then other services' "sk-" keys.
    (re.compile(r"sk-ant-[A-Za-z0-9_-]+"), MARK),
    (re.compile(r"\bsk-[A-Za-z0-9_-]{20,}"), MARK),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)?"), MARK),
    (re.compile(r"\bgh[pousr]_[A-Za-z0-9]{16,}"), MARK),
    (re.compile(r"\bgithub_pat_[A-Za-z0-9_]{16,}"), MARK),
    (re.compile(r"\bgl(?:pat|dt|rt)-[A-Za-z0-9_-]{16,}"), MARK),
    (re.compile(r"\bnpm_[A-Za-z0-9]{16,}"), MARK),
    (re.compile(r"\bpypi-[A-Za-z0-9_-]{16,}"), MARK),
    (re.compile(r"\bxox[abeoprs]-[A-Za-z0-9-]{8,}"), MARK),
    (re.compile(r"\bAIza[A-Za-z0-9_-]{30,}"), MARK),
    (re.compile(r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b"), MARK),
    (re.compile(r"(?i)\b(bearer|basic)(\s+)[A-Za-z0-9._~+/=-]{6,}"), rf"\1\2{MARK}"),
    (re.compile(r"(://)(?:[^\s/@:]*:[^\s/@]*|[^\s/@:]{20,})@"), rf"\1{MARK}@"),
    # `"refreshToken": "…"`, `aws_secret_access_key = …`, `x-api-key: …`
    (re.compile(
        r"(?i)((?:access|refresh|auth|id|session|bearer|oauth)[_-]?token|api[_-]?key"
        r"|secret[_-]?(?:access[_-]?)?key|client[_-]?secret|passw(?:or)?d)"
        r"(\\?[\"']?\s{0,8}[:=]\s{0,8}\\?[\"']?)[^\s\"'\\,;}&]{6,}"), rf"\1\2{MARK}"),
)  # fmt: skip

_known: set[str] = set()

# Anthropic's own, as bytes: nothing but letters, digits, _ and -, so that JSON around one stays
# JSON when it is replaced.
_TOKENS = re.compile(rb"sk-ant-[a-z]{2,12}[0-9]{0,4}-[A-Za-z0-9_-]{16,}")


class Secret:
    """A value that shows itself only when asked by name (:meth:`reveal`).

    Printing, formatting and ``repr`` give a mark; it cannot be pickled, nor put into JSON by
    accident.  Making one tells :func:`redact` to take the value out of any text.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value
        register(value)

    def reveal(self) -> str:
        """The value itself."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({MARK})"

    def __str__(self) -> str:
        return MARK

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        mine, theirs = (x._value.encode("utf-8", "surrogatepass") for x in (self, other))
        return hmac.compare_digest(mine, theirs)

    def __hash__(self) -> int:
        return hash(self._value)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not written down")


def register(secret: str) -> None:
    """Have :func:`redact` take this value out from now on, also URL-quoted or as hex digits.

    Values under eight characters are left alone: they occur in ordinary words.
    """
    if len(secret) < _SHORTEST:
        return
    raw = secret.encode("utf-8", "surrogatepass")
    _known.update((secret, quote(raw, safe=""), raw.hex()))


def redact(text: str) -> str:
    """``text`` with every registered secret and everything that looks like one replaced."""
    for value in sorted(_known, key=len, reverse=True):
        if value in text:
            text = text.replace(value, MARK)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def redact_tokens(data: bytes) -> bytes:
    """``data`` without Anthropic's tokens and keys, and otherwise as it was; JSON stays JSON.

    For what is kept of a box's own words: there :func:`redact`, which is made to be shown, would
    change too much.  It finds what stands there as it is, not what an agent has encoded.
    """
    return _TOKENS.sub(MARK.encode(), data)
