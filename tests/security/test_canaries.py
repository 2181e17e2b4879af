"""Secrets are nowhere but in memory: planted tokens are looked for everywhere, run by run."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from plandock.claude.login import PLACEHOLDER
from plandock.standin import StandIn
from tests.e2e.conftest import scenes
from tests.support import loginbox, machine
from tests.support.heldrun import HeldRun
from tests.support.hooks import until
from tests.support.laptop import Laptop
from tests.support.pairs import FULL
from tests.support.searcher import Searcher, canary

pytestmark = [pytest.mark.timeout(1800), pytest.mark.e2e, pytest.mark.split_by("engine")]

CREDENTIALS = "/plandock/home/.claude/.credentials.json"
MODES = ("host", "token", "sealed", "box")
AT_ONCE = 3

Found = set[tuple[str, str]]


def modes_of(engine: str) -> tuple[str, ...]:
    """The modes that are looked at on an engine: on the second, an open box and a sealed one.

    What lies where depends on the engine and on whether the box is open; where its token came
    from does not reach that far.
    """
    return MODES if FULL or engine == machine.wanted_engines()[0] else ("host", "sealed")


def with_modes(*modes: str) -> pytest.MarkDecorator:
    """Let a test look at runs of these modes, on every engine that has them."""
    engines = machine.wanted_engines()
    found = [(engine, mode) for engine in engines for mode in modes if mode in modes_of(engine)]
    return pytest.mark.parametrize(("engine", "mode"), found, indirect=["engine"])


@dataclass
class Planted:
    """A laptop whose login is made of canaries, and who looks for them."""

    laptop: Laptop
    access: str
    refresh: str
    searcher: Searcher


@dataclass
class Looks:
    """What was found of the tokens in a run that was held half-way, and after it."""

    mode: str
    access: str
    box: Found = field(default_factory=set)
    memory: Found = field(default_factory=set)
    credentials: str = ""
    gateway: Found = field(default_factory=set)
    engine: Found = field(default_factory=set)
    host: Found = field(default_factory=set)
    layers: Found = field(default_factory=set)
    control: dict[str, Any] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)
    paid_with: set[tuple[str, str]] = field(default_factory=set)
    host_afterwards: Found = field(default_factory=set)
    receipt: str = ""
    receipt_found: Found = field(default_factory=set)
    leftovers: list[str] = field(default_factory=list)
    login: Found = field(default_factory=set)


def _plant(laptop: Laptop, mode: str, stack: ExitStack) -> Planted:
    """Log the user in by a mode of `credentials`, with canaries as tokens."""
    access, refresh = canary("oat"), canary("ort")
    file = laptop.config / ".credentials.json"
    if mode == "token":
        file.unlink()
        laptop.plandock("login", "--token", stdin=access + "\n")
    elif mode == "box":
        stack.callback(laptop.plandock, "login", "--box", "--forget")
        file.unlink()
        image = laptop.plandock("image", "build").stdout.strip()
        loginbox.place(laptop, image, access=access, refresh=refresh)
    else:
        held = {
            "accessToken": access,
            "refreshToken": refresh,
            "expiresAt": int((time.time() + 8 * 3600) * 1000),
            "scopes": ["user:inference", "user:profile"],
            "subscriptionType": "max",
        }
        file.write_text(json.dumps({"claudeAiOauth": held}))
    searcher = Searcher(laptop.engine, {"access": access, "refresh": refresh})
    return Planted(laptop, access, refresh, searcher)


def _in_the_engine(planted: Planted, held: HeldRun) -> Found:
    """Everything that the engine tells and keeps of a run that is going."""
    look, run = planted.searcher, held.run
    found: Found = set()
    for name in held.things("container"):
        found |= look.words(f"inspect {name}", "inspect", name)
        found |= look.words(f"logs {name}", "logs", name)
        found |= look.words(f"top {name}", "top", name)
    volumes = held.things("volume")
    assert volumes
    found |= look.words("inspect volumes", "volume", "inspect", *volumes)
    found |= look.volumes(volumes, run["image"])
    found |= look.words("inspect image", "image", "inspect", run["image"])
    found |= look.words("history", "history", "--no-trunc", run["image"])
    return found


def _on_the_host(planted: Planted) -> Found:
    """Everything that plandock keeps and shows; the user's own two files are not its business."""
    laptop, look = planted.laptop, planted.searcher
    own = {str(laptop.config / ".credentials.json"), str(_setup_token(laptop))}
    found = {f for f in look.folder(laptop.home) if f[1] not in own}
    found |= look.host_processes()
    for words in (["show", "last"], ["show", "last", "--json"], ["logs", "last"], ["ps", "--json"]):
        done = laptop.plandock(*words, check=False)
        found |= look.data(" ".join(words), (done.stdout + done.stderr).encode())
    return found


def _setup_token(laptop: Laptop) -> Path:
    return laptop.home / ".config/plandock/setup-token"


def _who_says(engine: str, held: HeldRun, text: str) -> str:
    """A container that has said a text, and ended; its name."""
    name = f"{held.box}-said"
    words = machine.container_words(engine, "run", "-i", "--name", name, "--entrypoint", "cat")
    subprocess.run(
        [*words, held.run["image"]], input=text.encode(), check=True, capture_output=True
    )
    return name


def _layers(planted: Planted, image: str) -> Found:
    """What is in all layers as `save` streams them: tokens, and a line of ours that is known."""
    known = "Carries one message from the host to the steward"
    look = Searcher(planted.laptop.engine, {"known": known})
    look.needles = {**look.needles, "known:plain": known.encode()} | planted.searcher.needles
    return look.image(image)


PLANT = (
    "import base64, os, subprocess, sys, time\n"
    "t = sys.stdin.read()\n"
    "open('/tmp/planted', 'w').write(t)\n"
    "open('/tmp/coded', 'wb').write(b'x' + base64.b64encode(b'yy' + t.encode()))\n"
    "open('/tmp/hex', 'w').write(t.encode().hex())\n"
    "open('/tmp/name-' + t, 'w').close()\n"
    "os.symlink(t, '/tmp/link')\n"
    "open('/plandock/conversation/planted', 'w').write(t)\n"
    "gone = open('/tmp/gone', 'w+'); gone.write(t); gone.flush(); os.unlink('/tmp/gone')\n"
    "p = subprocess.Popen(['sleep', '3000'], env={'PLANTED': t}, pass_fds=[gone.fileno()])\n"
    "q = subprocess.Popen(['sh', '-c', 'sleep 3000; : ' + t], start_new_session=True)\n"
    "print(p.pid, q.pid)\n"
)


def _everywhere(planted: Planted, held: HeldRun, folder: Path) -> dict[str, Any]:
    """Put the token into each kind of place, and look there; nothing of it stays."""
    token, look, engine = planted.access, planted.searcher, planted.laptop.engine
    own, image = token.rpartition("-")[2], held.run["image"]
    code, said = held.execute("python3", "-c", PLANT, data=token)
    assert code == 0, said
    one, other = said.split()
    found: dict[str, Any] = {"token": token, "one": one, "other": other}
    found["box"] = look.container(held.box)
    found["volume"] = look.volumes([f"plandock-{held.id}-conversation"], image)
    undo = f"kill {one} {other}; rm -r /plandock/conversation/planted /tmp/name-* "
    assert held.execute("sh", "-c", undo + "/tmp/planted /tmp/coded /tmp/hex /tmp/link")[0] == 0
    found["logs"] = look.words("logs", "logs", _who_says(engine, held, token))
    subprocess.run([engine, "rm", "-f", f"{held.box}-said"], check=True, capture_output=True)
    folder.mkdir()
    (folder / "planted").write_text(own)
    found["folder"] = look.folder(folder)
    child = subprocess.Popen(["sleep", "3000"], env={"PATH": os.environ["PATH"], "PLANTED": own})
    try:
        # The kernel shows an environment a moment after the program has begun.
        until(lambda: bool(Path(f"/proc/{child.pid}/environ").read_bytes()))
        found["process"] = f"/proc/{child.pid}/environ"
        found["processes"] = look.host_processes()
    finally:
        child.kill()
        child.wait()
    return found


def _whole_run(root: Path, engine: str, mode: str) -> Looks:
    """A run that is held half-way for every look, and then goes on to its end."""
    if reason := machine.why_engine_is_absent(engine):
        pytest.fail(reason, pytrace=False)
    # The newest CLI: where a secret lies is plandock's doing, not the CLI version's.
    cli = Path(os.environ.get(machine.CLI_VERSIONS["newest"], "/absent"))
    env = {"PLANDOCK_CREDENTIALS": mode}
    with StandIn(scenes()) as standin, ExitStack() as stack:
        laptop = Laptop(root / "laptop", cli=cli, engine=engine, standin=standin, env=env)
        stack.callback(laptop.clean_up)
        planted = _plant(laptop, mode, stack)
        look, looks = planted.searcher, Looks(mode, planted.access)
        held = HeldRun(laptop)
        found = look.container(held.box, memory=mode in ("host", "sealed"))
        looks.memory = {x for x in found if x[1].endswith("/mem")}
        looks.box = found - looks.memory
        looks.credentials = held.execute("cat", CREDENTIALS)[1]
        looks.gateway = look.container(held.gateway)
        looks.engine = _in_the_engine(planted, held)
        looks.host = _on_the_host(planted)
        if mode == "host":
            looks.control = _everywhere(planted, held, root / "apart")
        looks.run = held.let_go()
        looks.paid_with = {(r.auth, r.token) for r in standin.model_requests}
        looks.host_afterwards = _on_the_host(planted)
        looks.receipt = laptop.plandock("receipt", "last", "--json").stdout
        looks.receipt_found = look.data("receipt", looks.receipt.encode())
        looks.leftovers = laptop.leftovers()
        if mode == "host":
            looks.layers = _layers(planted, looks.run["image"])
        if mode == "box":
            looks.login = look.volumes([loginbox.volume_of(laptop)], looks.run["image"])
        return looks


Runs = Callable[[str], dict[str, Future[Looks]]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """An engine's runs by their mode, some at a time side by side, made when first asked for."""

    @functools.cache
    def of(engine: str) -> dict[str, Future[Looks]]:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            folders = {
                mode: tmp_path_factory.mktemp(f"{engine}-{mode}") for mode in modes_of(engine)
            }
            return {m: pool.submit(_whole_run, root, engine, m) for m, root in folders.items()}

    return of


@pytest.fixture
def looks(engine: str, mode: str, runs: Runs) -> Looks:
    """What came of one of them."""
    return runs(engine)[mode].result()


@with_modes(*MODES)
def test_no_token_lies_anywhere_but_in_memory_while_the_agent_works_and_afterwards(
    looks: Looks,
) -> None:
    """Box, gateway, engine, volumes, host: the refresh token nowhere, the access token in tmpfs.

    The positive control is in the same run: the access token is found where the box has to have
    it, and the stand-in was paid with it.
    """
    if looks.mode == "sealed":
        assert looks.box == set()
        assert PLACEHOLDER in looks.credentials
    else:
        assert looks.box == {("access", CREDENTIALS)}
    assert looks.gateway == set()
    assert looks.engine == set()
    assert looks.host == set()
    assert (looks.run["state"], looks.run["commits"]) == ("done", 1)
    assert looks.paid_with == {("bearer", looks.access)}
    assert looks.host_afterwards == set()
    assert not looks.receipt_found
    assert "subscription" in json.loads(looks.receipt)["payer"]
    assert looks.leftovers == []
    if looks.mode == "box":
        assert {name for name, _ in looks.login} == {"access", "refresh"}
        assert all(".credentials.json" in place for _, place in looks.login)


@with_modes("sealed")
def test_the_memory_of_a_sealed_box_holds_no_token(looks: Looks) -> None:
    """Every process of the box that the agent may look into; none has what it was never given."""
    assert looks.memory == set()


@with_modes("host")
def test_positive_control_the_memory_of_an_open_box_does_hold_it(looks: Looks) -> None:
    """The same look finds the token in the CLI's memory, where the mode is `host`."""
    assert {name for name, _ in looks.memory} == {"access"}


@with_modes("host")
def test_no_layer_of_the_boxs_image_holds_a_token(looks: Looks) -> None:
    """All layers as `save` streams them, after a run with it; a known line of ours is found."""
    assert {name for name, _ in looks.layers} == {"known"}


@with_modes("host")
def test_positive_control_the_searcher_finds_what_is_planted_in_each_kind_of_place(
    looks: Looks,
) -> None:
    """A file, a name, a link, an environment, a command line, an open file, volume, log, host."""
    seen = looks.control
    token, one, other = seen["token"], seen["one"], seen["other"]
    places = {place for name, place in seen["box"] if name == "access"}
    wanted = {"/tmp/planted", "/tmp/coded", "/tmp/hex", "/tmp/link", f"name /tmp/name-{token}"}
    wanted |= {f"/proc/{one}/environ", f"/proc/{other}/cmdline", "/plandock/conversation/planted"}
    assert wanted <= places
    assert [p for p in places if p.startswith(f"/proc/{one}/fd/")]
    assert [p for name, p in seen["volume"] if name == "access" and p.endswith("/planted")]
    assert seen["logs"]
    assert [(name, Path(place).name) for name, place in seen["folder"]] == [("access", "planted")]
    assert ("access", seen["process"]) in seen["processes"]
