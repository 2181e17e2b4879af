"""A place in a real engine for one test, and nobody else."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace

from plandock import proc
from plandock.engines.protocol import (
    ContainerSpec,
    ContainerState,
    Engine,
)

PATIENCE_S = 300.0
# A program that ends when it is let go, or never: `exec` touches the file in its /tmp.
UNTIL_LET_GO = "until [ -e /tmp/go ]; do sleep 0.1; done"
LET_GO = ("touch", "/tmp/go")


@dataclass
class Yard:
    """One engine, and names that nobody else uses."""

    engine: Engine
    image: str
    mark: str

    @property
    def label(self) -> str:
        """The label of everything that a test makes."""
        return f"plandock.test={self.mark}"

    @property
    def labels(self) -> dict[str, str]:
        """The same as a mapping."""
        return {"plandock.test": self.mark}

    def name(self, what: str) -> str:
        """A name for a container or a volume."""
        return f"plandock-test-{self.mark}-{what}"

    def spec(self, script: str, what: str = "c", **more: object) -> ContainerSpec:
        """A container that runs a shell script, sealed as by default."""
        plain = ContainerSpec(self.name(what), self.image, ("sh", "-c", script), labels=self.labels)
        return replace(plain, **more)  # type: ignore[arg-type]

    def volume(self, what: str = "v") -> str:
        """A fresh volume."""
        self.engine.create_volume(self.name(what), self.labels)
        return self.name(what)

    def started(self, script: str, what: str = "c", **more: object) -> str:
        """A container that has been created and started; its name."""
        spec = self.spec(script, what, **more)
        self.engine.create(spec)
        self.engine.start(spec.name)
        return spec.name

    def until_said(self, container: str, *words: bytes) -> None:
        """Wait until all these words are in a container's log."""
        end = time.monotonic() + PATIENCE_S
        while True:
            with contextlib.closing(Reader(self.engine.logs(container, follow=False))) as reader:
                said = reader.whole()
            if all(word in said for word in words):
                return
            assert time.monotonic() < end, said[-1000:]
            time.sleep(0.1)

    def state(self, container: str) -> ContainerState:
        """How a container is that must be there."""
        found = self.engine.inspect(container)
        assert found is not None
        return found


class Reader:
    """Reads a child's output to its end."""

    def __init__(self, child: proc.Child) -> None:
        self.child = child

    def whole(self) -> bytes:
        assert self.child.stdout is not None
        return self.child.stdout.read()

    def close(self) -> None:
        for stream in (self.child.stdin, self.child.stdout, self.child.stderr):
            if stream is not None:
                stream.close()
        proc.end(self.child)
