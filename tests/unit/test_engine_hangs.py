"""An engine whose program hangs, or is killed, is one that is away: a run waits, and goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from plandock.engines.command_line import CommandLineEngine
from plandock.engines.protocol import EngineDown
from plandock.errors import EngineError


def engine(tmp_path: Path, script: str) -> CommandLineEngine:
    """Docker, played by a shell script."""
    program = tmp_path / "docker"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return CommandLineEngine("docker", str(program))


def test_a_killed_client_says_nothing_of_what_it_was_asked(tmp_path: Path) -> None:
    """By the kernel for want of memory, or by somebody who mistook it."""
    with pytest.raises(EngineDown, match="signal 9"):
        engine(tmp_path, "kill -9 $$").inspect("box")


def test_an_engine_that_does_not_answer_in_time_is_away(tmp_path: Path) -> None:
    """A daemon that stands still, or a machine with far too much to do."""
    hanging = engine(tmp_path, "exec sleep 60")
    with pytest.raises(EngineDown, match="did not answer"):
        hanging._call(["rm", "x"], timeout_s=0.2)


def test_a_refusal_of_the_engine_stays_one(tmp_path: Path) -> None:
    """The control: it would be refused again."""
    with pytest.raises(EngineError) as raised:
        engine(tmp_path, "echo 'Error response from daemon: no' >&2; exit 1").inspect("box")
    assert not isinstance(raised.value, EngineDown)
