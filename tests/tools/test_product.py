"""What whole runs are tested with: the wheel of exactly these sources, or the source; never an
older wheel, and in CI never the source."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.support import product
from tests.support.machine import CLONE
from tools.setup import wheel


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Sources of this test's own."""
    made = tmp_path / "clone"
    (made / "src/plandock/__pycache__").mkdir(parents=True)
    for name in wheel.SOURCES[:-1]:
        shutil.copy(CLONE / name, made)
    (made / "src/plandock/a.py").write_text("A = 1\n")
    return made


@pytest.fixture
def undecided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A set-up folder without a wheel, and nothing settled; outside CI."""
    monkeypatch.setenv("PLANDOCK_SETUP_DIR", str(tmp_path / "setup"))
    monkeypatch.delenv(product.VARIABLE)
    monkeypatch.delenv("CI", raising=False)
    return tmp_path / "setup"


def _pretend(setup: Path) -> Path:
    """Make the folder of a wheel of these sources; its program."""
    folder = setup / "wheel" / wheel.digest()
    (folder / "dist").mkdir(parents=True)
    return folder / "environment/bin/plandock"


@pytest.mark.parametrize("change", ["content", "name", "added", "removed", "project"])
def test_digest_changes_with_any_source(clone: Path, change: str) -> None:
    """A file's content or name, one more, one less, what the project declares."""
    before, file = wheel.digest(clone), clone / "src/plandock/a.py"
    match change:
        case "content":
            file.write_text("A = 2\n")
        case "name":
            file.rename(file.with_name("b.py"))
        case "added":
            (clone / "src/plandock/data").write_text("")
        case "removed":
            file.unlink()
        case _:
            with (clone / "pyproject.toml").open("a") as project:
                project.write("\n")
    assert wheel.digest(clone) != before


def test_digest_stays_when_what_is_not_built_changes(clone: Path) -> None:
    """Bytecode, tests and the times of files are no part of it."""
    before = wheel.digest(clone)
    (clone / "src/plandock/__pycache__/a.pyc").write_bytes(b"x")
    (clone / "tests").mkdir()
    (clone / "tests/test_a.py").write_text("")
    os.utime(clone / "src/plandock/a.py", (1, 1))
    assert wheel.digest(clone) == before


def test_wheel_of_these_sources_is_tested(undecided: Path) -> None:
    """Program, Python, and the line that says so."""
    program = _pretend(undecided)
    assert product.argv("ps", "--json") == [str(program), "ps", "--json"]
    assert product.python() == str(program.with_name("python"))
    assert str(program) in product.described()


def test_source_is_tested_where_the_wheel_is_another_ones(
    undecided: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wheel of the sources before an edit is not touched."""
    program = _pretend(undecided)
    monkeypatch.setattr(wheel, "digest", lambda: "after-an-edit")
    assert product.argv("ps") == [sys.executable, "-P", "-m", "plandock", "ps"]
    assert product.python() == sys.executable
    assert product.package() == CLONE / "src/plandock"
    assert str(program) not in product.described()


def test_half_built_wheel_is_not_tested(undecided: Path) -> None:
    """The archives are put into place last."""
    _pretend(undecided).parent.mkdir(parents=True)
    (undecided / "wheel" / wheel.digest() / "dist").rmdir()
    assert product.program() is None


def test_what_is_settled_stays_settled(undecided: Path) -> None:
    """A wheel that is finished in the middle of the tests changes nothing for the rest of them."""
    product.choose()
    _pretend(undecided)
    assert product.program() is None


def test_source_is_not_tested_in_ci(undecided: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The absence of the wheel fails each test that starts the product, and names the step."""
    monkeypatch.setenv("CI", "true")
    with pytest.raises(AssertionError, match="make setup"):
        product.argv("ps")
