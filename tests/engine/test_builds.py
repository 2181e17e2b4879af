"""Builds and images in docker and podman, for real."""

from __future__ import annotations

from pathlib import Path

import pytest

from plandock.engines.protocol import (
    ContextFile,
)
from plandock.errors import EngineError
from tests.engine.yard import Yard

pytestmark = pytest.mark.timeout(900)


def test_init_reaps_and_hears_signals(yard: Yard, tmp_path: Path) -> None:
    """With `init` the program runs under the image's tini, so a stop reaches it at once."""
    dockerfile = f"FROM {yard.image}\nCOPY tini /usr/bin/tini\n"
    # What tini does here: it stays PID 1 and passes the signal on.
    tini = (
        b'#!/bin/sh\nshift; "$@" & c=$!\ntrap "kill -TERM $c" TERM\necho passes on\n'
        b"wait $c; wait $c; exit $?\n"
    )
    tag = f"plandock-test:{yard.mark}"
    yard.engine.build(
        tag,
        [ContextFile("Dockerfile", dockerfile.encode()), ContextFile("tini", tini, 0o755)],
        build_args={},
        labels=yard.labels,
        progress=lambda line: None,
    )
    script = "trap 'exit 9' TERM; echo hears; while :; do sleep 0.1; done"
    name = yard.started(script, image=tag, init=True)
    yard.until_said(name, b"passes on", b"hears")
    yard.engine.stop(name, 120)
    assert yard.state(name).exit_code == 9


def test_build_that_fails(yard: Yard) -> None:
    """A failed build is one error, with the last lines of its output as the hint."""
    seen: list[str] = []
    dockerfile = f"FROM {yard.image}\nRUN echo before && false\n".encode()
    with pytest.raises(EngineError, match="build failed") as caught:
        yard.engine.build(
            f"plandock-test:{yard.mark}",
            [ContextFile("Dockerfile", dockerfile)],
            build_args={},
            labels=yard.labels,
            progress=seen.append,
        )
    assert "before" in caught.value.hint
    assert any("before" in line for line in seen)
    assert not yard.engine.image_exists(f"plandock-test:{yard.mark}")


def test_build_sends_files_and_modes(yard: Yard, tmp_path: Path) -> None:
    """A build's files come over a stream: bytes and files, with names, modes and arguments."""
    big = tmp_path / "big"
    big.write_bytes(b"b" * 3_000_000)
    dockerfile = (
        f"FROM {yard.image}\nARG WORD\nCOPY d/ /d/\nRUN test \"$WORD\" = 'a b' && chmod 700 /d\n"
    )
    tag = f"plandock-test:{yard.mark}"
    yard.engine.build(
        tag,
        [
            ContextFile("Dockerfile", dockerfile.encode()),
            ContextFile("d/run", b"#!/bin/sh\nwc -c < /d/big\n", 0o755),
            ContextFile("d/big", big),
        ],
        build_args={"WORD": "a b"},
        labels=yard.labels,
        progress=lambda line: None,
    )
    assert [image.tags for image in yard.engine.images(yard.label)] == [(tag,)]
    assert yard.engine.image_id(tag) == yard.engine.images(yard.label)[0].id
    said = yard.engine.run(yard.spec("/d/run; stat -c %U /d/run", image=tag, user="0:0"))
    assert said.text.split() == ["3000000", "root"]
    yard.engine.remove_image(tag)
    assert not yard.engine.image_exists(tag)


def test_pull_without_a_registry(yard: Yard) -> None:
    """An image that no registry here has is an error, and not a hang."""
    with pytest.raises(EngineError, match="pull failed"):
        yard.engine.pull("localhost:9/nobody/nothing:1", lambda line: None)
