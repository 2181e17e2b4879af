"""A real box of the product's own making, for the tests that attack it from inside."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field, replace
from typing import Any

from plandock.box import launch
from plandock.box.expectations import expectations_of
from plandock.engines.protocol import ContainerSpec, Engine
from plandock.runs.model import Run, new_run_id
from plandock.settings.keys import Settings
from tests.support.journal import note

WORK = "/home/user/my project"
PROBE = (
    "import json,sys; sys.path.insert(0,'/opt/plandock'); import probe; "
    "print(json.dumps(list(probe.examine(json.load(sys.stdin)))))"
)


@dataclass
class Box:
    """A box that is up, and everything that belongs to it."""

    engine: Engine
    image: str
    settings: Settings = field(default_factory=Settings)

    def __post_init__(self) -> None:
        self.run = Run(id=new_run_id(), repo=WORK, cwd=WORK, image=self.image)
        # A mirror of its own, and not that of somebody's repository.
        self.run.repo = f"{WORK}/{self.run.id}"
        note("name", self.run.id)
        note("repository", self.run.repo)
        self.spec = launch.box_spec(self.run, self.image, self.settings)
        self.name = self.spec.name

    def start(self, **changes: Any) -> Box:
        """Make the volumes and start the box with `tail` in the steward's place."""
        launch.make_volumes(self.engine, self.run)
        stage = launch.stage_spec(self.run, self.image, "sha1")
        hand_over = "import sys; sys.path.insert(0, '/opt/plandock'); import stage, json, os; "
        hand_over += "stage.become_agent(json.loads(os.environ['PLANDOCK_VOLUMES']))"
        self.engine.run(replace(stage, argv=("python3", "-I", "-c", hand_over), stdin_open=False))
        idle = ("tail", "-f", "/dev/null")
        self.spec = replace(self.spec, **{"argv": idle, **changes})
        self.engine.create(self.spec)
        self.engine.start(self.name)
        return self

    def probe(self, expected: dict[str, Any] | None = None) -> dict[str, dict[str, Any]]:
        """What the probe says in this box, by check."""
        wish = expected or expectations_of(self.sealed_spec(), self.engine)
        done = self.engine.exec(
            self.name, ("python3", "-I", "-c", PROBE), stdin=json.dumps(wish).encode()
        )
        return {check["name"]: check for check in json.loads(done.stdout)}

    def sealed_spec(self) -> ContainerSpec:
        """What the product orders, whatever this box has become."""
        return launch.box_spec(self.run, self.image, self.settings)

    def python(self, code: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run Python in the box as the agent's user; what it printed."""
        done = self.engine.exec(
            self.name,
            ("python3", "-I", "-"),
            user="1000:1000",
            stdin=code.encode(),
            timeout_s=timeout_s,
            check=False,
        )
        out, err = (x.decode("utf-8", "replace") for x in (done.stdout, done.stderr))
        return subprocess.CompletedProcess(code, done.returncode, out, err)

    def alive(self) -> bool:
        """Whether the box still runs."""
        state = self.engine.inspect(self.name)
        return state is not None and state.running

    def remove(self) -> None:
        """Take everything away; raises where the engine cannot."""
        launch.remove_containers(self.engine, self.run)
        launch.remove_volumes(self.engine, self.run)
        self.engine.remove_volume(launch.names_of(self.run).mirror)
