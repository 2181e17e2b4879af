"""A program in front of the engine's own: it takes one protection away from each box, and notes
how it was called.  It stands for a configuration of the engine's, or another program of its name.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from tests.support.laptop import Laptop

# From each box that is created, and from nothing else.
_WRAPPER = """#!{python} -IS
import os, sys
words = sys.argv[1:]
with open({calls!r}, "a") as calls:
    calls.write(" ".join(words).replace("\\n", " ") + "\\n")
if "create" in words and any(w.endswith("-box") for w in words):
    {change}
os.execv({program!r}, [{program!r}, *words])
"""
DROP_PAIR = "i = words.index({0!r}); del words[i:i + 2]"
SET = "words[words.index({0!r}) + 1] = {1!r}"
ADD = "i = words.index('--name'); words[i:i] = {0!r}"
NOTHING = "pass"


def wrap(laptop: Laptop, folder: Path, change: str = NOTHING) -> Path:
    """Put the wrapper into a new folder and before everything else on the laptop's `PATH`; the
    file with its calls, a line each."""
    folder.mkdir()
    calls, wrapper = folder / "calls", folder / laptop.engine
    calls.touch()
    wrapper.write_text(
        _WRAPPER.format(
            python=sys.executable,
            calls=str(calls),
            change=change,
            program=shutil.which(laptop.engine),
        )
    )
    wrapper.chmod(0o755)
    laptop.env["PATH"] = f"{folder}:{laptop.env['PATH']}"
    return calls
