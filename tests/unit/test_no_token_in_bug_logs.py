"""A failure whose words hold a token does not write it down."""

from __future__ import annotations

from pathlib import Path

import pytest

from plandock import paths
from plandock.claude.redact import MARK
from plandock.cli import app
from plandock.errors import EngineError
from plandock.runs.model import Run, RunId, State
from plandock.runs.store import Store
from plandock.supervisor import drive, staging

TOKENS = ("sk-ant-oat01-" + "made-up-" * 6, "sk-ant-ort01-" + "made-up-" * 6)


class Bug(RuntimeError):
    """Carries both tokens in its message, and a known secret in its cause."""

    def __init__(self) -> None:
        super().__init__(f"cannot parse {{'accessToken': '{TOKENS[0]}', 'x': '{TOKENS[1]}'}}")


def _raise(*_: object, **__: object) -> None:
    try:
        raise ValueError(f"Authorization: Bearer {TOKENS[0]}")
    except ValueError as cause:
        raise Bug from cause


def test_the_bug_log_of_a_command_holds_no_token(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    """The traceback is there, with its cause; the tokens are not, on the screen neither."""
    monkeypatch.setattr(app.cli, "main", _raise)
    assert app.main() == 3
    text = (paths.state_dir() / "bug.log").read_text()
    said = capsys.readouterr()
    assert "Traceback" in text
    assert "Bug: cannot parse" in text
    assert MARK in text
    for token in TOKENS:
        assert token not in text + said.out + said.err


@pytest.mark.parametrize("bug", [True, False])
def test_a_supervisors_traceback_and_what_the_run_says_hold_no_token(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], home: Path, bug: bool
) -> None:
    """Log, message, hint, store and receipt: the failure is told, its secrets are not."""

    def fail(*_: object) -> None:
        if bug:
            _raise()
        raise EngineError(f"it said {TOKENS[0]}", hint=f"try {TOKENS[1]}")

    monkeypatch.setattr(staging, "stage", fail)
    folder = paths.make_private(paths.run_dir("r7k2"))
    with Store() as store:
        run = Run(id=RunId("r7k2"), created_at="2026-01-01T00:00:00Z", handoff_key="k")
        store.add(run, name_branch=lambda _: "feature/auto")
        store.move("r7k2", State.QUEUED, State.STAGING)
    assert drive.drive("r7k2") == 0
    printed = capsys.readouterr().out
    assert "Traceback" in printed
    with Store() as store:
        failed = store.get("r7k2")
    assert failed.state is State.FAILED
    assert MARK in failed.message
    kept = b"".join(p.read_bytes() for p in paths.state_dir().rglob("*") if p.is_file())
    assert (folder / "receipt.json").is_file()
    for token in TOKENS:
        assert token not in printed
        assert token.encode() not in kept
