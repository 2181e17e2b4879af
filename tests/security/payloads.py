"""What an attack is, and how its programs are put into one line of shell."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass

import pytest
from _pytest.mark.structures import ParameterSet


@dataclass(frozen=True)
class Payload:
    """One attack: its name in reports, and the shell command that carries it out.

    ``control`` is what the positive control runs where the same command cannot serve (a kind of
    socket that this kernel may lack, say); by default it is the command itself.
    """

    name: str
    command: str
    control: str = ""


def cases(payloads: Iterable[Payload]) -> list[ParameterSet]:
    """The payloads as parameters of a test, each with its own id."""
    found = [pytest.param(x, id=x.name) for x in payloads]
    assert len({x.id for x in found}) == len(found), "two payloads have one name"
    return found


def python(program: str) -> str:
    """A shell command that runs a Python program, whatever characters it holds."""
    packed = base64.b64encode(program.encode()).decode()
    return f"python3 -c \"$(printf %s '{packed}' | base64 -d)\""


def shell(script: str) -> str:
    """A shell command that runs a script of bash, whatever characters it holds."""
    packed = base64.b64encode(script.encode()).decode()
    return f"bash -c \"$(printf %s '{packed}' | base64 -d)\""
