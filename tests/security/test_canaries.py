"""Secrets are nowhere but in memory: planted tokens are looked for everywhere, run by run."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from plandock.claude.login import PLACEHOLDER
from tests.support import loginbox, machine
from tests.support.heldrun import HeldRun
from tests.support.laptop import Laptop
from tests.support.searcher import Searcher, canary

# One login volume is waited for, where another worker's test has it.
pytestmark = [pytest.mark.timeout(900), pytest.mark.e2e]

CREDENTIALS = "/plandock/home/.claude/.credentials.json"
MODES = ("host", "token", "sealed", "box")


@pytest.fixture
def cli() -> Path:
    """The newest CLI: where a secret lies is plandock's doing, not the CLI version's."""
    return Path(os.environ.get(machine.CLI_VERSIONS["newest"], "/absent"))


@dataclass
class Planted:
    """A laptop whose login is made of canaries, and who looks for them."""

    laptop: Laptop
    access: str
    refresh: str
    searcher: Searcher


@pytest.fixture
def plant(
    make_laptop: Callable[..., Laptop], cli: Path, engine: str
) -> Iterator[Callable[[str], Planted]]:
    """A factory: a laptop in a mode of `credentials`, with canaries as its tokens."""
    stack = ExitStack()

    def make(mode: str) -> Planted:
        laptop = make_laptop(cli, engine, env={"PLANDOCK_CREDENTIALS": mode})
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
        searcher = Searcher(engine, {"access": access, "refresh": refresh})
        return Planted(laptop, access, refresh, searcher)

    with stack:
        yield make


def _in_the_engine(planted: Planted, held: HeldRun) -> set[tuple[str, str]]:
    """Everything that the engine tells and keeps of a run that is going."""
    look, run = planted.searcher, held.run
    found: set[tuple[str, str]] = set()
    for name in held.things("container"):
        found |= look.words(f"inspect {name}", "inspect", name)
        found |= look.words(f"logs {name}", "logs", name)
        found |= look.words(f"top {name}", "top", name)
    for name in held.things("volume"):
        found |= look.words(f"inspect {name}", "volume", "inspect", name)
        found |= look.volume(name, run["image"])
    found |= look.words("inspect image", "image", "inspect", run["image"])
    found |= look.words("history", "history", "--no-trunc", run["image"])
    return found


def _on_the_host(planted: Planted) -> set[tuple[str, str]]:
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


@pytest.mark.parametrize("mode", MODES)
def test_no_token_lies_anywhere_but_in_memory_while_the_agent_works_and_afterwards(
    plant: Callable[[str], Planted], mode: str
) -> None:
    """Box, gateway, engine, volumes, host: the refresh token nowhere, the access token in tmpfs.

    The positive control is in the same run: the access token is found where the box has to have
    it, and the stand-in was paid with it.
    """
    planted = plant(mode)
    held = HeldRun(planted.laptop)
    inside = planted.searcher.container(held.box)
    if mode == "sealed":
        assert inside == set()
        assert PLACEHOLDER in held.execute("cat", CREDENTIALS)[1]
    else:
        assert inside == {("access", CREDENTIALS)}
    assert planted.searcher.container(held.gateway) == set()
    assert _in_the_engine(planted, held) == set()
    assert _on_the_host(planted) == set()
    run = held.let_go()
    assert (run["state"], run["commits"]) == ("done", 1)
    assert {r.token for r in planted.laptop.standin.model_requests} == {planted.access}
    assert {r.auth for r in planted.laptop.standin.model_requests} == {"bearer"}
    assert _on_the_host(planted) == set()
    receipt = planted.laptop.plandock("receipt", "last", "--json").stdout
    assert not planted.searcher.data("receipt", receipt.encode())
    assert "subscription" in json.loads(receipt)["payer"]
    assert planted.laptop.leftovers() == []
    if mode == "box":
        kept = planted.searcher.volume(loginbox.volume_of(planted.laptop), run["image"])
        assert {name for name, _ in kept} == {"access", "refresh"}
        assert all(".credentials.json" in place for _, place in kept)


def test_the_memory_of_a_sealed_box_holds_no_token(plant: Callable[[str], Planted]) -> None:
    """Every process of the box that the agent may look into; none has what it was never given."""
    held = HeldRun((planted := plant("sealed")).laptop)
    found = planted.searcher.container(held.box, memory=True)
    held.let_go()
    assert found == set()


def test_positive_control_the_memory_of_an_open_box_does_hold_it(
    plant: Callable[[str], Planted],
) -> None:
    """The same look finds the token in the CLI's memory, where the mode is `host`."""
    held = HeldRun((planted := plant("host")).laptop)
    found = planted.searcher.container(held.box, memory=True)
    held.let_go()
    assert {place for name, place in found if name == "access"} > {CREDENTIALS}
    assert not [place for name, place in found if name == "refresh"]


def test_no_layer_of_the_boxs_image_holds_a_token(plant: Callable[[str], Planted]) -> None:
    """All layers as `save` streams them, after a run with it; a known line of ours is found."""
    planted = plant("host")
    run = HeldRun(planted.laptop).let_go()
    known = "Carries one message from the host to the steward"
    look = Searcher(planted.laptop.engine, {"known": known})
    look.needles = {**look.needles, "known:plain": known.encode()} | planted.searcher.needles
    assert {name for name, _ in look.image(run["image"])} == {"known"}


def test_positive_control_the_searcher_finds_what_is_planted_in_each_kind_of_place(
    plant: Callable[[str], Planted], tmp_path: Path
) -> None:
    """A file, a name, a link, an environment, a command line, an open file, volume, log, host."""
    planted = plant("host")
    held = HeldRun(planted.laptop)
    token, look = planted.access, planted.searcher
    own = token.rpartition("-")[2]
    script = (
        "import base64, os, subprocess, sys, time\n"
        "t = sys.stdin.read()\n"
        "open('/tmp/planted', 'w').write(t)\n"
        "open('/tmp/coded', 'wb').write(b'x' + base64.b64encode(b'yy' + t.encode()))\n"
        "open('/tmp/hex', 'w').write(t.encode().hex())\n"
        "open('/tmp/name-' + t, 'w').close()\n"
        "os.symlink(t, '/tmp/link')\n"
        "open('/plandock/conversation/planted', 'w').write(t)\n"
        "gone = open('/tmp/gone', 'w+'); gone.write(t); gone.flush(); os.unlink('/tmp/gone')\n"
        "p = subprocess.Popen(['sleep', '300'], env={'PLANTED': t}, pass_fds=[gone.fileno()])\n"
        "q = subprocess.Popen(['sh', '-c', 'sleep 300; : ' + t], start_new_session=True)\n"
        "print(p.pid, q.pid)\n"
    )
    code, said = held.execute("python3", "-c", script, data=token)
    assert code == 0, said
    one, other = said.split()
    places = {place for name, place in look.container(held.box) if name == "access"}
    wanted = {"/tmp/planted", "/tmp/coded", "/tmp/hex", "/tmp/link", f"name /tmp/name-{token}"}
    wanted |= {f"/proc/{one}/environ", f"/proc/{other}/cmdline", "/plandock/conversation/planted"}
    assert wanted <= places
    assert [p for p in places if p.startswith(f"/proc/{one}/fd/")]
    volume = f"plandock-{held.id}-conversation"
    assert ("access", f"volume {volume}: /looked-at/planted") in look.volume(
        volume, held.run["image"]
    )
    engine = planted.laptop.engine
    assert look.words("logs", "logs", _who_says(engine, held, token))
    subprocess.run([engine, "rm", "-f", f"{held.box}-said"], check=True, capture_output=True)
    folder = tmp_path / "apart"
    folder.mkdir()
    (folder / "planted").write_text(own)
    assert look.folder(folder) == {("access", str(folder / "planted"))}
    child = subprocess.Popen(["sleep", "300"], env={"PATH": os.environ["PATH"], "PLANTED": own})
    try:
        assert ("access", f"/proc/{child.pid}/environ") in look.host_processes()
    finally:
        child.kill()
        child.wait()
    held.let_go()
