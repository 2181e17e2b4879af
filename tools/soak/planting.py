"""The soak's positive control: something of each kind is left behind, and must be found."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from plandock.runs.model import Run
from tests.support.machine import container_words
from tools.soak.leaks import Ground


@contextmanager
def planted(ground: Ground, run: Run) -> Iterator[set[str]]:
    """Leave things behind that bear the mark of an ended run; they go at the end of the block."""
    engine, label = ground.laptop.engine, f"plandock.run={run.id}"
    folder = ground.state / "runs" / run.id
    with ExitStack() as later:
        later.callback(ground.remove, [str(run.id)])
        # Found by their labels alone, or, the network, by its name.
        for words in (
            (
                *container_words(engine, "create", "--label", label, "--entrypoint", "true"),
                run.image,
            ),
            (engine, "volume", "create", "--label", label),
            (engine, "network", "create", f"plandock-{run.id}-left"),
        ):
            subprocess.run(words, capture_output=True, check=True)
        process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE,
                                   env=ground.laptop.env)  # fmt: skip
        later.callback(process.wait)
        later.callback(process.kill)
        held = socket.socket(socket.AF_UNIX)
        later.callback(held.close)
        # By way of a short name: a socket's path is at most 107 bytes.
        place = ground.temporary / "s"
        held.bind(str(place))
        later.callback(place.unlink)
        for path in (
            folder / "forgotten",
            ground.repositories[0] / ".git" / "left.lock",
            ground.state / "runs" / "r0" / "run.json",
            folder / "quarantine-left" / "HEAD",
        ):
            path.parent.mkdir(exist_ok=True)
            path.write_text("left behind\n")
            later.callback(path.unlink, missing_ok=True)
        later.callback(shutil.rmtree, ground.state / "runs" / "r0")
        later.callback(shutil.rmtree, folder / "quarantine-left")
        yield {
            "containers", "volumes", "networks", "processes", "sockets", "temporary_files",
            "unknown_files", "locks", "folders", "quarantines",
        }  # fmt: skip
