"""A copy of the tree with an interpreter of its own, so that what is broken is broken there alone.

The interpreter matters: the supervisor and the hook are started with ``-I``, to which PYTHONPATH
is nothing, and the clone's own .venv would lead them to the clone's sources.  A mutation that is
not in effect looks like one that no test catches.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tools.setup.folder import read_env, setup_dir

_PROGRAM = "#!{python}\nimport sys\nfrom plandock.__main__ import main\nsys.exit(main())\n"


@dataclass(frozen=True)
class CopiedTree:
    """A copy below ``root``, its interpreter, and a folder for what tests write."""

    root: Path
    python: Path
    scratch: Path

    def write(self, file: str, text: str) -> None:
        """Replace one file of the copy."""
        (self.root / file).write_text(text, "utf-8")

    def environment(self) -> dict[str, str]:
        """What its tests are started with: this process's, set-up's, and the copy's Python."""
        dropped = {"CI", "VIRTUAL_ENV", "PYTEST_ADDOPTS", "PYTHONHOME", "PYTHONPATH"}
        kept = {name: value for name, value in os.environ.items() if name not in dropped}
        path = os.environ.get("PATH", os.defpath)
        return kept | {
            **read_env(),
            "PLANDOCK_SETUP_DIR": str(setup_dir()),
            # Never an installed wheel: the mutation is in the copy's source alone.
            "PLANDOCK_TEST_PROGRAM": "",
            "PATH": f"{self.python.parent}:{path}",
        }


@contextmanager
def copied_tree(source: Path) -> Iterator[CopiedTree]:
    """A copy of what git tracks in ``source``, as it lies there, and of new unignored files.

    Removed at the end.  Raises :class:`RuntimeError` where Python would not take the copy's
    `plandock` before every other.
    """
    # A short name: tests put sockets below it, whose paths end at 107 bytes.
    with tempfile.TemporaryDirectory(prefix="pm-", ignore_cleanup_errors=True) as folder:
        place = Path(folder).resolve()
        copy = CopiedTree(place / "tree", _interpreter(place), place / "t")
        for name in _files(source):
            target = copy.root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, target, follow_symlinks=False)
        _check(copy)
        yield copy


def _files(source: Path) -> list[str]:
    argv = ["git", "-C", str(source), "ls-files", "-z", "--cached", "--others"]
    listed = subprocess.run([*argv, "--exclude-standard"], check=True, capture_output=True).stdout
    names = (os.fsdecode(name) for name in listed.split(b"\0") if name)
    return [name for name in names if os.path.lexists(source / name)]


def _interpreter(place: Path) -> Path:
    """A virtual environment that sees the copy first, then what this one has installed.

    A folder that a `.pth` file names has its own `.pth` files left alone: so the editable install
    of the clone is not heard of.
    """
    home = place / "v"
    venv.EnvBuilder(symlinks=True).create(home)
    where = {"base": str(home), "platbase": str(home)}
    packages = Path(sysconfig.get_path("purelib", "venv", where))
    lines = [place / "tree" / "src", sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    (packages / "mutations.pth").write_text("".join(f"{line}\n" for line in dict.fromkeys(lines)))
    python = home / "bin" / "python"
    program = home / "bin" / "plandock"
    program.write_text(_PROGRAM.format(python=python))
    program.chmod(0o755)
    return python


def _check(copy: CopiedTree) -> None:
    code = "import plandock; print(plandock.__file__)"
    done = subprocess.run(
        [str(copy.python), "-I", "-c", code],
        cwd=copy.root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = done.stdout.strip()
    if not found or not Path(found).resolve().is_relative_to(copy.root):
        said = found or done.stderr.strip()
        raise RuntimeError(f"{sys.executable}: the copy's plandock is not the one used: {said}")
