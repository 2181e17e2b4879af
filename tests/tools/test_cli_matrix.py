"""What was recorded of the real CLI holds the tested range; and the matrix tells what differs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from plandock.claude import binary
from tests.support.hooks import PAYLOADS
from tools.cli_matrix import __main__ as matrix
from tools.cli_matrix.cases import CASES, Case
from tools.cli_matrix.recording import Recording, normalise, read, save
from tools.cli_matrix.signals import difference, signals, table, verdict
from tools.setup import cli as setup_cli

RECORDED = sorted(x.name for x in PAYLOADS.iterdir())
OLD, NEW = binary.TESTED
BY_NAME = {case.name: case for case in CASES}


def recorded(version: str) -> list[Recording]:
    """Every case of the table as that version was recorded with it."""
    return [read(PAYLOADS / version, case.name) for case in CASES]


def test_the_tested_range_ends_where_the_recordings_end() -> None:
    """Both ends of it were recorded, and no version beyond them."""
    assert {OLD, NEW} <= set(RECORDED)
    assert [x for x in RECORDED if not binary.tested(x)] == []


@pytest.mark.parametrize("case", CASES, ids=lambda x: x.name)
@pytest.mark.parametrize("version", RECORDED)
def test_each_recorded_answer_is_decided_as_the_table_says(version: str, case: Case) -> None:
    """One hand-off for each automatic acceptance, none for any other answer, no call after it."""
    assert verdict(read(PAYLOADS / version, case.name)) == case.expected


@pytest.mark.parametrize("version", RECORDED)
def test_every_payload_of_a_recording_has_a_place_in_its_order(version: str) -> None:
    """No file lies there that the order does not name, and no folder beside the cases."""
    for case in CASES:
        files = {x.stem for x in (PAYLOADS / version / case.name).glob("*.json")}
        assert files == set(read(PAYLOADS / version, case.name).payloads)
    assert {x.name for x in (PAYLOADS / version).iterdir()} == set(BY_NAME)


def test_a_payload_that_is_missing_is_a_complaint_of_its_case() -> None:
    """Without the event that an acceptance is known by, the matrix says what plandock would do."""
    found = recorded(NEW)
    auto = next(x for x in found if x.case == "auto")
    del auto.payloads["PostToolUse-ExitPlanMode-auto"]
    (complaint,) = matrix.complaints(found)
    assert complaint == "auto: plandock makes of it: nothing; expected: accepted, auto"


def test_a_call_that_the_guard_would_let_through_is_a_complaint() -> None:
    """A tool call after the hand-off in a session that no mark names is told of."""
    found = recorded(NEW)
    auto = next(x for x in found if x.case == "auto")
    name = "PreToolUse-Write-auto"
    call = json.loads(auto.payloads[name]) | {"session_id": "another"}
    auto.payloads[name] = json.dumps(call)
    (complaint,) = matrix.complaints(found)
    assert f"then {name} ran" in complaint


def test_a_conversation_that_did_not_end_is_a_complaint() -> None:
    """What kept it is what is told, not what its half was taken for."""
    found = recorded(NEW)
    found[0] = replace(found[0], payloads={}, fault="no option says /auto-accept/")
    assert matrix.complaints(found) == ["accept: no option says /auto-accept/"]


def test_the_table_marks_what_changed_from_one_version_to_the_next() -> None:
    """2.1.197 repeats the prompt's id after a clearing and the newest does not (facts, 10)."""
    rows = table({v: signals(recorded(v)) for v in (OLD, NEW)}).splitlines()
    (row,) = (x for x in rows if "keys of SessionStart-clear" in x)
    assert row.startswith("*")
    assert "-prompt_id" in row
    (row,) = (x for x in rows if "auto: decision" in x)
    assert row.startswith(" ")
    assert row.split()[-1] == "="


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("ab", "ab", ""),
        ("ab", "ac", "-b +c"),
        ("", "a", "+a"),
        ("ab", "ba", "in another order"),
    ],
)
def test_a_difference_names_what_went_and_what_came(before: str, after: str, said: str) -> None:
    """And says so where only the order is another."""
    assert difference(before, after) == said


def test_one_conversation_is_recorded_alike_however_often(tmp_path: Path) -> None:
    """Home, ids, the plan's file name and durations are neutral; two sessions stay two."""
    ids = ("0a3f6c0e-8a57-4c1e-9f5d-1d0c2f7a9e11", "1b3f6c0e-8a57-4c1e-9f5d-1d0c2f7a9e12")

    def payloads(home: str, first: str, second: str, slug: str) -> list[str]:
        one = {"session_id": first, "hook_event_name": "SessionStart", "source": "startup"}
        two = {"session_id": second, "hook_event_name": "SessionStart", "source": "clear"}
        key = home.replace("/", "-").replace("_", "-")
        one |= {"cwd": f"{home}/project", "transcript_path": f"{home}/.claude/projects/{key}"}
        two |= {"plan": f"{home}/.claude/plans/{slug}.md"}
        return [json.dumps(one), json.dumps(two)]

    home, other = tmp_path / "a_b" / "home", tmp_path / "other"
    first = normalise("auto", home, ["5% used"], payloads(str(home), *ids, "plan-brave-fox"))
    again = normalise("auto", other, ["9% used"], payloads(str(other), *ids[::-1], "plan-old-owl"))
    assert first == again
    sessions = {payload["session_id"] for _, payload in first.load()}
    assert len(sessions) == 2
    assert sessions.isdisjoint(ids)
    assert str(tmp_path) not in "".join(first.payloads.values())
    save(first, tmp_path / "kept")
    assert read(tmp_path / "kept", "auto") == first


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[Recording]], None]:
    """Let the matrix find these recordings in place of having the conversations."""

    def give(recordings: list[Recording]) -> None:
        monkeypatch.setattr(setup_cli, "fetch", lambda version: Path("/none", version))
        monkeypatch.setattr(matrix, "take", lambda program: recordings)

    return give


def test_the_matrix_is_content_where_every_decision_is_right(
    made: Callable[[list[Recording]], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 0, and a column for each version named."""
    made(recorded(NEW))
    assert matrix.main([OLD, NEW]) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["signal", OLD, NEW]


def test_the_matrix_fails_and_keeps_nothing_where_a_decision_is_wrong(
    made: Callable[[list[Recording]], None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Exit code 1, the complaint with its version, and no payload of it among the tests' own."""
    found = recorded(NEW)
    del next(x for x in found if x.case == "clear").payloads["SessionStart-clear"]
    made(found)
    monkeypatch.setattr(matrix, "PAYLOADS", tmp_path)
    assert matrix.main(["--record", "2.1.999"]) == 1
    assert "2.1.999 clear: plandock makes of it: nothing" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
