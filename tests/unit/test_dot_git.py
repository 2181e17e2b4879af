"""plandock's own rule for names that some file system takes for `.git`.

`git fsck` knows these spellings, too, so a harvest refuses them even where this rule is broken;
links and uncommitted files are judged by it alone.
"""

from __future__ import annotations

import pytest

from plandock.workspace import pathrules

SPELLINGS = [
    b".git", b".GIT", b".giT", b"git~1", b"GIT~1", b"git~27", b".git.", b".git ", b".git. .",
    b".git::$INDEX_ALLOCATION", ".g\u200cit".encode(), ".git\ufeff".encode(), ".G\u200dIT".encode(),
]  # fmt: skip
OTHERS = [b".gitignore", b".github", b"git", b"a.git", b"git~", b"git~a", b"..git", b".gi t"]


@pytest.mark.parametrize("name", SPELLINGS)
def test_name_is_refused_when_a_file_system_takes_it_for_git(name: bytes) -> None:
    """At any depth, as a folder on the way, and in a link's target."""
    assert pathrules.is_dot_git(name)
    for path in (name, b"sub/" + name, name + b"/config"):
        assert pathrules.bad_path(path) == "an entry is spelled like .git"
    assert pathrules.bad_link(b"link", name + b"/config") == "the link leads into .git"


@pytest.mark.parametrize("name", OTHERS)
def test_name_is_let_in_when_it_only_resembles_git(name: bytes) -> None:
    """The control."""
    assert not pathrules.is_dot_git(name)
    assert pathrules.bad_path(b"sub/" + name) == ""
