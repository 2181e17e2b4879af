"""`plandock demo` as a user runs it: the newest CLI, the engine, git and tmux are real."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support import product

pytestmark = [
    pytest.mark.timeout(1800),
    pytest.mark.e2e,
    pytest.mark.engine,
    pytest.mark.tmux,
]
PATIENCE_S = 900


# The demo is told on one engine; runs themselves are tested on both.
ENGINE = "docker"


@pytest.fixture
def demo(tmp_path: Path, home: Path) -> subprocess.Popen[str]:
    """The demo, started without a terminal, in a temporary folder of its own."""
    cli = os.environ.get("PLANDOCK_TEST_CLI_NEWEST", "")
    if not os.access(cli, os.X_OK):
        pytest.fail("PLANDOCK_TEST_CLI_NEWEST names no program. Next step: `make setup`")
    folder = tmp_path / "t"
    folder.mkdir()
    # The word of a key must reach neither the story nor the box.
    extra = {"PLANDOCK_CLAUDE": cli, "PLANDOCK_ENGINE": ENGINE, "TMPDIR": str(folder)}
    return subprocess.Popen(
        product.argv("demo"),
        cwd=tmp_path,
        env={**os.environ, **extra, "ANTHROPIC_API_KEY": "sk-ant-api03-must-not-be-used"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def labelled(kind: tuple[str, ...], run: str) -> str:
    """Containers or volumes of a run, as the engine lists them."""
    argv = [ENGINE, *kind, "-q", "--filter", f"label=plandock.run={run}"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    return done.stdout.strip()


def processes_of(run: str, folder: Path) -> list[str]:
    """The processes of a demo."""
    said = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return [x for x in said.splitlines() if str(folder) in x or x.endswith(f"__main__.py {run}")]


def assert_nothing_left(pid: int, run: str, folder: Path) -> None:
    """No container, volume, terminal server, supervisor or folder of the demo is there."""
    assert labelled(("ps", "-a"), run) == ""
    assert labelled(("volume", "ls"), run) == ""
    end = time.monotonic() + PATIENCE_S
    while (there := processes_of(run, folder)) and time.monotonic() < end:
        time.sleep(0.1)  # what was told to end may take its time
    assert there == []
    tmux = ["tmux", "-L", f"plandock-demo-{pid}", "list-sessions"]
    assert subprocess.run(tmux, capture_output=True, check=False).returncode != 0
    assert list(folder.iterdir()) == []


def test_demo_tells_the_whole_way(demo: subprocess.Popen[str], tmp_path: Path, home: Path) -> None:
    """The demo ends well, each of its facts is the promised one, and it leaves nothing behind."""
    said, _ = demo.communicate(timeout=PATIENCE_S)
    assert demo.returncode == 0, said
    assert "No account is used" in said
    assert "Would you like to proceed?" in said
    run = re.search(r"handed off as (r\w+)", said)
    assert run is not None, said
    for fact, value in (
        ("git status", "clean"),
        ("tool calls run here since acceptance", "0"),
        ("model requests from here since acceptance", "0"),
    ):
        found = re.findall(rf"^ *{fact}: +(\S+)", said, re.MULTILINE)
        assert found == [value, value], fact  # at once, and after all of it
    assert len(re.findall(r"HEAD: +main at \w+, as before", said)) == 2
    boxed = re.search(r"model requests from the box: +(\d+)", said)
    assert boxed is not None
    assert int(boxed[1]) >= 6
    shape = r"\* \w+ \(feature/auto\) (.*)\n.*\* \w+ (.*)\n.*\* \w+ \(HEAD -> main\)"
    graph = re.search(shape, said)
    assert graph is not None, said
    assert graph.groups() == (
        "Say in the README that the hour counts",
        "Greet by the time of day",
    )
    assert "3 files changed" in said
    assert "no API key was used" in said
    assert "stood in for Anthropic's API" in said
    assert f"plandock merge {run[1]}" in said
    assert "Traceback" not in said
    assert_nothing_left(demo.pid, run[1], tmp_path / "t")
    repo = re.search(r"folder: +(/\S+)", said)
    assert repo is not None
    mirror = "plandock-mirror-" + hashlib.sha256(repo[1].encode()).hexdigest()[:16]
    inspect = [ENGINE, "volume", "inspect", mirror]
    assert subprocess.run(inspect, capture_output=True, check=False).returncode != 0
    assert not (home / ".claude").exists()
    assert not (home / ".local/state/plandock/runs").exists()


def test_demo_interrupted_leaves_nothing(demo: subprocess.Popen[str], tmp_path: Path) -> None:
    """Ctrl-C while the box is coming up ends with 130, and nothing of the demo stays."""
    assert demo.stdout is not None
    said, run = "", ""
    for line in demo.stdout:
        said += line
        if found := re.search(r"plandock logs (r\w+) -f$", line.rstrip()):
            run = found[1]
            if line.lstrip().startswith("$"):
                break
    assert run, said
    end = time.monotonic() + PATIENCE_S
    while not labelled(("volume", "ls"), run):  # in the middle of its staging
        assert time.monotonic() < end
        time.sleep(0.1)
    demo.send_signal(signal.SIGINT)
    rest, _ = demo.communicate(timeout=PATIENCE_S)
    assert demo.returncode == 130, said + rest
    assert_nothing_left(demo.pid, run, tmp_path / "t")


def test_demo_says_what_is_missing(tmp_path: Path, home: Path) -> None:
    """Without a CLI the demo ends with 1 and names the next step, before it makes anything."""
    done = subprocess.run(
        product.argv("demo"),
        cwd=tmp_path,
        env={**os.environ, "PLANDOCK_CLAUDE": "/absent/claude", "TMPDIR": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 1
    assert "PLANDOCK_CLAUDE" in done.stderr
    assert "next:" in done.stderr
    assert not list(tmp_path.glob("plandock-demo-*"))


def test_live_demo_wants_a_terminal(tmp_path: Path, home: Path) -> None:
    """With nobody at a terminal, a live demo ends with 2 and starts nothing."""
    done = subprocess.run(
        product.argv("demo", "--live"),
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 2
    assert "needs a terminal" in done.stderr
    assert not list(tmp_path.glob("plandock-demo-*"))
