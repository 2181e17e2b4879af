"""docs/credits.md names tests; each must be there."""

import re

from tests.support.machine import CLONE

NAMED = re.compile(r"`((?:unit|e2e)/\w+\.py)(?:::(\w+))?`")


def missing(text):
    """The tests that a text names and that are not there."""
    found = []
    for file, name in NAMED.findall(text):
        path = CLONE / "tests" / file
        if not path.is_file() or (name and f"def {name}(" not in path.read_text()):
            found.append(f"{file}::{name}")
    return found


def test_every_test_that_the_page_names_exists():
    """A row whose test has gone is a row without a test; each row has one."""
    text = (CLONE / "docs" / "credits.md").read_text()
    assert missing(text) == []
    rows = [x for x in text.splitlines() if x.startswith("| ") and "---" not in x]
    assert len(rows) > 18
    bare = [row for row in rows if not NAMED.search(row) and not row.endswith("| the same |")]
    assert [row for row in bare if not row.endswith("| test |")] == []
    assert missing("see `unit/test_credits.py::test_no_such`") != []
