"""What a test session has made that could outlive it: noted when made, read at the session's end.

One file for all workers.  Without a session that keeps one (`make soak`), nothing is noted.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

VARIABLE = "PLANDOCK_TEST_JOURNAL"

Kind = Literal["base", "home", "repository", "folder", "name"]
"""A worker's temporary folder; a user's home, and with it the runs in its state folder; a
repository, and with it its mirror; a folder that has to be gone at the end; a word between dashes
in the names, or the value of a label, of what a test makes in an engine or the machine's network.
"""


@dataclass(frozen=True)
class Entry:
    """Something that was made, and the test that made it (empty outside of any)."""

    kind: Kind
    value: str
    test: str


def note(kind: Kind, value: str | os.PathLike[str]) -> None:
    """Write down what is made, before it is: a test may be killed meanwhile."""
    place = os.environ.get(VARIABLE)
    if place:
        test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" (")[0]
        line = json.dumps([kind, os.fspath(value), test]) + "\n"
        # Unbuffered: a line goes out in one write, so those of several workers do not mix.
        with open(place, "ab", buffering=0) as file:
            file.write(line.encode())


def read(place: Path) -> list[Entry]:
    """Everything that was noted, in order."""
    return [Entry(*json.loads(line)) for line in place.read_text().splitlines()]
