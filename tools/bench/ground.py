"""The ground that benchmark and soak stand on: nothing of the user's, real programs."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support import machine
from tests.support.repository import write_git_config
from tools.bench.timing import BenchError


def prepare(folder: Path, engine: str) -> Path:
    """Leave the user's own home and environment behind; the newest real CLI.

    Raises BenchError where CLI or engine are missing.
    """
    machine.load_setup()
    for name in machine.to_drop(os.environ):
        del os.environ[name]
    os.environ["HOME"] = str(folder)
    os.environ["GIT_CONFIG_NOSYSTEM"] = "1"
    write_git_config(folder)
    variable = machine.CLI_VERSIONS["newest"]
    cli = Path(os.environ.get(variable) or "/absent")
    if not os.access(cli, os.X_OK):
        raise BenchError(f"{variable} names no program. Next step: `make setup`")
    if reason := machine.why_engine_is_absent(engine):
        raise BenchError(reason)
    return cli
