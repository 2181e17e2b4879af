"""The checker of dependencies finds what it is there to find."""

from pathlib import Path

import pytest

from tools import check_imports

CLEAN = {
    "__init__.py": "",
    "errors.py": "",
    "proc.py": "import subprocess\nfrom plandock.errors import x",
    "runs/__init__.py": "",
    "runs/store.py": "import sqlite3\nfrom plandock import errors, proc",
    "engines/__init__.py": "from plandock.runs import store",
    "engines/protocol.py": "import typing\nif typing.TYPE_CHECKING:\n    import subprocess",
    "box/__init__.py": "from plandock.claude import binary\nfrom plandock import engines",
    "box/inside/agent.py": "import os, subprocess\nos.execv('a', ['a'])",
    "claude/__init__.py": "",
    "claude/binary.py": "",
    "standin/__init__.py": "from . import script\nfrom plandock.standin import script",
    "standin/script.py": "",
    "hook/__init__.py": "",
    "hook/entry.py": "import json\nfrom plandock.runs import store\nfrom . import decide",
    "hook/decide.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import click\n",
    "demo/__init__.py": "from plandock import standin",
}


def tree(root: Path, **changed: str) -> Path:
    """Write the clean tree with some files replaced; keys use `__` for `/` and lack `.py`."""
    files = CLEAN | {f"{key.replace('__', '/')}.py": text for key, text in changed.items()}
    for name, text in files.items():
        path = root / "plandock" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root / "plandock"


def test_a_tree_that_points_down_is_accepted(tmp_path):
    """The positive control: every allowed kind of import passes."""
    assert check_imports.violations(tree(tmp_path)) == []


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"engines__docker": "import plandock.box"}, "which is above it"),
        ({"engines__docker": "from .. import claude"}, "which is above it"),
        ({"engines__docker": "def f():\n    from plandock.box import x"}, "which is above it"),
        ({"claude__binary": "from plandock.box import x"}, "a peer"),
        ({"surprise": ""}, "stands in no layer"),
        ({"standin__script": "from plandock.errors import x"}, "nothing of plandock but itself"),
        ({"box__image": "import plandock.standin"}, "only demo and tests use the stand-in"),
        ({"engines__docker": "import subprocess"}, "imports `subprocess`"),
        ({"engines__docker": "import os as o\no.posix_spawn"}, "uses `os.posix_spawn`"),
        ({"engines__docker": "from os import execvp"}, "uses `os.execvp`"),
        ({"engines__docker": "import os\nos.system('x')"}, "uses `os.system`"),
        ({"hook__decide": "import click"}, "not of the standard library"),
        ({"hook__decide": "from plandock.engines import x"}, "the hook reaches `plandock.engines`"),
    ],
)
def test_each_kind_of_violation_is_found(tmp_path, changed, says):
    """One wrong import in an otherwise clean tree is one line that names it."""
    found = check_imports.violations(tree(tmp_path, **changed))
    assert len(found) == 1
    assert says in found[0]


def test_the_hook_is_followed_through_what_it_imports(tmp_path):
    """A third-party import two modules away from the hook is still the hook's cost."""
    found = check_imports.violations(tree(tmp_path, errors="import rich"))
    assert found == [
        "errors.py:1: the hook reaches `rich` (by plandock.hook.entry → plandock.runs.store"
        " → plandock.errors), which is not of the standard library"
    ]


def test_a_line_names_file_and_line(tmp_path):
    """The place can be opened from the message."""
    (found,) = check_imports.violations(tree(tmp_path, engines__docker="\n\nimport subprocess"))
    assert found.startswith("engines/docker.py:3:")


@pytest.mark.parametrize(("extra", "code"), [({}, 0), ({"engines__docker": "import pty"}, 1)])
def test_the_exit_code_says_whether_anything_was_found(tmp_path, capsys, extra, code):
    """Zero for a clean tree, one otherwise, and something is printed either way."""
    assert check_imports.main(tree(tmp_path, **extra)) == code
    assert capsys.readouterr().out.startswith("engines/docker.py:1" if code else "imports: every")
