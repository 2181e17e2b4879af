"""What `make steady` calls a difference."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tools import check, steady
from tools.steady import Round, busy_cores, differences, read_outcomes


def rounds(*outcomes: dict[str, str]) -> list[Round]:
    """Rounds with these outcomes."""
    return [Round(one, 1.0, 0) for one in outcomes]


def test_rounds_that_all_passed_have_no_difference() -> None:
    """Whatever the order of the tests."""
    assert differences(rounds({"a": "passed", "b": "passed"}, {"b": "passed", "a": "passed"})) == []


def test_a_test_that_failed_once_is_named_with_its_counts() -> None:
    """The one that always passed is not."""
    found = differences(rounds({"a": "passed", "b": "passed"}, {"a": "failure", "b": "passed"}))
    assert found == ["a: 1x failure, 1x passed"]


def test_a_test_that_fails_every_time_or_is_missing_once_is_named() -> None:
    """Both would be overlooked by comparing outcomes alone."""
    found = differences(rounds({"a": "failure", "b": "passed"}, {"a": "failure"}))
    assert found == ["a: 2x failure", "b: 1x not run, 1x passed"]


def test_outcomes_are_read_from_pytests_own_report(tmp_path: Path) -> None:
    """A real report of a pass, a failure, an error and a skip."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_x.py").write_text(
        "import pytest\n"
        "def test_pass(): pass\n"
        "def test_fail(): assert False\n"
        "def test_skip(): pytest.skip('why')\n"
        "def test_error(absent): pass\n"
    )
    report = tmp_path / "report.xml"
    argv = [*check.pytest_argv()[:3], "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
    subprocess.run(argv, cwd=tmp_path, capture_output=True, check=False)
    assert read_outcomes(report) == {
        "test_x::test_pass": "passed",
        "test_x::test_fail": "failure",
        "test_x::test_skip": "skipped",
        "test_x::test_error": "error",
    }


def test_the_busy_loops_end_with_the_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a round fails."""
    monkeypatch.setattr(steady, "BUSY", "exec sleep 600")
    started = []
    start = subprocess.Popen

    def keep(*words: object, **more: object) -> subprocess.Popen[bytes]:
        started.append(start(*words, **more))  # type: ignore[call-overload]
        return started[-1]  # type: ignore[no-any-return]

    monkeypatch.setattr(subprocess, "Popen", keep)
    with pytest.raises(RuntimeError):
        with busy_cores(2):
            raise RuntimeError
    assert [loop.poll() is not None for loop in started] == [True, True]
