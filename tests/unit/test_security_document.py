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


def test_control_a_name_that_is_not_there_is_found():
    """The check does see what is missing."""
    assert missing("see tests/security/test_no_such.py") == ["tests/security/test_no_such.py"]
