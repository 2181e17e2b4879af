"""A run of the real CLI that waits in the middle of its work until it is let go."""

from __future__ import annotations

import json
import subprocess
import time
from typing import Any

from plandock.runs.model import RunId
from plandock.standin import Script, ToolCall, commit, execution_scene, write_file
from tests.crash.crashing import hand_off, store_of
from tests.support.laptop import Laptop

# In the box's own scratch, where an exec of the test can put it.
GO = "/tmp/plandock-test-go"
_COMES_WITHIN_S = 600.0


class HeldRun:
    """Started by hand; the agent's first call of a tool waits for :meth:`let_go`."""

    def __init__(self, laptop: Laptop, *more: ToolCall) -> None:
        self.laptop, self.engine = laptop, laptop.engine
        wait = f"touch {GO}.waits; while [ ! -e {GO} ]; do sleep 0.2; done"
        # The CLI's own patience, in milliseconds: without it, it goes on after two minutes.
        hold = ToolCall("Bash", {"command": wait, "description": "Wait", "timeout": 600_000})
        calls = (hold, *more, write_file("done.txt", "done\n"), commit("Done"))
        laptop.standin.script = Script(scenes=(execution_scene(calls),))
        self.id = hand_off(laptop)
        self._await_the_middle()

    @property
    def run(self) -> dict[str, Any]:
        """The run as `show --json` has it."""
        found: dict[str, Any] = self.laptop.json("show", "last")
        return found

    @property
    def box(self) -> str:
        """The agent's container."""
        return f"plandock-{self.id}-box"

    @property
    def gateway(self) -> str:
        """The box's way out."""
        return f"plandock-{self.id}-gateway"

    def _await_the_middle(self) -> None:
        """Wait until the box is up, by the store, then in it until the agent's call has begun."""
        until = time.monotonic() + _COMES_WITHIN_S
        with store_of(self.laptop) as store:
            while (found := store.get(RunId(self.id))).state != "running":
                assert not found.state.final, found
                assert time.monotonic() < until, f"the box is not up: {found}"
                time.sleep(0.02)
        loop = f"n=0; until [ -e {GO}.waits ]; do sleep 0.1; n=$((n+1)); [ $n -lt 6000 ]; done"
        code, said = self.execute("sh", "-ec", loop)
        assert code == 0, f"the agent did not come to its first call: {said} {self.run}"

    def execute(self, *argv: str, container: str = "", data: str = "") -> tuple[int, str]:
        """Run something as the agent would, in the box; exit code and both outputs."""
        words = [self.engine, "exec", "-i", "--user", "1000:1000", container or self.box, *argv]
        done = subprocess.run(
            words, input=data, capture_output=True, text=True, timeout=900, check=False
        )
        return done.returncode, done.stdout + done.stderr

    def let_go(self) -> dict[str, Any]:
        """Let the agent go on to its end; the run then."""
        assert self.execute("touch", GO)[0] == 0
        self.laptop.plandock("wait", self.id, "--timeout", "600")
        return self.run

    def things(self, kind: str) -> list[str]:
        """Names of the run's containers (`ps -a`) or volumes (`volume ls`)."""
        words = {"container": ["ps", "-a"], "volume": ["volume", "ls"]}[kind]
        form = {"container": "{{.Names}}", "volume": "{{.Name}}"}[kind]
        words += ["--filter", f"label=plandock.run={self.id}", "--format", form]
        done = subprocess.run([self.engine, *words], capture_output=True, text=True, check=True)
        return done.stdout.split()

    def inspected(self, name: str) -> dict[str, Any]:
        """What the engine says of a container."""
        done = subprocess.run(
            [self.engine, "inspect", name], capture_output=True, text=True, check=True
        )
        found: dict[str, Any] = json.loads(done.stdout)[0]
        return found
