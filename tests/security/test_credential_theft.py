"""An agent that wants a secret: what it may try in its box, each with its positive control."""

from __future__ import annotations

import json
import os
import re
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from plandock.claude.login import PLACEHOLDER
from plandock.standin import StandIn, bash
from tests.e2e.conftest import scenes
from tests.security.executor import Executor
from tests.support import machine
from tests.support.heldrun import HeldRun
from tests.support.laptop import Laptop
from tests.support.searcher import canary
from tests.support.thefts import CONTROL, THEFTS, Theft

pytestmark = [pytest.mark.timeout(1800), pytest.mark.e2e]

OWN_KEY = "sk-ant-api03-the-agents-own-key-" + "k" * 40
# The user's own files with secrets, none of which is to be seen in a box.
HOST_FILES = (
    ".netrc", ".ssh/id_ed25519", ".docker/config.json", ".aws/credentials", ".npmrc",
    ".config/gh/hosts.yml", ".git-credentials",
)  # fmt: skip


ASK = """
import json, sys, urllib.request
body = json.dumps({"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]})
for headers in HEADERS:
    r = urllib.request.Request("http://127.0.0.1:3129/v1/messages?beta=true", body.encode(),
        {"content-type": "application/json", "anthropic-version": "2023-06-01", **headers})
    try: print(urllib.request.urlopen(r, timeout=120).status)
    except urllib.error.HTTPError as e: print(e.code)
"""
OWN_HEADERS = (
    {"x-api-key": OWN_KEY},
    {"Authorization": f"Bearer {OWN_KEY}"},
    {"X-Api-Key": OWN_KEY, "authorization": f"Bearer {OWN_KEY}"},
    {"Proxy-Authorization": f"Bearer {OWN_KEY}", "x-API-KEY": OWN_KEY},
)
LOOK = (
    "cat ~/.claude/.credentials.json; cat ~/.claude/.credentials.json > seen.txt; "
    "cat /proc/*/environ | tr '\\0' '\\n' >> seen.txt; git remote -v >> seen.txt; "
    "ls -a ~ ~/.ssh ~/.docker >> seen.txt 2>&1; true"
)


@dataclass
class Outcome:
    """What an agent came by in a whole run, and the secrets that were somewhere around it."""

    mode: str
    access: str
    refresh: str
    host: str
    thefts: dict[str, tuple[str, str]] = field(default_factory=dict)  # attack and control, by claim
    credentials: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)
    run: dict[str, Any] = field(default_factory=dict)
    shown: str = ""
    committed: str = ""

    def secrets_in(self, said: str, *, own: bool) -> list[str]:
        """Which secrets were come by; ``own``: the access token of an open box is no theft."""
        known = {"refresh": self.refresh, "host": self.host}
        if self.mode == "sealed" or not own:
            known["access"] = self.access
        return [name for name, value in known.items() if value.rpartition("-")[2] in said]


def _plant(laptop: Laptop, mode: str) -> Outcome:
    """Put secrets wherever a user has them."""
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
    return Outcome(mode, access, refresh, host)


def _try_everything(held: HeldRun, found: Outcome) -> None:
    """Run every theft and its control in the box, as the agent, and ask the API with its keys."""
    laptop, standin = held.laptop, held.laptop.standin
    places = {
        "{repo}": str(laptop.repo.root),
        "{home}": str(laptop.home),
        "{port}": str(urlsplit(standin.url).port),
    }
    words = [held.engine, "exec", "-i", "--user", "1000:1000", held.box]
    executor = Executor(words)

    def attempt(script: str) -> str:
        for name, value in places.items():
            script = script.replace(name, value)
        done = executor.run(script, limit_s=600.0)
        assert done.returncode != 124, f"it did not end: {script}"
        return (done.stdout + done.stderr).decode("utf-8", "replace")

    try:
        for theft in THEFTS:
            said = attempt(theft.attack)
            found.thefts[theft.claim] = said, attempt(theft.control) if theft.control else said
        found.credentials = attempt("cat ~/.claude/.credentials.json")
        before = len(standin.requests)
        script = ASK.replace("HEADERS", repr(OWN_HEADERS))
        attempt(f"python3 -I - <<'PY'\n{script}\nPY")
        made = [r for r in standin.requests[before:] if r.method == "POST" and not r.session_id]
        found.asked = [(r.auth, r.token) for r in made]
    finally:
        executor.close()


def _what_is_shown(laptop: Laptop) -> str:
    """Everything that plandock says of the run, and keeps; not the user's own files."""
    shown = ""
    for words in (["logs", "last"], ["show", "last"], ["receipt", "last"], ["ps"]):
        done = laptop.plandock(*words)
        shown += done.stdout + done.stderr
    for words in (["show", "last"], ["receipt", "last"]):
        shown += json.dumps(laptop.json(*words))
    own = {laptop.config / ".credentials.json", *(laptop.home / f for f in HOST_FILES)}
    for path in laptop.home.rglob("*"):
        inside = path.is_relative_to(laptop.repo.root)
        if path.is_file() and path not in own and not inside:
            shown += path.read_bytes().decode("utf-8", "replace")
    return shown


def _whole_run(root: Path, engine: str, mode: str) -> Outcome:
    """A run that is held half-way for every theft, and then goes on to its end."""
    if reason := machine.why_engine_is_absent(engine):
        pytest.fail(reason, pytrace=False)
    cli = Path(os.environ.get(machine.CLI_VERSIONS["newest"], "/absent"))
    env = {"PLANDOCK_CREDENTIALS": mode}
    with StandIn(scenes()) as standin:
        laptop = Laptop(root, cli=cli, engine=engine, standin=standin, env=env)
        try:
            found = _plant(laptop, mode)
            held = HeldRun(laptop, bash(LOOK))
            _try_everything(held, found)
            found.run = held.let_go()
            found.shown = _what_is_shown(laptop)
            if found.run["state"] == "done":
                found.committed = laptop.repo.git("show", "feature/auto:seen.txt")
            return found
        finally:
            laptop.clean_up()


SCENES = [f"{e}-{m}" for e in machine.wanted_engines() for m in ("sealed", "host")]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Future[Outcome]]:
    """One whole run on each engine, sealed and not, side by side: much of each is waiting."""
    with ThreadPoolExecutor(len(SCENES)) as pool:
        made = {
            name: pool.submit(_whole_run, tmp_path_factory.mktemp(name), *name.split("-"))
            for name in SCENES
        }
    return made


@pytest.fixture(scope="module", params=SCENES)
def outcome(request: pytest.FixtureRequest, outcomes: dict[str, Future[Outcome]]) -> Outcome:
    """What came of one of them."""
    return outcomes[request.param].result()


@pytest.mark.parametrize("theft", THEFTS, ids=lambda t: t.claim.replace(" ", "-"))
def test_a_theft_comes_to_nothing(outcome: Outcome, theft: Theft) -> None:
    """The attack brings no secret, and fails as said; the same technique works where allowed."""
    said, control = outcome.thefts[theft.claim]
    assert outcome.secrets_in(said, own=theft.own) == [], said[-3000:]
    assert re.search(theft.needs, said, re.MULTILINE), said[-3000:]
    assert CONTROL in control, control[-3000:]


def test_positive_control_what_an_open_box_holds_is_seen_when_it_is_read(outcome: Outcome) -> None:
    """The judge is not blind: the access token of an open box, the placeholder of a sealed one."""
    said = outcome.credentials
    if outcome.mode == "sealed":
        assert PLACEHOLDER in said
        assert outcome.secrets_in(said, own=False) == []
    else:
        assert outcome.secrets_in(said, own=False) == ["access"]


def test_in_a_sealed_box_no_key_of_the_agents_reaches_the_api(outcome: Outcome) -> None:
    """Whatever it sends, the login's own token pays; in an open box (control) its key arrives."""
    assert len(outcome.asked) >= len(OWN_HEADERS)
    if outcome.mode == "sealed":
        assert set(outcome.asked) == {("bearer", outcome.access)}
    else:
        assert ("x-api-key", OWN_KEY) in outcome.asked


def test_what_the_real_clis_agent_says_aloud_is_kept_without_its_token(outcome: Outcome) -> None:
    """By its Bash tool: the output and the conversation hold a mark; a sealed branch, nothing.

    What an agent of an open box writes into a commit is its own work, and README says so: that
    is the positive control, by which it is known that the token was there to be said.
    """
    assert outcome.run["state"] == "done", outcome.run
    assert "[redacted]" in outcome.shown
    assert outcome.secrets_in(outcome.shown, own=False) == []
    assert outcome.secrets_in(outcome.committed, own=True) == []
    assert (PLACEHOLDER if outcome.mode == "sealed" else outcome.access) in outcome.committed
