"""An engine whose program hangs, or is killed, is one that is away: a run waits, and goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from plandock.engines.command_line import CommandLineEngine
from plandock.engines.protocol import ContainerSpec, EngineDown
from plandock.errors import EngineError


def engine(tmp_path: Path, script: str) -> CommandLineEngine:
    """Docker, played by a shell script."""
    program = tmp_path / "docker"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return CommandLineEngine("docker", str(program))


def test_a_killed_client_says_nothing_of_what_it_was_asked(tmp_path: Path) -> None:
    """By the kernel for want of memory, or by somebody who mistook it."""
    with pytest.raises(EngineDown, match="signal 9"):
        engine(tmp_path, "kill -9 $$").inspect("box")


@pytest.mark.parametrize("fails", ["kill -9 $$", "exit 1"], ids=["killed", "without-a-word"])
@pytest.mark.parametrize("names", [("work",), ("work", "link")], ids=["one", "several"])
def test_volumes_are_not_taken_for_removed_by_a_client_that_failed(
    tmp_path: Path, fails: str, names: tuple[str, ...]
) -> None:
    """It does not say of any of them that it was not there."""
    with pytest.raises(EngineError):
        engine(tmp_path, fails).remove_volume(*names)


def test_an_engine_that_does_not_answer_in_time_is_away(tmp_path: Path) -> None:
    """A daemon that stands still, or a machine with far too much to do."""
    hanging = engine(tmp_path, "exec sleep 60")
    with pytest.raises(EngineDown, match="did not answer"):
        hanging._call(["rm", "x"], timeout_s=0.2)


@pytest.mark.parametrize("asked", ["images", "volumes", "containers"])
def test_a_listing_that_breaks_off_over_what_has_just_gone_is_asked_for_again(
    tmp_path: Path, asked: str
) -> None:
    """As Podman's does where another process removes an image in the middle of it."""
    said = "Error: locating image with ID b5194: image not known"
    once = f"test -e {tmp_path}/asked || {{ touch {tmp_path}/asked; echo '{said}' >&2; exit 125; }}"
    assert getattr(engine(tmp_path, once), asked)("plandock.run=r222") == ()
    assert (tmp_path / "asked").exists()


def build(tmp_path: Path, script: str) -> None:
    """A build of nothing by an engine that answers it so, and says nothing of itself."""
    answers = f"case $1 in info) echo '{{}}';; build) cat >/dev/null; {script};; esac"
    engine(tmp_path, answers).build("tag", [], build_args={}, labels={}, progress=lambda line: None)


def test_a_build_that_loses_a_layer_to_a_removal_is_begun_again(tmp_path: Path) -> None:
    """As Podman's does where another process removes an image that it looks through."""
    said = (
        "Error: checking if cached image exists from a previous build: getting top layer info: "
        "layer not known"
    )
    tried = tmp_path / "tried"
    build(
        tmp_path,
        f"echo x >>{tried}; test -e {tmp_path}/lost || "
        f"{{ echo '{said}' >&2; touch {tmp_path}/lost; exit 125; }}",
    )
    assert tried.read_text() == "x\nx\n"


def test_a_build_without_its_base_is_not_begun_again(tmp_path: Path) -> None:
    """However often it is begun, its base is not there."""
    tried = tmp_path / "tried"
    said = "Error: creating build container: example/base: image not known"
    with pytest.raises(EngineError, match="image not known"):
        build(tmp_path, f"echo x >>{tried}; echo '{said}' >&2; exit 125")
    assert tried.read_text() == "x\n"


@pytest.mark.parametrize("asked", ["create", "open_run"])
def test_container_on_a_bridge_is_refused_where_docker_has_none(tmp_path: Path, asked: str) -> None:
    """Docker itself would start it, without a way out: the agent would wait for a model."""
    without = engine(tmp_path, 'case "$1" in network) echo none; echo host;; *) echo "{}";; esac')
    spec = ContainerSpec("gateway", "i", ("true",), network="bridge")
    with pytest.raises(EngineError, match="no network bridge") as refused:
        getattr(without, asked)(spec)
    assert refused.value.exit_code == 20
    assert "daemon.json" in refused.value.hint


def test_container_without_a_network_needs_no_bridge(tmp_path: Path) -> None:
    """A box is never on one; only its gateway is."""
    without = engine(tmp_path, 'case "$1" in network) exit 1;; info) echo "{}";; *) echo id;; esac')
    assert without.create(ContainerSpec("box", "i", ("true",))) == "id"


def test_a_refusal_of_the_engine_stays_one(tmp_path: Path) -> None:
    """The control: it would be refused again."""
    with pytest.raises(EngineError) as raised:
        engine(tmp_path, "echo 'Error response from daemon: no' >&2; exit 1").inspect("box")
    assert not isinstance(raised.value, EngineDown)
