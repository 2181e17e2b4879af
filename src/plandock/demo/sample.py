"""What the demo works on: a small repository, a home with a made-up login, a scripted model."""

from __future__ import annotations

import json
from pathlib import Path

from plandock import git
from plandock.standin import (
    Script,
    bash,
    commit,
    edit_file,
    execution_scene,
    planning_scene,
)

PROMPT = "Let the greeting follow the time of day, with a test."
TITLE = "Greet by the time of day"
COMMITS = ("Greet by the time of day", "Say in the README that the hour counts")

PLAN = f"""\
# {TITLE}

1. `greeting.py`: `greet` takes the hour and picks good morning, good day or good evening.
2. `test_greeting.py`: one test for each of the three; run them.
3. `README.md`: say that the hour counts.

Two commits: the code with its test, then the README.
"""

_GREETING = """\
def greet(name: str) -> str:
    return f"Hello, {name}"
"""

_GREETING_AFTER = """\
def greet(name: str, hour: int) -> str:
    words = "Good morning" if hour < 12 else "Good day" if hour < 18 else "Good evening"
    return f"{words}, {name}"
"""

_TEST = """\
import unittest

from greeting import greet


class Greeting(unittest.TestCase):
    def test_greets_by_name(self) -> None:
        self.assertEqual(greet("Ada"), "Hello, Ada")


if __name__ == "__main__":
    unittest.main()
"""

_TEST_BODY = """\
    def test_greets_by_name(self) -> None:
        self.assertEqual(greet("Ada"), "Hello, Ada")
"""

_TEST_BODY_AFTER = """\
    def test_morning(self) -> None:
        self.assertEqual(greet("Ada", 8), "Good morning, Ada")

    def test_day(self) -> None:
        self.assertEqual(greet("Ada", 13), "Good day, Ada")

    def test_evening(self) -> None:
        self.assertEqual(greet("Ada", 21), "Good evening, Ada")
"""

_README = """\
# Greeting

Says hello to somebody.
"""

FILES = {"README.md": _README, "greeting.py": _GREETING, "test_greeting.py": _TEST}


def script() -> Script:
    """What the scripted model answers: a plan, then in the box the work itself.

    After an approval the planning scene goes on with a tool call *here*: it is what would happen
    without plandock, so that "nothing ran here" is a statement that could be false.
    """
    work = execution_scene(
        [
            edit_file("greeting.py", _GREETING, _GREETING_AFTER),
            edit_file("test_greeting.py", _TEST_BODY, _TEST_BODY_AFTER),
            bash("python3 -B -m unittest -v", "Run the tests"),
            commit(COMMITS[0]),
            edit_file("README.md", "Says hello to somebody.", "Greets by name and hour."),
            commit(COMMITS[1]),
        ],
        final="The greeting follows the hour, three tests pass, the README says so.",
    )
    plan = planning_scene(PLAN, ("README.md", "greeting.py"))
    return Script((work, plan), default=plan.name, side=TITLE)


def make_repository(root: Path) -> str:
    """Make the sample repository, with an identity of its own; returns its first commit's id."""
    root.mkdir(parents=True)
    git.git(root, "init", "--quiet")
    git.git(root, "symbolic-ref", "HEAD", "refs/heads/main")
    git.git(root, "config", "user.name", "Plandock Demo")
    git.git(root, "config", "user.email", "demo@example.invalid")
    for name, text in FILES.items():
        (root / name).write_text(text, encoding="utf-8")
    git.git(root, "add", "--all")
    git.git(root, "commit", "--quiet", "--message", "Say hello")
    return git.line(root, "rev-parse", "HEAD")


def make_home(home: Path, repo: Path) -> None:
    """Make a home in which Claude Code asks nothing at its start; its login is made up."""
    claude = home / ".claude"
    claude.mkdir(parents=True, mode=0o700)
    # The expiry is in 2100, in milliseconds; without scopes the CLI takes nobody for logged in.
    login = {
        "accessToken": "sk-ant-oat01-made-up-for-plandock-demo",
        "refreshToken": "sk-ant-ort01-made-up-for-plandock-demo",
        "expiresAt": 4102444800000,
        "scopes": ["user:inference", "user:profile"],
        "subscriptionType": "max",
    }
    _write_private(claude / ".credentials.json", {"claudeAiOauth": login})
    seen = {"hasTrustDialogAccepted": True, "hasCompletedProjectOnboarding": True}
    state = {"hasCompletedOnboarding": True, "theme": "dark", "projects": {str(repo): seen}}
    _write_private(home / ".claude.json", state)


def _write_private(path: Path, data: object) -> None:
    path.touch(mode=0o600)
    path.write_text(json.dumps(data), encoding="utf-8")
