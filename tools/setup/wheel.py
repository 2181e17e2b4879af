"""The sdist and the wheel of these sources, and a clean environment that holds the wheel alone.

All of it lies in a folder that is named by a digest of what it is made from: a wheel of other
sources has another folder, so that no stale one can be taken for theirs.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.setup.commands import attempt, require, say
from tools.setup.folder import CLONE, locked, setup_dir

SOURCES = ("LICENSE", "README.md", "pyproject.toml", "src")
KEPT_S = 24 * 3600.0
"""How long folders of other sources stay: another `make test` may be using one."""


@dataclass(frozen=True)
class Built:
    """What was built of one state of the sources; `folder` is named by their digest."""

    folder: Path

    @property
    def wheel(self) -> Path:
        """The wheel's file, built from the sdist."""
        return next((self.folder / "dist").glob("*.whl"))

    @property
    def sdist(self) -> Path:
        """The file with the sources."""
        return next((self.folder / "dist").glob("*.tar.gz"))

    @property
    def program(self) -> Path:
        """The installed `plandock`; the environment's Python lies beside it."""
        return self.folder / "environment" / "bin" / "plandock"


def source_files(clone: Path = CLONE) -> Iterator[Path]:
    """Every file that the archives are made from, in one order; no bytecode."""
    for name in SOURCES:
        top = clone / name
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_file() and path.parent.name != "__pycache__":
                yield path


def digest(clone: Path = CLONE) -> str:
    """What the wheel and its environment depend on, as 16 digits.

    The sources, the interpreter, the versions of the libraries (those of this environment), and
    the place, which is written into the environment.
    """
    seen = hashlib.sha256()
    for fact in (sys.version, sys.base_prefix, str(setup_dir()), *_versions()):
        seen.update(os.fsencode(fact) + b"\0")
    for path in source_files(clone):
        content = hashlib.sha256(path.read_bytes()).digest()
        seen.update(os.fsencode(path.relative_to(clone)) + b"\0" + content)
    return seen.hexdigest()[:16]


def built() -> Built | None:
    """What was built of the sources as they are now; None where nothing was."""
    folder = _place() / digest()
    # The archives are put there last.
    return Built(folder) if (folder / "dist").is_dir() else None


def ensure() -> Built:
    """Build and install unless that was done with these very sources.

    Raises `SetupError` with the last words of the program that failed.
    """
    with locked("wheel"):
        found = built()
        if found is None:
            found = _build(_place() / digest())
            _forget_old_ones(found.folder)
        else:
            say(f"{found.wheel.name}: built of these sources")
        os.utime(found.folder)
        return found


def _place() -> Path:
    return setup_dir() / "wheel"


def _versions() -> list[str]:
    """The installed distributions as pip's constraints: wheel and source run on the same ones."""
    found = {(x.name, x.version) for x in importlib.metadata.distributions()}
    return sorted(f"{name}=={version}" for name, version in found if name != "plandock")


def _build(folder: Path) -> Built:
    say("building sdist and wheel, and an environment that holds nothing else")
    shutil.rmtree(folder, ignore_errors=True)
    draft = folder / "draft"
    draft.mkdir(parents=True)
    # With what the development environment has, so that nothing is fetched; -P, because a folder
    # `build` in the clone is not the program.
    build = [sys.executable, "-P", "-m", "build", "--no-isolation", "--outdir"]
    require(
        [*build, draft, CLONE], hint=f"see what `{sys.executable} -m build --no-isolation` says"
    )
    (wheel,) = draft.glob("*.whl")
    _install(wheel, folder / "environment")
    draft.rename(folder / "dist")
    done = Built(folder)
    require([done.program, "--version"], hint="the installed wheel does not start; run that")
    return done


def _install(wheel: Path, environment: Path) -> None:
    """A new environment with the wheel and what it depends on: no pip, no development tools."""
    hint = "see whether `pip download rich` works; pip config list shows its sources"
    require([sys.executable, "-m", "venv", "--without-pip", environment], hint=hint)
    versions, house = wheel.with_name("constraints.txt"), _place() / "house"
    versions.write_text("\n".join(_versions()))
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    install = [*pip, "--python", environment / "bin/python", "install", "--no-index"]
    install += ["--find-links", house, "--constraint", versions, wheel]
    # What was fetched once is kept, so that a changed source needs no network.
    if attempt(install, timeout_s=600).returncode != 0:
        require([*pip, "wheel", "-w", house, "--constraint", versions, wheel], hint=hint)
        require(install, hint=hint)
    versions.unlink()


def _forget_old_ones(current: Path) -> None:
    for folder in _place().iterdir():
        stale = folder.name not in (current.name, "house")
        if stale and time.time() - folder.stat().st_mtime > KEPT_S:
            shutil.rmtree(folder, ignore_errors=True)
