"""Presets in `egress`: the box's own npm and pip, by the real CLI's Bash tool.

The laptop's clients are set up like this machine's own.  Node makes an image of its own, of some
hundred packages, and what npm does in it does not depend on the engine: `make matrix` has it on
each, `make test` on the first alone, and pip on each.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from plandock.box.launch import API_HOST
from plandock.standin import Script, ToolCall, bash, commit, execution_scene
from tests.support import clients, machine
from tests.support.laptop import Laptop
from tests.support.pairs import FULL

pytestmark = [pytest.mark.timeout(1800), pytest.mark.e2e]

ENGINES = machine.wanted_engines()
WITH_NODE = ENGINES if FULL else ENGINES[:1]

PROJECT = {"name": "p", "version": "1.0.0", "dependencies": {"is-number": "7.0.0"}}
LOCK = {
    "name": "p",
    "version": "1.0.0",
    "lockfileVersion": 3,
    "requires": True,
    "packages": {
        "": PROJECT,
        # No address: npm takes it from the registry that it is set up for.
        "node_modules/is-number": {"version": "7.0.0"},
    },
}
NPM = "npm ci >npm.txt 2>&1; echo npm:$? >>out.txt; node -p 'require(\"is-number\")(5)' >>out.txt"
# The image may have it already, as a part of something else: only the home counts.
PIP = (
    "pip install --ignore-installed six >pip.txt 2>&1; echo pip:$? >>out.txt; "
    "ls ~/.local/lib/python3*/site-packages/six.py >/dev/null 2>&1 && echo six >>out.txt; true"
)


@pytest.fixture
def cli() -> Path:
    """The newest CLI."""
    path = os.environ.get(machine.CLI_VERSIONS["newest"], "")
    assert os.access(path, os.X_OK), "the CLI is missing. Next step: `make setup`"
    return Path(path)


def node(engine: str) -> dict[str, str]:
    """The setting that puts Node and npm into the box, where they are tried."""
    return {"PLANDOCK_NODE": "true"} if engine in WITH_NODE else {}


@pytest.fixture
def make_configured(make_laptop: Callable[..., Laptop], cli: Path) -> Callable[..., Laptop]:
    """A laptop whose package clients are set up like this machine's, and a project on it."""

    def make(engine: str, **settings: str) -> Laptop:
        laptop = make_laptop(cli, engine, env={**node(engine), **settings})
        laptop.env |= clients.configure(laptop.home)
        laptop.repo.commit(
            {
                "package.json": json.dumps(PROJECT),
                "package-lock.json": json.dumps(LOCK),
                ".gitignore": "node_modules\n",
            }
        )
        return laptop

    return make


def install(laptop: Laptop) -> str:
    """Hand off a plan that installs with npm and pip; what became of it, as out.txt has it."""
    calls: list[ToolCall] = [bash(NPM, timeout_s=600.0)] if laptop.engine in WITH_NODE else []
    calls += [bash(PIP, timeout_s=600.0), bash("cat npm.txt pip.txt 2>&1; true"), commit("Look")]
    laptop.standin.script = Script(scenes=(execution_scene(calls),))
    done = laptop.plandock(
        "run", "--plan", "-", "--wait", stdin="# The plan\n\nDo it.\n", check=False
    )
    assert done.returncode == 0, laptop.plandock("logs", "last", check=False).stdout
    return laptop.repo.git("show", "feature/auto:out.txt")


def decisions(laptop: Laptop, decision: str) -> set[str]:
    """The targets of one decision of the gateway."""
    return {
        e["target"] for e in laptop.json("logs", "last", "--egress") if e["decision"] == decision
    }


def test_with_the_presets_npm_and_pip_work_in_the_box(
    make_configured: Callable[..., Laptop], engine: str
) -> None:
    """`npm ci` and `pip install`, by the mirrors that the laptop's own clients name."""
    laptop = make_configured(engine, PLANDOCK_EGRESS="npm,pypi")
    out = install(laptop)
    shown = laptop.plandock("logs", "last").stdout
    tried = ["npm", "pypi"] if engine in WITH_NODE else ["pypi"]
    assert out.split() == [*(["npm:0", "true"] if "npm" in tried else []), "pip:0", "six"], shown
    run = laptop.json("show", "last")
    assert set(run["reach"]) == {"npm", "pypi"}
    allowed = {f"{host}:443" for hosts in run["reach"].values() for host in hosts}
    assert decisions(laptop, "allowed") <= allowed
    assert {f"{run['reach'][preset][0]}:443" for preset in tried} <= decisions(laptop, "allowed")
    receipt = laptop.plandock("receipt", "last").stdout
    assert "npm" in receipt
    assert run["reach"]["npm"][0] in receipt


def test_without_presets_npm_and_pip_fail_at_once_and_the_refusal_is_on_record(
    make_configured: Callable[..., Laptop], engine: str
) -> None:
    """Nothing beside the API is reachable: each gives up after its first refusal."""
    laptop = make_configured(engine)
    out = install(laptop)
    assert ("npm:" in out) == (engine in WITH_NODE)
    assert "pip:" in out
    assert "npm:0" not in out
    assert "pip:0" not in out
    assert "six" not in out
    assert decisions(laptop, "allowed") == set()
    entries = laptop.json("logs", "last", "--egress")
    refused = Counter(e["target"] for e in entries)
    assert {e["decision"] for e in entries} == {"refused"}
    # The CLI's own calls beside its model are refused too, the more the longer it runs.
    theirs = {target: n for target, n in refused.items() if not target.startswith(API_HOST)}
    assert len(theirs) >= (2 if engine in WITH_NODE else 1), refused  # npm's and pip's defaults
    assert max(theirs.values()) <= 3, refused  # no retries
    shown = laptop.plandock("logs", "last", "--egress").stdout
    assert [json.loads(line) for line in shown.splitlines()] == entries
    assert next(iter(refused)) in laptop.plandock("receipt", "last").stdout
    assert laptop.json("show", "last")["reach"] == {}
