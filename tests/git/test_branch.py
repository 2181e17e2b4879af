"""The name of the branch: valid by git's own rules, free, and the same on every file system."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from plandock.errors import SettingsError
from plandock.workspace.branch import free_name, invalid_because, name_branch, slug

# Pieces that the rules are about, so that most names come near one of them.
PIECES = st.lists(
    st.sampled_from(
        ["a", "B", "-", ".", "..", "/", "//", "@", "{", "@{", "~", "^", ":", "?", "*", "[", "\\",
         " ", "\x7f", "\x01", "\n", ".lock", "lock", "HEAD", "ü", "日本", "feature", "]", "}", "'"]
    ),
    max_size=6,
).map("".join)  # fmt: skip


def git_says(name: str) -> bool:
    """Whether git itself takes the name for a branch's."""
    done = subprocess.run(
        ["git", "check-ref-format", "--branch", name], capture_output=True, check=False, cwd="/"
    )
    return done.returncode == 0


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(PIECES)
@example("feature/auto")
@example("a.lock/b")
@example("@")
def test_whatever_is_taken_for_valid_git_takes_too(name):
    """No template leads to a name that git would then refuse."""
    if not invalid_because(name):
        assert git_says(name)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(PIECES)
def test_what_is_refused_git_refuses_too_or_it_would_mislead(name):
    """Beyond git's rules only other cases of HEAD and .lock are refused, and "@", which git reads
    as HEAD."""
    assume(name and name != "@" and "\n" not in name)
    if invalid_because(name):
        lower = name.lower()
        assert not git_says(name) or lower == "head" or ".lock" in lower


@pytest.mark.parametrize(
    "template",
    ["", "-x", "a..b", "a b", "a/", "/a", "a//b", ".a", "a/.b", "x.lock", "@", "a@{1}", "HEAD",
     "a\nb", "{other}", "{slug", "x" * 500, "{slug:>9}", "a~1", "tip.", "\udc80"],
)  # fmt: skip
def test_a_template_without_a_valid_name_is_a_settings_error(template):
    """It is said at the hand-off, not after hours of work."""
    valid_as_it_is = template == "{slug"
    if valid_as_it_is:
        assert name_branch(template, run_id="r1", slug="s", taken=set()) == "{slug"
        return
    with pytest.raises(SettingsError):
        name_branch(template, run_id="r1", slug="s", taken=set())


def test_slug_and_run_are_filled_in_once():
    """What a title holds is not filled in again."""
    made = name_branch("plans/{slug}-{run}", run_id="r7k2", slug="{run}", taken=set())
    assert made == "plans/{run}-r7k2"


@pytest.mark.parametrize(
    ("taken", "made"),
    [
        (set(), "feature/auto"),
        ({"main"}, "feature/auto"),
        ({"feature/auto"}, "feature/auto-2"),
        ({"feature/auto", "feature/auto-2", "feature/auto-4"}, "feature/auto-3"),
        ({"Feature/AUTO"}, "feature/auto-2"),
        ({"feature/auto/deeper"}, "feature/auto-2"),
        ({"FEATURE/auto/deeper"}, "feature/auto-2"),
        ({"feature"}, "feature-auto"),
        ({"Feature", "feature-auto"}, "feature-auto-2"),
        ({"feature/aut", "feature/auto2"}, "feature/auto"),
    ],
)
def test_the_next_free_name_is_taken(taken, made):
    """Taken in any case, or in the way as a file or a folder."""
    assert name_branch("feature/auto", run_id="r", slug="s", taken=taken) == made


NAMES = st.text("ab/-2", min_size=1, max_size=8).filter(lambda x: not invalid_because(x))


@given(NAMES, st.sets(NAMES, max_size=12))
def test_the_name_found_is_always_free_and_valid(name, taken):
    """Beside all that is taken it can be created, as a file among files and folders."""
    made = free_name(name, taken)
    assert not invalid_because(made)
    for other in taken:
        assert made.casefold() != other.casefold()
        assert not made.casefold().startswith(other.casefold() + "/")
        assert not other.casefold().startswith(made.casefold() + "/")


@pytest.mark.parametrize(
    ("title", "made"),
    [
        ("Add a Cache to the Parser!", "add-a-cache-to-the-parser"),
        ("  --  ", "plan"),
        ("", "plan"),
        ("日本語の計画", "日本語の計画"),
        ("Cafe\u0301 menu", "cafe-menu"),
        ("a/../b", "a-b"),
        ("\x1b[31mred\x1b[0m", "31mred-0m"),
        ("fix: the_thing (v2.0)", "fix-the-thing-v2-0"),
        ("word " * 30, "word-word-word-word-word-word-word-word"),
        ("x" * 100, "x" * 40),
    ],
)
def test_titles_become_parts_of_names(title, made):
    """Words joined by dashes, short, in the title's own script."""
    assert slug(title) == made


@given(st.text(max_size=200))
def test_every_title_makes_a_valid_branch(title):
    """Whatever the plan's heading is."""
    made = slug(title)
    assert 0 < len(made) <= 40
    assert "/" not in made
    assert invalid_because(f"plan/{made}") == "" or "\ud800" <= max(made) <= "\udfff"


def test_it_loads_nothing_but_re_and_the_errors():
    """The hook waits for this module."""
    code = (
        "import sys, re\nbefore = set(sys.modules)\nimport plandock.workspace.branch\n"
        "print(*sorted(x for x in set(sys.modules) - before if 'plandock' not in x))"
    )
    path = os.pathsep.join(x for x in sys.path if x.endswith("src"))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True,
        env={"PYTHONPATH": path},
    )  # fmt: skip
    assert done.stdout.split() == ["__future__"]
