"""The recordings against the real CLI: it still tells its hooks what was recorded of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from plandock.claude import binary
from tests.support.hooks import PAYLOADS
from tools.cli_matrix.cases import CASES
from tools.cli_matrix.drive import record
from tools.cli_matrix.recording import read
from tools.cli_matrix.signals import signals

pytestmark = [pytest.mark.tmux, pytest.mark.timeout(1200)]


def test_a_cleared_context_is_told_as_it_was_recorded(claude_cli: Path, tmp_path: Path) -> None:
    """The longest conversation of the table: the same events, keys, dialog and decision."""
    (case,) = (x for x in CASES if x.name == "clear")
    found = record(claude_cli, case, tmp_path / "clear")
    assert found.fault == ""
    version = binary.version_of(claude_cli)
    assert signals([found]) == signals([read(PAYLOADS / version, "clear")])
