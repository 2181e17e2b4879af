"""What a failing end-to-end test shows without being asked: its runs' logs and events, its screens.

Laptops and terminals register themselves when they are made; see ``pytest_runtest_makereport``.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Protocol

MOST = 6
"""So many laptops and terminals are shown, the newest ones."""


class Witness(Protocol):
    """Something that can tell what happened on it."""

    def evidence(self) -> Iterator[tuple[str, str]]:
        """Titles and texts."""


_witnesses: list[weakref.ref[Witness]] = []
_before_this_test = 0


def register(witness: Witness) -> None:
    """Ask this one, too, when a test fails; for as long as somebody else holds it."""
    _witnesses.append(weakref.ref(witness))


def begin_test() -> None:
    """What is made from now on belongs to the next test."""
    global _before_this_test
    _witnesses[:] = [known for known in _witnesses if known() is not None]
    _before_this_test = len(_witnesses)


def sections() -> list[tuple[str, str]]:
    """What the test's own witnesses say; where it made none, those that its file has made."""
    chosen = _witnesses[_before_this_test:] or _witnesses
    found: list[tuple[str, str]] = []
    for known in chosen[-MOST:]:
        if (witness := known()) is not None:
            try:
                found += witness.evidence()
            except Exception as error:  # what failed before is what the reader wants to see
                found.append(("no evidence", repr(error)))
    return found


def last_lines(text: str, most: int) -> str:
    """The end of a text."""
    return "\n".join(text.splitlines()[-most:])
