"""Rules broken on purpose: the table fits the code, and the runner tells guarded from unguarded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.repository import Repository
from tools.mutations.__main__ import MUTATIONS, row
from tools.mutations.mutation import Mutation, TableError
from tools.mutations.trial import Result, Trials
from tools.setup.folder import CLONE

# As the issue names them; `(inside)`: the programs in the containers.
LAYERS = {
    "hook", "cli", "supervisor", "workspace", "box", "claude", "engines", "runs", "settings",
    "box (inside)", "gateway (inside)", "workspace (inside)",
}  # fmt: skip
RULE = "src/plandock/rule.py"


def test_each_mutation_fits_the_code() -> None:
    """A rule that was written anew takes its row along: `before` stands in its file once."""
    assert [fault for mutation in MUTATIONS for fault in mutation.faults(CLONE)] == []


def test_mutations_break_each_promise_and_each_layer() -> None:
    """Each promise several times, at least twenty rules in all."""
    promises = [mutation.promise for mutation in MUTATIONS]
    assert {n for n in range(1, 8) if promises.count(n) < 2} == set()
    assert set(promises) <= set(range(1, 8))
    assert LAYERS - {mutation.layer for mutation in MUTATIONS} == set()
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS) >= 20
    assert all(mutation.tests and mutation.why for mutation in MUTATIONS)


def rule(before: str, after: str, *tests: str, name: str = "rule") -> Mutation:
    """A rule of the small tree, broken."""
    return Mutation(name, 1, RULE, before, after, tests, "it is a rule")


@pytest.fixture
def tree(repo: Repository) -> Path:
    """A small tree with a rule that has a test, one that has none, and tests of other kinds."""
    repo.commit({
        "src/plandock/__init__.py": "",
        "src/plandock/__main__.py": "def main(): ...\n",
        RULE: "GUARDED = 1\nUNGUARDED = 1\n",
        "tests/test_rule.py": (
            "import subprocess, sys\n"
            "def test_it_holds():\n"
            "    from plandock import rule\n"
            "    assert rule.GUARDED == 1\n"
            "def test_it_holds_in_a_process():\n"
            "    code = 'from plandock import rule; print(rule.GUARDED)'\n"
            "    argv = [sys.executable, '-I', '-c', code]\n"
            "    assert subprocess.check_output(argv, env={}) == b'1\\n'\n"
            "def test_it_is_one_thing():\n"
            "    from plandock import rule\n"
            "    (one,) = range(rule.GUARDED)\n"
            "def test_it_cannot_be_used():\n"
            "    from plandock import rule\n"
            "    [1, 2][rule.GUARDED]\n"
        ),
        "tests/test_no_rule.py": "def test_it_fails():\n    assert False\n",
        "tests/test_at_import.py": (
            "from plandock.rule import GUARDED\n"
            "assert GUARDED == 1\n"
            "def test_it_passes(): ...\n"
        ),
    })  # fmt: skip
    return repo.root


def test_rule_is_caught_when_a_test_of_it_fails(tree: Path) -> None:
    """By name; also where the rule is in effect in a process that the test starts in isolation."""
    for test in ("test_it_holds_in_a_process", "test_it_is_one_thing"):
        broken = rule("GUARDED = 1\nU", "GUARDED = 2\nU", f"tests/test_rule.py::{test}")
        result = Trials(tree).run(broken)
        assert (result.kind, result.test) == ("caught", f"tests/test_rule.py::{test}"), result
    assert "GUARDED = 1\n" in (tree / RULE).read_text()


def test_rule_is_not_caught_when_no_test_fails(tree: Path) -> None:
    """The negative control: what changes nothing is not caught, and what nothing guards neither."""
    trials = Trials(tree)
    for after in ("GUARDED = 1  # nothing\nUNGUARDED = 1", "GUARDED = 1\nUNGUARDED = 2"):
        broken = rule("GUARDED = 1\nUNGUARDED = 1", after, "tests/test_rule.py::test_it_holds")
        result = trials.run(broken)
        assert (result.kind, result.why) == ("not caught", "1 passed")


@pytest.mark.parametrize(
    ("test", "why"),
    [
        ("tests/test_rule.py::test_it_cannot_be_used", "failure: IndexError"),
        ("tests/test_at_import.py", "error: collection failure"),
        ("tests/test_no_rule.py", "its tests do not pass on the tree as it is"),
    ],
)
def test_nothing_is_proven_when_tests_fail_in_another_way(tree: Path, test: str, why: str) -> None:
    """A crash, an import that breaks and a test that always fails have noticed no broken rule."""
    result = Trials(tree).run(rule("GUARDED = 1\nU", "GUARDED = 2\nU", test))
    assert result.kind == "no proof"
    assert result.why.startswith(why)


def test_nothing_is_proven_when_tests_do_not_end(tree: Path) -> None:
    """They are ended after a while, and so is what they have started."""
    text = "import time\ndef test_it_waits():\n    time.sleep(600)\n"
    (tree / "tests" / "test_slow.py").write_text(text)
    # They hear no Ctrl-C where this process ignores it, as in a shell's background.
    result = Trials(tree, patience_s=1.0, grace_s=2.0).run(
        rule("UNGUARDED = 1", "UNGUARDED = 2", "tests/test_slow.py")
    )
    assert (result.kind, "no end after 1 s" in result.why) == ("no proof", True)


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (rule("ABSENT", "x", "tests/test_rule.py"), "stands 0 times"),
        (rule("GUARDED", "x", "tests/test_rule.py"), "stands 2 times"),
        (rule("GUARDED = 1\nU", "= 1\nU", "tests/test_rule.py"), "is no Python any more"),
        (rule("GUARDED = 1\nU", "x = 1\nU", "tests/test_x.py"), "there is no tests/test_x.py"),
        (rule("GUARDED = 1\nU", "x = 1\nU", "tests/test_rule.py::test_x[1]"), "there is no test_x"),
    ],
)
def test_row_is_refused_when_it_does_not_fit_the_tree(
    tree: Path, broken: Mutation, says: str
) -> None:
    """In a line that names the row, before anything is started."""
    (fault,) = broken.faults(tree)
    assert fault.startswith("rule: ")
    assert says in fault
    if "times" in says:
        with pytest.raises(TableError, match=says):
            broken.changed(tree)


def test_table_shows_what_caught_a_rule_and_what_did_not() -> None:
    """One row of Markdown each."""
    caught = Result("a", 1, "hook", "caught", "tests/t.py::test_a", 1.25)
    assert row(caught) == "| a | 1 | hook | `tests/t.py::test_a` | 1.2 |"
    missed = Result("a", 1, "hook", "not caught", "", 1.0, "3 passed")
    assert "**not caught**  3 passed" in row(missed)


@pytest.mark.parametrize("word", [signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_when_the_runner_is_interrupted(tmp_path: Path, word: int) -> None:
    """Neither a copy of the tree nor a test that goes on in it."""
    argv = [sys.executable, "-m", "tools.mutations", MUTATIONS[0].name]
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    quiet = subprocess.DEVNULL
    with subprocess.Popen(argv, cwd=CLONE, env=env, stdout=quiet, stderr=quiet) as child:
        end = time.monotonic() + 240
        while not list(tmp_path.glob("pm-*/t/b")) and child.poll() is None:
            assert time.monotonic() < end, "no test was started"
            time.sleep(0.05)
        assert child.poll() is None
        child.send_signal(word)
        assert child.wait(240) == 128 + word
    assert list(tmp_path.iterdir()) == []
