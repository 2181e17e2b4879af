"""The product that whole runs are made with: the wheel in its clean environment, or the source.

The wheel is taken where set-up has built one of exactly these sources.  Where it has not, as for a
developer between two edits, the source is tested; in CI that is a failure.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.support.machine import CLONE, in_ci
from tools.setup import wheel

VARIABLE = "PLANDOCK_TEST_PROGRAM"
"""The installed program; empty for the source."""


def choose() -> None:
    """Settle what is tested for this process and all that it starts, unless that was done."""
    if VARIABLE not in os.environ:
        built = wheel.built()
        os.environ[VARIABLE] = str(built.program) if built else ""


def program() -> Path | None:
    """The program of the installed wheel; None where the source is tested.

    Raises `AssertionError` in CI, where the wheel has to be there.
    """
    choose()
    path = os.environ[VARIABLE]
    assert path or not in_ci(), "no wheel of these sources was built. Next step: `make setup`"
    return Path(path) if path else None


def argv(*words: str) -> list[str]:
    """The command line of plandock with these words."""
    if path := program():
        return [str(path), *words]
    # -P: the program does not import from the working directory either.
    return [sys.executable, "-P", "-m", "plandock", *words]


def python() -> str:
    """The interpreter that the product runs on and can be imported in."""
    path = program()
    return str(path.with_name("python")) if path else sys.executable


def package() -> Path:
    """The folder of the package `plandock` itself."""
    path = program()
    if path is None:
        return CLONE / "src" / "plandock"
    (folder,) = path.parent.parent.glob("lib/python*/site-packages/plandock")
    return folder


def described() -> str:
    """What is tested, in a line for people."""
    choose()
    if path := os.environ[VARIABLE]:
        return f"plandock: the wheel, installed as {path}"
    return "plandock: the source (no wheel of it was built; `make setup` builds one)"
