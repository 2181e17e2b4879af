"""The folder that set-up fills, and the `env` file in it that tests and demo read."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CLONE = Path(__file__).resolve().parents[2]


def setup_dir() -> Path:
    """`PLANDOCK_SETUP_DIR`, by default `.setup/` of this clone; made when missing."""
    folder = Path(os.environ.get("PLANDOCK_SETUP_DIR") or CLONE / ".setup").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def read_env() -> dict[str, str]:
    """The variables recorded so far; empty before the first set-up."""
    try:
        lines = (setup_dir() / "env").read_text().splitlines()
    except FileNotFoundError:
        return {}
    return dict(line.split("=", 1) for line in lines if "=" in line)


def record_env(changes: dict[str, str | None]) -> None:
    """Merge variables into the `env` file (None takes one out); the file is replaced whole."""
    merged = {**read_env(), **changes}
    text = "".join(f"{k}={v}\n" for k, v in sorted(merged.items()) if v is not None)
    draft = setup_dir() / f"env.{os.getpid()}"
    draft.write_text(text)
    draft.replace(setup_dir() / "env")


@contextmanager
def locked(name: str) -> Iterator[None]:
    """One at a time: two `make`s in one clone must not both install or build the same thing."""
    with (setup_dir() / f"{name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def in_use() -> Iterator[None]:
    """Say that what was started here is needed for as long as this block lasts."""
    with (setup_dir() / "use.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield


@contextmanager
def unused() -> Iterator[bool]:
    """Whether nobody is inside `in_use`; nobody gets in while the block lasts."""
    with (setup_dir() / "use.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
