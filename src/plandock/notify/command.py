"""The user's own command, told of a run by standard input."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence

from plandock import proc
from plandock.errors import PlandockError
from plandock.printable import one_line
from plandock.runs.model import Run

_LONGEST_S = 120.0
_MOST_KEPT = 4000


def call(words: Sequence[str], run: Run, event: str) -> str:
    """Run the program with the run as JSON; returns what it said and how it ended, one line."""
    env = proc.clean_environment({"PLANDOCK_EVENT": event})
    with tempfile.TemporaryFile() as out:
        try:
            done = proc.run(
                tuple(words),
                stdin=json.dumps(run.to_json()).encode(),
                stdout=out,
                env=env,
                cwd="/",
                timeout_s=_LONGEST_S,
                check=False,
            )
        except PlandockError as error:
            return one_line(error.message)
        out.seek(0)
        said = (out.read(_MOST_KEPT) + b" " + done.stderr[:_MOST_KEPT]).decode("utf-8", "replace")
    return one_line(f"exit code {done.returncode} {said}", limit=2000)
