"""Fixtures of several unit tests: a place where a hand-off succeeds, a user of package clients."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from plandock.gateway.clients.user import User
from tests.support import hooks
from tests.support.commands import CommandServer
from tests.support.machine import CLONE
from tests.support.patience import patient  # noqa: F401  # for every test of this folder
from tests.support.repository import Repository


@pytest.fixture(scope="session")
def hook_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One copy of plandock with a supervisor that only notes that it was started."""
    return hooks.copy_package(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="session")
def commands() -> Iterator[CommandServer]:
    """The command line, imported once."""
    with closing(CommandServer(CLONE / "src", os.environ)) as server:
        yield server


@pytest.fixture
def socket_folder() -> Iterator[Path]:
    """A folder with a short path: a socket's may have 107 bytes, and `tmp_path` takes more."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture
def keychain_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the stand-in for macOS's `security` has in it, for the test to write."""
    file = tmp_path / "keychain.json"
    monkeypatch.setenv("FAKE_KEYCHAIN", str(file))
    # `env python3` is this one then, and not a script that looks for one.
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    return file


@pytest.fixture(scope="session")
def docker_ping() -> Iterator[Path]:
    """The socket of what answers for docker."""
    with hooks.fake_docker_socket() as path:
        yield path


@pytest.fixture
def world(
    tmp_path: Path, repo: Repository, home: Path, hook_package: Path, docker_ping: Path
) -> Iterator[hooks.HookWorld]:
    """A place where a hand-off succeeds; no supervisor is left when the test ends."""
    made = hooks.make_world(tmp_path, repo, home, hook_package, docker_ping)
    (hook_package / "supervisor" / "seconds").write_text("0")
    yield made
    made.wait_for_supervisors()


@pytest.fixture
def user(home: Path) -> User:
    """A user with a throwaway home and without any package client: the files are read then."""
    return User({"HOME": str(home), "PATH": "/absent"})
