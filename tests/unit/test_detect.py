"""Which engine is chosen, and what is said where none can be."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from plandock.engines import detect
from plandock.engines.protocol import (
    EngineDown,
)
from plandock.errors import UsageError


@pytest.fixture
def programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str, str], None]]:
    """A PATH of one's own: `programs(name, script)` puts a program there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    detect._usable.cache_clear()

    def put(name: str, script: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)

    yield put
    detect._usable.cache_clear()


DOWN = 'echo "Cannot connect to the Docker daemon at unix:///x. Is it running?" >&2; exit 1'


def test_no_engine_at_all(programs: Callable[[str, str], None]) -> None:
    """Without an engine the error says which were looked for, and what to install."""
    with pytest.raises(EngineDown) as caught:
        detect.choose()
    assert caught.value.exit_code == 20
    assert "docker is not installed" in caught.value.message
    assert "podman is not installed" in caught.value.message
    assert "install" in caught.value.hint


def test_engine_that_is_down(programs: Callable[[str, str], None]) -> None:
    """A docker without its daemon is named, with how to start it; a podman is taken instead."""
    programs("docker", DOWN)
    with pytest.raises(EngineDown, match="docker is installed but does not answer") as caught:
        detect.choose("docker")
    assert "start docker" in caught.value.hint
    programs("podman", 'echo \'{"Client": {"Version": "5.0.0"}}\'')
    assert detect.choose("auto").name == "podman"


def test_socket_that_may_not_be_opened(programs: Callable[[str, str], None]) -> None:
    """A docker that this user may not use gets the hint about the group."""
    programs(
        "docker",
        'echo "permission denied while trying to connect to the Docker daemon socket" >&2; exit 1',
    )
    with pytest.raises(EngineDown, match="may not use it") as caught:
        detect.choose("docker")
    assert "group docker" in caught.value.hint


@pytest.mark.parametrize("parts", [("Client",), ("Client", "Server")], ids=["local", "remote"])
def test_podman_that_calls_itself_docker(
    programs: Callable[[str, str], None], parts: tuple[str, ...]
) -> None:
    """A `docker` that is Podman is passed over, because Podman needs its own words."""
    answer = {part: {"APIVersion": "4.3.1", "Version": "4.3.1"} for part in parts}
    programs("docker", f"echo '{json.dumps(answer)}'")
    with pytest.raises(EngineDown, match="another name for podman"):
        detect.choose("docker")


def test_unknown_engine() -> None:
    """A name that is no engine is a mistake in the call."""
    with pytest.raises(UsageError):
        detect.choose("lxc")
