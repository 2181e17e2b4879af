"""The box's image in every engine with each version of the CLI, built once before the tests.

Otherwise the first tests on every worker would build the same image beside each other.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

from tools.setup.commands import SetupError, environment, last_line, say
from tools.setup.folder import read_env, setup_dir


def ensure(engines: tuple[str, ...]) -> None:
    """Build what is missing, the engines side by side.  Raises `SetupError` where one cannot."""
    with ThreadPoolExecutor(len(engines)) as pool:
        for _ in pool.map(_ensure, engines, (True, *[False] * len(engines[1:]))):
            pass


def _ensure(engine: str, node: bool) -> None:
    """Build an engine's images, one with Node in it where ``node`` (test_egress_presets)."""
    recorded = read_env()
    for name, program in recorded.items():
        if name.startswith("PLANDOCK_TEST_CLI_") and not name.endswith("_VERSION"):
            say(f"{engine}: {_build(engine, program, recorded)} is there")
    if node:
        newest = recorded["PLANDOCK_TEST_CLI_NEWEST"]
        built = _build(engine, newest, recorded, PLANDOCK_NODE="true")
        say(f"{engine}: {built} is there, with Node")


def _build(engine: str, program: str, recorded: dict[str, str], **settings: str) -> str:
    """Build one image as a user would, with nothing of this user's; its tag."""
    with tempfile.TemporaryDirectory() as home:
        known = {k: v for k, v in recorded.items() if not k.startswith("PLANDOCK_")}
        done = subprocess.run(
            [sys.executable, "-m", "plandock", "image", "build"],
            cwd=home,
            env={
                "PATH": environment()["PATH"],
                "HOME": home,
                "XDG_CACHE_HOME": os.environ.get("PLANDOCK_TEST_CACHE", str(setup_dir() / "cache")),
                "PLANDOCK_ENGINE": engine,
                "PLANDOCK_CLAUDE": program,
                **known,
                **settings,
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=1800,
            check=False,
        )
    if done.returncode != 0:
        raise SetupError(
            f"{engine} cannot build the box's image: {last_line(done)}",
            f"run `PLANDOCK_ENGINE={engine} plandock image build`",
        )
    return done.stdout.strip().splitlines()[-1]
