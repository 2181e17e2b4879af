"""What a soak's report must not say; the soak itself is in tests/e2e."""

from __future__ import annotations

from typing import Any

import pytest

from tools.soak.__main__ import faults
from tools.soak.leaks import KINDS


def report(**changes: Any) -> dict[str, Any]:
    """A report of four runs without a fault, but for the changes."""
    even = {"first": 30.0, "last": 31.0}
    sound: dict[str, Any] = {
        "runs": 4, "done": 4, "failed": 0, "branches": 4, "in_time": True, "most_at_once": 2,
        "places": 2,
        "leaks": {kind: [] for kind in KINDS}, "control": {"planted": 10, "missed": []},
        "growth": {
            "supervisor_peak_mib": even, "supervisor_open_files": even,
            "files_per_run": {"first": 13.0, "last": 13.0},
            "hook_ms": {"first": 1.0, "last": 1000.0},
        },
    }  # fmt: skip
    return sound | changes


def test_runs_that_all_came_home_and_left_nothing_are_no_fault() -> None:
    """However slow the machine became."""
    assert faults(report()) == []


@pytest.mark.parametrize("kind", KINDS)
def test_one_thing_left_behind_is_a_fault(kind: str) -> None:
    """Of whatever kind; its name is in the line."""
    found = faults(report(leaks=report()["leaks"] | {kind: ["the thing"]}))
    assert found == [f"leaked: {kind}: the thing"]


@pytest.mark.parametrize(
    "changes",
    [
        {"done": 3},
        {"branches": 3},
        {"in_time": False},
        {"most_at_once": 3},
        {"control": {"planted": 10, "missed": ["sockets"]}},
    ],
)
def test_a_run_that_did_not_come_home_is_a_fault_and_so_is_a_blind_eye(
    changes: dict[str, Any],
) -> None:
    """Lost work, a place too many, and a control that was not found."""
    assert len(faults(report(**changes))) == 1


@pytest.mark.parametrize("what", ["supervisor_peak_mib", "supervisor_open_files", "files_per_run"])
def test_what_grows_from_run_to_run_is_a_fault(what: str) -> None:
    """Memory, open files and files; not what depends on the machine's load."""
    grown = report()["growth"] | {what: {"first": 30.0, "last": 50.0}}
    assert faults(report(growth=grown)) == [f"{what} grew from 30.0 to 50.0"]
