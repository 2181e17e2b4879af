"""How many attacks there are: no refactoring may lose them without a word."""

from __future__ import annotations

import re

import pytest

from tests.security.counting import CLONE, cases, distinct_payloads, listing

LEAST = 740


@pytest.fixture(scope="module")
def listed() -> str:
    """Every attack, collected once."""
    return listing()


def test_no_distinct_attack_is_lost(listed: str) -> None:
    """An attack upon two engines counts once, and so does one that several tests look at."""
    found = distinct_payloads(listed)
    assert len(found) >= LEAST, f"{len(found)}: {sorted(found)}"


def test_the_document_says_how_many_there_are(listed: str) -> None:
    """Its numbers are no more than there are, and not long out of date."""
    text = (CLONE / "docs" / "security.md").read_text()
    said = re.search(
        r"\*\*More than ([\d,]+) distinct attacks, ([\d,]+) test cases, zero succeed", text
    )
    assert said is not None
    for told, real in zip(
        said.groups(), (len(distinct_payloads(listed)), cases(listed)), strict=True
    ):
        assert 0.9 * real <= int(told.replace(",", "")) <= real


def test_repetitions_do_not_count() -> None:
    """The count can fail: engines, CLI versions, controls and plain tests add nothing."""
    text = (
        "tests/security/test_a.py::test_x[docker-one]\n"
        "tests/security/test_a.py::test_x[podman-one]\n"
        "tests/security/test_a.py::test_y[newest-docker-one]\n"
        "tests/security/test_a.py::test_z[docker]\n"
        "tests/security/test_a.py::test_plain\n"
        "tests/security/test_a.py::test_positive_control[two]\n"
        "2 tests collected in 0.1s\n"
    )
    assert distinct_payloads(text) == {"tests/security/test_a.py[one]"}
    assert cases(text) == 6
