"""An engine that gives less than was asked for: the run ends before anything of the agent's runs.

The wrapper stands for a configuration of the engine's own, or another program of its name.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from plandock import proc
from tests.support import machine
from tests.support.journal import note
from tests.support.laptop import Laptop

pytestmark = [pytest.mark.timeout(300), pytest.mark.e2e]

# Takes one protection away from each box that is created, and from nothing else.
WRAPPER = """#!{python} -I
import os, sys
words = sys.argv[1:]
if "create" in words and any(w.endswith("-box") for w in words):
    {change}
os.execv({program!r}, [{program!r}, *words])
"""
DROP_PAIR = "i = words.index({0!r}); del words[i:i + 2]"
SET = "words[words.index({0!r}) + 1] = {1!r}"
ADD = "i = words.index('--name'); words[i:i] = {0!r}"
CASES = {
    "network": (SET.format("--network", "NETWORK"), "network"),
    "capabilities": (DROP_PAIR.format("--cap-drop"), "capabilities"),
    "read-only": ("words.remove('--read-only')", "root-read-only"),
    "no-new-privileges": (DROP_PAIR.format("--security-opt"), "no-new-privileges"),
    "a-host-folder": (ADD.format(["--volume", "FOLDER:/host"]), "mounts"),
    "privileged": (ADD.format(["--privileged"]), "capabilities"),
    "root": (SET.format("--user", "0:0"), "user"),
    "processes-of-the-host": (ADD.format(["--pid", "host"]), "processes"),
    "memory": (DROP_PAIR.format("--memory-swap") + "; " + DROP_PAIR.format("--memory"), "cgroup"),
    "seccomp": (ADD.format(["--security-opt", "seccomp=unconfined"]), "seccomp"),
}


@pytest.fixture
def cli() -> Path:
    """The newest CLI."""
    path = os.environ.get(machine.CLI_VERSIONS["newest"], "")
    assert os.access(path, os.X_OK), "the CLI is missing. Next step: `make setup`"
    return Path(path)


@pytest.fixture
def network() -> Iterator[str]:
    """A network of this test's own that leads nowhere."""
    name = f"plandock-test-{secrets.token_hex(4)}"
    note("name", name)
    proc.run(["docker", "network", "create", "--internal", name])
    yield name
    proc.run(["docker", "network", "rm", name], check=False)


@pytest.mark.parametrize("case", CASES)
def test_a_box_with_one_protection_less_is_never_given_to_the_agent(
    make_laptop: Callable[..., Laptop], cli: Path, tmp_path: Path, network: str, case: str
) -> None:
    """Exit code 22, the check is named, and not one request was made."""
    change, check = CASES[case]
    laptop = make_laptop(cli, "docker")
    (tmp_path / "folder").mkdir()
    change = change.replace("NETWORK", network).replace("FOLDER", str(tmp_path / "folder"))
    _wrap(laptop, tmp_path / "bin", change)
    done = laptop.plandock("run", "--plan", "-", "--wait", stdin="# Plan\n", check=False)
    run = laptop.json("show", "last")
    assert done.returncode == 22, (done.stdout, done.stderr, run["message"])
    assert (run["state"], run["reason"], run["commits"]) == ("failed", "isolation", 0)
    assert check in run["isolation"] or check in run["message"]
    assert laptop.standin.requests == []
    assert laptop.plandock("wait", "last", check=False).returncode == 22


def test_with_the_wrapper_and_nothing_taken_away_the_run_goes_well(
    make_laptop: Callable[..., Laptop], cli: Path, tmp_path: Path
) -> None:
    """The positive control: it is the protection, not the wrapper, that makes the difference."""
    laptop = make_laptop(cli, "docker")
    _wrap(laptop, tmp_path / "bin", "pass")
    done = laptop.plandock("run", "--plan", "-", "--wait", stdin="# Plan\n", check=False)
    assert done.returncode == 0, (done.stdout, done.stderr)
    run = laptop.json("show", "last")
    assert "checks passed" in run["isolation"]
    assert "checks passed" in laptop.plandock("receipt", "last").stdout


def _wrap(laptop: Laptop, folder: Path, change: str) -> None:
    folder.mkdir()
    program = shutil.which("docker")
    python = shutil.which("python3")
    wrapper = folder / "docker"
    wrapper.write_text(WRAPPER.format(python=python, change=change, program=program))
    wrapper.chmod(0o755)
    laptop.env["PATH"] = f"{folder}:{laptop.env['PATH']}"
