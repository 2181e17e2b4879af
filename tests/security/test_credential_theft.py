"""An agent that wants a secret: what it may try in its box, each with its positive control."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from plandock.claude.login import PLACEHOLDER
from plandock.standin import StandIn, ToolCall, bash
from tests.e2e.conftest import scenes
from tests.support import machine
from tests.support.heldrun import HeldRun
from tests.support.laptop import Laptop
from tests.support.searcher import canary
from tests.support.thefts import CONTROL, THEFTS, Theft

pytestmark = [pytest.mark.timeout(300), pytest.mark.e2e]

OWN_KEY = "sk-ant-api03-the-agents-own-key-" + "k" * 40
# The user's own files with secrets, none of which is to be seen in a box.
HOST_FILES = (
    ".netrc", ".ssh/id_ed25519", ".docker/config.json", ".aws/credentials", ".npmrc",
    ".config/gh/hosts.yml", ".git-credentials",
)  # fmt: skip


@dataclass
class Scene:
    """A run that is held half-way, and the secrets that are somewhere around it."""

    held: HeldRun
    mode: str
    access: str
    refresh: str
    host: str

    def try_it(self, script: str) -> str:
        """Run a program as the agent; what it says."""
        laptop = self.held.laptop
        places = {
            "{repo}": str(laptop.repo.root),
            "{home}": str(laptop.home),
            "{port}": str(urlsplit(laptop.standin.url).port),
        }
        for name, value in places.items():
            script = script.replace(name, value)
        return self.held.execute("bash", data=script)[1]

    def secrets_in(self, said: str, *, own: bool) -> list[str]:
        """Which secrets were come by; ``own``: the access token of an open box is no theft."""
        known = {"refresh": self.refresh, "host": self.host}
        if self.mode == "sealed" or not own:
            known["access"] = self.access
        return [name for name, value in known.items() if value.rpartition("-")[2] in said]


def _set_up(root: Path, engine: str, mode: str, standin: StandIn, *more: ToolCall) -> Scene:
    cli = Path(os.environ.get(machine.CLI_VERSIONS["newest"], "/absent"))
    env = {"PLANDOCK_CREDENTIALS": mode}
    laptop = Laptop(root, cli=cli, engine=engine, standin=standin, env=env)
    access, refresh, host = canary("oat"), canary("ort"), canary("oat")
    file = laptop.config / ".credentials.json"
    held = json.loads(file.read_text())
    held["claudeAiOauth"] |= {"accessToken": access, "refreshToken": refresh}
    file.write_text(json.dumps(held))
    for name in HOST_FILES:
        place = laptop.home / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"{host}\n")
    git = laptop.repo.git
    git("remote", "add", "origin", f"https://ada:{host}@example.invalid/x.git")
    git("config", "http.extraHeader", f"Authorization: Bearer {host}")
    hook = laptop.repo.root / ".git/hooks/pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\n# {host}\n")
    return Scene(HeldRun(laptop, *more), mode, access, refresh, host)


@pytest.fixture(
    scope="module", params=[f"{e}-{m}" for e in ("docker", "podman") for m in ("sealed", "host")]
)
def scene(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    """One held run for all thefts, on each engine, sealed and not."""
    engine, mode = request.param.split("-")
    if reason := machine.why_engine_is_absent(engine):
        pytest.fail(reason, pytrace=False)
    with StandIn(scenes()) as standin:
        made = _set_up(tmp_path_factory.mktemp("thefts"), engine, mode, standin)
        yield made
        assert made.held.let_go()["state"] == "done"
        made.held.laptop.clean_up()


@pytest.mark.parametrize("theft", THEFTS, ids=lambda t: t.claim.replace(" ", "-"))
def test_a_theft_comes_to_nothing(scene: Scene, theft: Theft) -> None:
    """The attack brings no secret, and fails as said; the same technique works where allowed."""
    said = scene.try_it(theft.attack)
    assert scene.secrets_in(said, own=theft.own) == [], said[-3000:]
    assert re.search(theft.needs, said, re.MULTILINE), said[-3000:]
    assert CONTROL in (shown := scene.try_it(theft.control)), shown[-3000:]


def test_positive_control_what_an_open_box_holds_is_seen_when_it_is_read(scene: Scene) -> None:
    """The judge is not blind: the access token of an open box, the placeholder of a sealed one."""
    said = scene.try_it("cat ~/.claude/.credentials.json")
    if scene.mode == "sealed":
        assert PLACEHOLDER in said
        assert scene.secrets_in(said, own=False) == []
    else:
        assert scene.secrets_in(said, own=False) == ["access"]


ASK = """
import json, sys, urllib.request
body = json.dumps({"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]})
for headers in HEADERS:
    r = urllib.request.Request("http://127.0.0.1:3129/v1/messages?beta=true", body.encode(),
        {"content-type": "application/json", "anthropic-version": "2023-06-01", **headers})
    try: print(urllib.request.urlopen(r, timeout=20).status)
    except urllib.error.HTTPError as e: print(e.code)
"""
OWN_HEADERS = (
    {"x-api-key": OWN_KEY},
    {"Authorization": f"Bearer {OWN_KEY}"},
    {"X-Api-Key": OWN_KEY, "authorization": f"Bearer {OWN_KEY}"},
    {"Proxy-Authorization": f"Bearer {OWN_KEY}", "x-API-KEY": OWN_KEY},
)


def test_in_a_sealed_box_no_key_of_the_agents_reaches_the_api(scene: Scene) -> None:
    """Whatever it sends, the login's own token pays; in an open box (control) its key arrives."""
    standin = scene.held.laptop.standin
    before = len(standin.requests)
    script = ASK.replace("HEADERS", repr(OWN_HEADERS))
    scene.try_it(f"python3 -I - <<'PY'\n{script}\nPY")
    seen = [r for r in standin.requests[before:] if r.method == "POST" and not r.session_id]
    assert len(seen) >= len(OWN_HEADERS)
    tokens = {(r.auth, r.token) for r in seen}
    if scene.mode == "sealed":
        assert tokens == {("bearer", scene.access)}
    else:
        assert ("x-api-key", OWN_KEY) in tokens


LOOK = (
    "cat ~/.claude/.credentials.json; cat ~/.claude/.credentials.json > seen.txt; "
    "cat /proc/*/environ | tr '\\0' '\\n' >> seen.txt; git remote -v >> seen.txt; "
    "ls -a ~ ~/.ssh ~/.docker >> seen.txt 2>&1; true"
)


@pytest.mark.parametrize("mode", ["sealed", "host"])
def test_what_the_real_clis_agent_says_aloud_is_kept_without_its_token(
    tmp_path: Path, engine: str, mode: str
) -> None:
    """By its Bash tool: the output and the conversation hold a mark; a sealed branch, nothing.

    What an agent of an open box writes into a commit is its own work, and README says so: that
    is the positive control, by which it is known that the token was there to be said.
    """
    with StandIn(scenes()) as standin:
        made = _set_up(tmp_path, engine, mode, standin, bash(LOOK))
        laptop = made.held.laptop
        try:
            run = made.held.let_go()
            assert run["state"] == "done", run
            shown = ""
            for words in (["logs", "last"], ["show", "last"], ["receipt", "last"], ["ps"]):
                shown += laptop.plandock(*words).stdout + laptop.plandock(*words).stderr
            for words in (["show", "last"], ["receipt", "last"]):
                shown += json.dumps(laptop.json(*words))
            own = {laptop.config / ".credentials.json", *(laptop.home / f for f in HOST_FILES)}
            own |= {laptop.repo.root / ".git/config", laptop.repo.root / ".git/hooks/pre-commit"}
            for path in laptop.home.rglob("*"):
                inside = path.is_relative_to(laptop.repo.root)
                if path.is_file() and path not in own and not inside:
                    shown += path.read_bytes().decode("utf-8", "replace")
            assert "[redacted]" in shown
            assert made.secrets_in(shown, own=False) == []
            committed = laptop.repo.git("show", "feature/auto:seen.txt")
            assert made.secrets_in(committed, own=True) == []
            assert (PLACEHOLDER if mode == "sealed" else made.access) in committed
        finally:
            laptop.clean_up()
