"""docs/security.md names tests; each must be there."""

import re

from tests.support.machine import CLONE

NAMED = re.compile(r"tests/[\w/]+\.py")


def missing(text):
    """Names of test files in a text that do not exist."""
    return sorted(name for name in set(NAMED.findall(text)) if not (CLONE / name).is_file())


def test_every_test_that_the_security_document_names_exists():
    """A claim whose test has gone is a claim without a test."""
    text = (CLONE / "docs" / "security.md").read_text()
    assert len(set(NAMED.findall(text))) > 10
    assert missing(text) == []


def unnamed(text):
    """Files with attacks that a text does not name."""
    found = sorted((CLONE / "tests" / "security").glob("test_*.py"))
    names = [str(path.relative_to(CLONE)) for path in found]
    return [name for name in names if name not in text and not name.endswith("test_count.py")]


def test_every_file_with_attacks_is_named_by_the_security_document():
    """An attack that no layer stands for is one that nobody promises anything about."""
    assert unnamed((CLONE / "docs" / "security.md").read_text()) == []
    assert "tests/security/test_push.py" in unnamed("see tests/security/test_egress.py")


def test_every_row_of_the_table_names_a_test():
    """A layer, what it stops, and where that is shown."""
    text = (CLONE / "docs" / "security.md").read_text()
    rows = [x.split("|")[1:-1] for x in text.splitlines() if x.startswith("| ") and "---" not in x]
    assert len(rows) > 15
    assert [row[0].strip() for row in rows[1:] if len(row) != 3 or not NAMED.search(row[2])] == []


def test_control_a_name_that_is_not_there_is_found():
    """The check does see what is missing."""
    assert missing("see tests/security/test_no_such.py") == ["tests/security/test_no_such.py"]
