"""What users install: the wheel and its sdist, and the environment that whole runs are tested in.

The environment is looked at from outside, by its own programs: this process has the source.
"""

from __future__ import annotations

import email
import hashlib
import json
import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Mapping
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from plandock import __version__
from tests.support import product
from tests.support.machine import CLONE
from tools.setup import wheel

NAMED = f"plandock-{__version__}"
INFO = f"{NAMED}.dist-info"
PROJECT = tomllib.loads((CLONE / "pyproject.toml").read_text())["project"]
SOURCES = {str(path.relative_to(CLONE)): path.read_bytes() for path in wheel.source_files()}

# What a program of the environment sees of itself, with nothing in its own environment.
_LOOK = """
import importlib.metadata as metadata, json, sys
import plandock
installed = {x.name: x.requires or [] for x in metadata.distributions()}
origin = json.loads(metadata.distribution("plandock").read_text("direct_url.json"))
print(json.dumps({
    "package": plandock.__path__[0], "path": sys.path, "installed": installed, "origin": origin,
}))
"""
_LOAD = "import importlib, sys; print(len(list(map(importlib.import_module, sys.argv[1:]))))"


@pytest.fixture(scope="module")
def built() -> wheel.Built:
    """What whole runs are tested with; built here where they are tested with the source."""
    made = wheel.ensure()
    tested = product.program()
    assert tested in (None, made.program), "the sources have changed since the wheel was built"
    return made


def _in_environment(built: wheel.Built, folder: Path, code: str, *words: str) -> str:
    """What a program prints that the environment's Python runs, given no variable at all."""
    argv = [str(built.program.with_name("python")), "-I", "-c", code, *words]
    done = subprocess.run(argv, cwd=folder, env={}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


@pytest.fixture(scope="module")
def seen(built: wheel.Built, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the environment's Python has."""
    found: dict[str, Any] = json.loads(_in_environment(built, tmp_path_factory.mktemp("d"), _LOOK))
    return found


@pytest.fixture(scope="module")
def wheel_files(built: wheel.Built) -> dict[str, bytes]:
    """The wheel's files by name."""
    return _unzipped(built.wheel)


@pytest.fixture(scope="module")
def sdist_files(built: wheel.Built) -> dict[str, bytes]:
    """The sdist's files by name, below its one folder; nobody owns them."""
    found = {}
    with tarfile.open(built.sdist) as archive:
        for member in archive:
            assert member.isfile(), member
            assert (member.uid, member.uname, member.gid, member.gname) == (0, "", 0, "")
            content = archive.extractfile(member)
            assert content is not None
            top, _, name = member.name.partition("/")
            assert top == NAMED
            found[name] = content.read()
    return found


def _unzipped(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _differing(found: Mapping[str, bytes], wanted: Mapping[str, bytes]) -> list[str]:
    """The names that only one of them has, or both with another content."""
    return sorted(n for n in {*found, *wanted} if found.get(n) != wanted.get(n))


def test_package_lies_in_the_environment_alone(built: wheel.Built, seen: dict[str, Any]) -> None:
    """No path leads to the source, and pip installed it from the wheel's file."""
    environment = built.program.parent.parent
    assert Path(seen["package"]).is_relative_to(environment)
    assert Path(seen["package"]) == product.package() or not product.program()
    below = [x for x in seen["path"] if Path(x).is_relative_to(CLONE)]
    assert [x for x in below if not Path(x).is_relative_to(environment)] == []
    assert "dir_info" not in seen["origin"]
    assert Path(seen["origin"]["url"]).name == built.wheel.name


def test_installed_package_is_the_source(seen: dict[str, Any]) -> None:
    """Every file of it, program or data, byte by byte."""
    root = Path(seen["package"])
    files = [x for x in root.rglob("*") if x.is_file() and x.parent.name != "__pycache__"]
    installed = {f"src/plandock/{x.relative_to(root)}": x.read_bytes() for x in files}
    assert _differing(installed, _of_package(SOURCES)) == []


def test_environment_holds_what_the_wheel_needs_and_nothing_else(seen: dict[str, Any]) -> None:
    """No development tool, no pip: an import that the wheel does not declare fails there."""
    needed, waiting = set(), ["plandock"]
    installed = {canonicalize_name(k): v for k, v in seen["installed"].items()}
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name not in needed:
            needed.add(name)
            wanted = [Requirement(x) for x in installed[name]]
            markers = [(x.name, x.marker) for x in wanted]
            waiting += [n for n, marker in markers if not marker or marker.evaluate({"extra": ""})]
    assert set(installed) == needed
    declared = {canonicalize_name(Requirement(x).name) for x in PROJECT["dependencies"]}
    assert declared < needed


def test_every_module_loads_in_the_environment(built: wheel.Built, tmp_path: Path) -> None:
    """All but what runs in containers: none needs tests, tools or an undeclared library."""
    files = [Path(x) for x in SOURCES if x.endswith(".py") and "/inside/" not in x]
    names = [".".join(x.relative_to("src").with_suffix("").parts) for x in files]
    modules = [x.removesuffix(".__init__") for x in names]
    assert int(_in_environment(built, tmp_path, _LOAD, *modules)) == len(modules) > 100


def test_program_starts_with_an_empty_environment(built: wheel.Built, tmp_path: Path) -> None:
    """In an empty folder: nothing beside the environment is needed."""
    done = subprocess.run(
        ["env", "-i", built.program, "--version"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, f"plandock, version {__version__}\n"), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_hook_is_started_in_the_environment(built: wheel.Built, home: Path) -> None:
    """The launcher that `init` writes names the environment's Python and the installed entry."""
    subprocess.run([built.program, "init", "--no-image"], cwd=home, check=True, timeout=120)
    launcher = (home / ".local/state/plandock/hook").read_text().splitlines()
    lines = dict(x.split("=", 1) for x in launcher if x.startswith(("python=", "entry=")))
    assert lines["python"] == str(built.program.with_name("python"))
    entry = Path(lines["entry"])
    assert entry.is_relative_to(built.program.parent.parent)
    assert entry.read_bytes() == SOURCES["src/plandock/hook/entry.py"]


def test_wheel_holds_the_package_and_nothing_else(wheel_files: dict[str, bytes]) -> None:
    """Data files with it; beside it what describes the wheel, the licence's text among it."""
    described = {n: x for n, x in wheel_files.items() if n.startswith(f"{INFO}/")}
    assert {n.removeprefix(f"{INFO}/") for n in described} == {
        "METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"
    }  # fmt: skip
    assert described[f"{INFO}/licenses/LICENSE"] == SOURCES["LICENSE"]
    assert b"\nTag: py3-none-any\n" in described[f"{INFO}/WHEEL"]
    entry = "[console_scripts]\nplandock = plandock.__main__:main\n"
    assert described[f"{INFO}/entry_points.txt"].decode() == entry
    package = {f"src/{n}": x for n, x in wheel_files.items() if n not in described}
    assert _differing(package, _of_package(SOURCES)) == []
    assert {"src/plandock/py.typed", "src/plandock/box/Dockerfile"} <= set(package)


def test_sdist_holds_the_sources_and_nothing_else(
    sdist_files: dict[str, bytes], built: wheel.Built
) -> None:
    """No tests, no tools, nothing that was made here; its description is the wheel's."""
    wanted = {
        **SOURCES,
        ".gitignore": (CLONE / ".gitignore").read_bytes(),
        "PKG-INFO": _unzipped(built.wheel)[f"{INFO}/METADATA"],
    }
    assert _differing(sdist_files, wanted) == []


def test_wheel_of_the_clone_is_that_of_the_sdist(built: wheel.Built, tmp_path: Path) -> None:
    """Set-up builds it from the sdist; the clone itself gives the same one, to the last bit."""
    build = [sys.executable, "-P", "-m", "build", "--no-isolation", "--wheel"]
    subprocess.run([*build, "--outdir", tmp_path, CLONE], check=True, capture_output=True)
    assert _differing(_unzipped(tmp_path / built.wheel.name), _unzipped(built.wheel)) == []
    digests = [hashlib.sha256(x.read_bytes()) for x in (tmp_path / built.wheel.name, built.wheel)]
    assert digests[0].digest() == digests[1].digest()


def test_metadata_says_what_the_project_says(wheel_files: dict[str, bytes]) -> None:
    """Name, licence, what it needs, the README as description; no path of this machine."""
    text = wheel_files[f"{INFO}/METADATA"].decode()
    data: Message = email.message_from_string(text)
    assert (data["Name"], data["Version"], data["Summary"]) == (
        "plandock", __version__, PROJECT["description"]
    )  # fmt: skip
    assert (data["License-Expression"], data["License-File"]) == (PROJECT["license"], "LICENSE")
    assert data["Requires-Python"] == PROJECT["requires-python"]
    needs = [x for x in data.get_all("Requires-Dist", []) if "extra ==" not in x]
    assert needs == PROJECT["dependencies"]
    assert data["Description-Content-Type"] == "text/markdown"
    assert data.get_payload() == SOURCES["README.md"].decode()
    assert [x for x in data.values() if str(CLONE) in x] == []


@pytest.mark.parametrize("engine", ["docker"], indirect=True)
@pytest.mark.parametrize("claude_cli", ["newest"], indirect=True)
def test_image_of_the_wheel_is_that_of_the_source(
    built: wheel.Built, home: Path, engine: str, claude_cli: Path
) -> None:
    """Its tag is a hash of all that is in it: what tests learn of images is true of the wheel's."""
    env = {**os.environ, "PLANDOCK_ENGINE": engine, "PLANDOCK_CLAUDE": str(claude_cli)}
    env["XDG_CACHE_HOME"] = os.environ.get("PLANDOCK_TEST_CACHE", str(CLONE / ".setup/cache"))
    tags = []
    for program in ([built.program], [sys.executable, "-P", "-m", "plandock"]):
        done = subprocess.run(
            [*program, "image", "build"], cwd=home, env=env, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        tags.append(done.stdout.strip())
    assert tags[0].startswith("plandock-box:")
    assert tags[0] == tags[1]


def _of_package(sources: Mapping[str, bytes]) -> dict[str, bytes]:
    return {name: content for name, content in sources.items() if name.startswith("src/")}
