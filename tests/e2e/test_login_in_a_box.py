"""`plandock login --box`: a login that the CLI makes in a container and that stays there."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from plandock.box import keeper
from tests.support import loginbox
from tests.support.laptop import PATIENCE_S, Laptop
from tests.support.loginbox import BOX_ACCESS, BOX_REFRESH
from tests.support.pairs import DOCKER, FULL, PAIRS, Pair
from tests.support.tmux import Tmux

pytestmark = [pytest.mark.timeout(1800), pytest.mark.e2e]


def with_each(*pairs: Pair) -> pytest.MarkDecorator:
    """Let a test run with each of these engines and versions of the CLI."""
    found = [(pair.engine, pair.version) for pair in pairs]
    return pytest.mark.parametrize(("engine", "claude_cli"), found, indirect=True)


@pytest.fixture
def laptop(make_laptop: Callable[..., Laptop], claude_cli: Path, engine: str) -> Iterator[Laptop]:
    """A laptop whose own login is gone: what works here works by the login in the box."""
    made = make_laptop(claude_cli, engine, env={"PLANDOCK_CREDENTIALS": "box"})
    (made.config / ".credentials.json").unlink()
    yield made
    made.plandock("login", "--box", "--forget")
    assert loginbox.remains(made) == []


@pytest.fixture
def image(laptop: Laptop) -> str:
    """The image of this laptop's boxes."""
    return laptop.plandock("image", "build").stdout.strip()


def _hand_off(laptop: Laptop) -> subprocess.CompletedProcess[str]:
    return laptop.plandock("run", "--plan", "-", "--wait", stdin="# Plan\n\nDo it.\n", check=False)


def _wait_in_vain(laptop: Laptop) -> str:
    """Hand off without a login that serves: the run waits for one, `show` says how to sign in, and
    the run is stopped; returns what `show` said."""
    run = laptop.hand_off()
    laptop.until(run, "waiting", reason="login")
    end = time.monotonic() + PATIENCE_S
    # The run looks again now and then, and says nothing of its wait while it does.
    while "plandock login --box" not in (shown := laptop.plandock("show", run).stdout):
        assert time.monotonic() < end, shown
    laptop.plandock("stop", run)
    laptop.until(run, "stopped")
    return shown


@with_each(*PAIRS)
def test_the_real_clis_sign_in_appears_and_ctrl_c_leaves_nothing_behind(
    laptop: Laptop, image: str, tmux: Tmux
) -> None:
    """Anthropic's own address and the place for the code are shown; no container outlives it."""
    assert image
    tmux.start(["plandock", "login", "--box"], cwd=laptop.repo.root, env=laptop.env)
    tmux.wait_for(r"https://claude\.(ai|com)/\S*oauth/authorize", 300)
    assert len(loginbox.remains(laptop)) == 3  # keeper, gateway, and their link
    tmux.send("C-c")
    until = time.monotonic() + PATIENCE_S
    while tmux.exit_code() is None and time.monotonic() < until:
        time.sleep(0.1)
    assert tmux.exit_code() in (21, 130), tmux.screen()
    assert loginbox.remains(laptop) == []


# On Podman the volume between the two containers was seen to stay after a SIGKILL (README).
@with_each(*(pair for pair in (PAIRS if FULL else DOCKER) if pair.engine == "docker"))
def test_a_killed_sign_in_leaves_no_container_behind(
    laptop: Laptop, image: str, tmux: Tmux
) -> None:
    """Not even SIGKILL: keeper and gateway end when the host's process has gone."""
    assert image
    tmux.start(["plandock", "login", "--box"], cwd=laptop.repo.root, env=laptop.env)
    tmux.wait_for(r"oauth/authorize", 300)
    argv = ["pgrep", "-f", f"{laptop.env['PATH'].split(':')[0]}/plandock login --box"]
    found = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
    mine = [p for p in found if _home_of(int(p)) == str(laptop.home)]
    assert mine
    for pid in mine:
        os.kill(int(pid), 9)
    words = [
        laptop.engine,
        "ps",
        "-aq",
        "--filter",
        f"label={keeper.OWNER}={loginbox.volume_of(laptop)}",
    ]
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        if not subprocess.run(words, capture_output=True, text=True, check=True).stdout.split():
            break
        time.sleep(0.2)
    else:
        pytest.fail("containers are left")
    # The link's volume is taken away by the next one that needs the keeper.
    loginbox.place(laptop, image, expires_in_s=-60)
    _wait_in_vain(laptop)


def _home_of(pid: int) -> str:
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return ""
    pairs = dict(item.split(b"=", 1) for item in raw.split(b"\0") if b"=" in item)
    return os.fsdecode(pairs.get(b"HOME", b""))


@with_each(*PAIRS)
def test_a_run_uses_the_login_in_the_volume(laptop: Laptop, image: str) -> None:
    """Its access token pays; its refresh token is not sent, and not kept on this machine."""
    loginbox.place(laptop, image)
    done = _hand_off(laptop)
    assert done.returncode == 0, done.stderr
    assert {r.token for r in laptop.standin.model_requests} == {BOX_ACCESS}
    assert "subscription" in laptop.json("receipt", "last")["payer"]
    files = [p for p in laptop.home.rglob("*") if p.is_file()]
    assert not [p for p in files if BOX_REFRESH.encode() in p.read_bytes()]
    said = laptop.plandock("doctor", "--json", check=False)
    found = {f["check"]: f for f in json.loads(said.stdout)}
    assert found["login"]["ok"] is True
    assert loginbox.volume_of(laptop) in found["login"]["detail"]


@with_each(*PAIRS)
def test_without_a_login_or_with_one_that_cannot_be_renewed_it_waits_and_says_what_to_do(
    laptop: Laptop, image: str
) -> None:
    """The real CLI was let try: its wish to reach Anthropic is all that the gateway saw."""
    _wait_in_vain(laptop)
    loginbox.place(laptop, image, expires_in_s=280)
    assert "did not renew" in _wait_in_vain(laptop)
    # The keeper did ask the model: by the login's own CLI, and not for the plan.
    assert laptop.standin.requests
    assert laptop.standin.model_requests == [] or all(
        r.token == BOX_ACCESS for r in laptop.standin.model_requests
    )
