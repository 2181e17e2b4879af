"""What set-up made on this machine, and an environment with nothing of its user in it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest

from plandock.engines.command_line import CommandLineEngine
from tests.support.journal import note
from tests.support.repository import write_git_config
from tools.setup import commands

CLONE = Path(__file__).resolve().parents[2]
ENGINES = ("docker", "podman")
ENGINE_VARIABLES = ("DOCKER_HOST", "CONTAINER_HOST", "CONTAINER_SSHKEY", "CONTAINERS_STORAGE_CONF")
"""Where set-up has found the engines, for a user with another HOME."""
CLI_VERSIONS = {
    "2.1.197": "PLANDOCK_TEST_CLI_2_1_197",
    "newest": "PLANDOCK_TEST_CLI_NEWEST",
}

# Variables that name a model, a key, a login or somebody's repository; and the product's own,
# of which a developer may have set some for daily use.
DROPPED_PREFIXES = (
    *("ANTHROPIC_", "CLAUDE_", "CLAUDECODE", "GIT_", "PLANDOCK_", "XDG_"),
    "PYTEST_ADDOPTS",  # of the session, not of those that tests start
)
DROPPED_SUFFIXES = ("_API_KEY", "_TOKEN")
KEPT_PREFIXES = ("PLANDOCK_TEST_", "PLANDOCK_SETUP_")


def load_setup() -> None:
    """Put what `make setup` recorded into the environment, so that plain `pytest` works, too.

    What is set already wins: the Makefile exports the same variables.
    """
    folder = Path(os.environ.get("PLANDOCK_SETUP_DIR") or CLONE / ".setup")
    try:
        lines = (folder / "env").read_text().splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        name, _, value = line.partition("=")
        os.environ.setdefault(name, value)


def start_children_interruptible() -> None:
    """Let signals that this process was told to ignore end those that it starts.

    A shell has what it starts in the background ignore SIGINT, nohup SIGHUP; every child inherits
    that, and a Ctrl-C of a test would do nothing.  A handler is not inherited.  This one does
    nothing, so that the tests themselves go on as they were told to.
    """
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def to_drop(names: Iterable[str]) -> list[str]:
    """Those variables that no test may inherit."""
    return [
        name
        for name in names
        if name.startswith(DROPPED_PREFIXES) or name.endswith(DROPPED_SUFFIXES)
        if not name.startswith(KEPT_PREFIXES)
    ]


def claude_cli(name: str) -> Path:
    """The real CLI by its name in `CLI_VERSIONS`; its absence fails the test."""
    import pytest

    variable = CLI_VERSIONS[name]
    path = Path(os.environ.get(variable) or "/absent")
    if not os.access(path, os.X_OK):
        pytest.fail(f"{variable} names no program. Next step: `make setup`", pytrace=False)
    return path


def move_in(home: Path, patch: pytest.MonkeyPatch) -> None:
    """A throwaway HOME; nothing in the environment names a model, a key, a login or a repo."""
    note("home", home)
    for name in to_drop(os.environ):
        patch.delenv(name)
    patch.setenv("HOME", str(home))
    for name, folder in (
        ("XDG_CONFIG_HOME", ".config"),
        ("XDG_STATE_HOME", ".local/state"),
        ("XDG_DATA_HOME", ".local/share"),
        ("XDG_CACHE_HOME", ".cache"),
    ):
        patch.setenv(name, str(home / folder))
    # /etc/gitconfig may hold anything; the identity is that of the throwaway home.
    patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    patch.setenv("GIT_CONFIG_GLOBAL", str(write_git_config(home)))


def in_ci() -> bool:
    """Whether a skipped engine or end-to-end test counts as a failure."""
    return os.environ.get("CI", "").lower() in {"1", "true", "yes"}


def why_engine_is_absent(engine: str) -> str:
    """The reason why an engine cannot be used, with the next step; empty where it can."""
    argv = [engine, "info"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=240, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        complaint = str(error)
    else:
        # Docker's client is content to describe itself when no server answers.
        if done.returncode == 0 and "Cannot connect" not in done.stderr:
            return ""
        complaint = (done.stderr.strip().splitlines() or ["no answer"])[-1]
    others = ",".join(x for x in ENGINES if x != engine)
    return (
        f"{engine} cannot be used: {complaint}. "
        f"Next step: `make setup`, or PLANDOCK_TEST_ENGINES={others} to test without it"
    )


def as_root() -> list[str]:
    """What to put in front of a command that needs root: nothing, or sudo.

    Without either the test is skipped, in CI it fails, in one line with the next step.
    """
    try:
        return commands.as_root()
    except commands.SetupError as error:
        reason = f"this test needs root. Next step: {error.hint}"
        if in_ci():
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


def container_words(engine: str, verb: str, *words: str) -> list[str]:
    """The first words of a test's own ``run`` or ``create``: no network, and limits within those
    of this process; what follows are more options, then the image.

    They choose the runtime that the product chooses: Podman's own choice may not run here at all
    (crun beside hybrid cgroups), and its own limits may be above what this process can give.
    """
    limits = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")
    return [engine, *_global_flags(engine), verb, "--network", "none", *limits, *words]


@cache
def _global_flags(engine: str) -> tuple[str, ...]:
    return CommandLineEngine("podman").dialect.global_flags if engine == "podman" else ()


def wanted_engines() -> tuple[str, ...]:
    """The engines to test with: `PLANDOCK_TEST_ENGINES`, by default both."""
    names = os.environ.get("PLANDOCK_TEST_ENGINES", "").replace(",", " ").split()
    return tuple(x for x in ENGINES if x in names) or ENGINES
