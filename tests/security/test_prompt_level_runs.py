"""Whole runs of hostile plans in hostile folders: a branch comes back, and nothing was run here.

The trap `owned` lies on the PATH of the user's terminal, Claude Code, hook and supervisor; see
:mod:`tests.support.prompts`.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from plandock.standin import StandIn, planning_scene
from tests.e2e.conftest import scenes
from tests.support import claude_screen, machine, prompts
from tests.support.laptop import Laptop
from tests.support.tmux import Tmux

pytestmark = [pytest.mark.timeout(1800), pytest.mark.e2e]

PLAN = (
    "# Add $(owned) `owned`; owned; {run} ../.lock --upload-pack=owned\n\n"
    "--exec=owned \x1b]0;owned\x07\x1b[2J\u202e\n$(owned)\nowned\n'\"; owned; '\n"
)
FOLDER = "$(owned) -x; owned, '\"`owned`"


@pytest.fixture
def cli() -> Path:
    """The newest CLI."""
    return Path(os.environ.get(machine.CLI_VERSIONS["newest"], "/absent"))


def trapped(make: Callable[..., Laptop], cli: Path, tmp_path: Path) -> tuple[Laptop, Path]:
    """A laptop with the trap on its PATH, in a repository of a hostile name; and the marker."""
    laptop, marker = make(cli, repo_name=FOLDER), tmp_path / "marker"
    prompts.put_trap(tmp_path / "trap", marker)
    laptop.env["PATH"] = f"{tmp_path / 'trap'}:{laptop.env['PATH']}"
    laptop.env["PLANDOCK_BRANCH"] = "auto/{slug}"
    subprocess.run(["/bin/sh", "-c", PLAN], env=laptop.env, capture_output=True, check=False)
    assert marker.exists(), "the trap does not work"
    marker.unlink()
    return laptop, marker


def nothing_shows_an_escape(laptop: Laptop) -> None:
    """What the user can look at of the run is fit for a terminal."""
    for words in (["ps"], ["show", "last"], ["receipt", "last"], ["logs", "last"]):
        done = laptop.plandock(*words)
        assert prompts.steering(done.stdout + done.stderr) == [], words


def test_a_hostile_plan_in_a_hostile_folder_is_carried_out_as_words(
    make_laptop: Callable[..., Laptop], cli: Path, tmp_path: Path
) -> None:
    """By hand, with a hostile name as the author: the model gets it, the host runs nothing."""
    laptop, marker = trapped(make_laptop, cli, tmp_path)
    laptop.repo.git("config", "user.name", "Eve $(owned)\n--exec=owned\x1b[2J")
    laptop.repo.write({"dirty $(owned).txt": "mine\n"})
    before, refs = laptop.fingerprint(), laptop.refs()
    with StandIn(scenes(), keep_bodies=True) as standin:
        laptop.env["PLANDOCK_UPSTREAM"] = standin.url
        done = laptop.plandock("run", "--plan", "-", "--wait", stdin=PLAN, check=False)
        told = json.dumps([dict(r.body or {}) for r in standin.model_requests])
    assert done.returncode == 0, done.stdout + done.stderr + laptop.plandock("show", "last").stdout
    assert not marker.exists()
    run = laptop.json("show", "last")
    assert (run["state"], run["commits"]) == ("done", 2)
    assert run["branch"].startswith("auto/add-owned-owned")
    assert set(laptop.refs()) - set(refs) == {f"refs/heads/{run['branch']}"}
    assert json.dumps("\n$(owned)\nowned\n'\"; owned; '")[1:-1] in told
    assert laptop.fingerprint() == before
    authors = set(laptop.repo.git("log", "--format=%an", f"main..{run['branch']}").splitlines())
    assert len(authors) == 1
    assert "$(owned)" in authors.pop()
    nothing_shows_an_escape(laptop)
    assert laptop.leftovers() == []
    assert not marker.exists()


def test_a_hostile_plan_that_is_accepted_in_claude_code_runs_nothing_here(
    make_laptop: Callable[..., Laptop], cli: Path, tmp_path: Path, tmux: Tmux
) -> None:
    """Proposed by the model, accepted in the dialog: launcher, hook and supervisor run no word."""
    laptop, marker = trapped(make_laptop, cli, tmp_path)
    laptop.standin.script = scenes(planning_scene(PLAN))
    laptop.plandock("init", "--scope", "user")
    before = laptop.fingerprint()
    laptop.plan(tmux)
    claude_screen.choose(tmux, claude_screen.AUTOMATIC)
    tmux.wait_for(r"handed off as r\w+ → branch auto/", 240)
    done = laptop.plandock("wait", "last", "--timeout", "600", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    run = laptop.json("show", "last")
    assert (run["fresh"], run["state"], run["commits"]) == (False, "done", 2)
    assert run["branch"].startswith("auto/add-owned-owned")
    assert laptop.fingerprint() == before
    nothing_shows_an_escape(laptop)
    tmux.send("C-c")
    tmux.send("C-c")
    assert not marker.exists()
