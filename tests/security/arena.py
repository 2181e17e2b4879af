"""Where attacks are carried out: a real box and a real gateway, in a world without a way out.

*The world* is a container without network.  In its network namespace every address of IPv4 and
IPv6 is a local one (``ip route add local default dev lo``), so that a packet to anywhere at all
arrives at the test's own recorder and can never leave this machine, whatever hole is found.

The gateway and the box are the product's own (:func:`launch.gateway_spec`, ``box_spec``); the one
difference is that the gateway's network is the world's and not the engine's bridge.  *Open* is
the positive control: the same image in the world's namespace, with nothing sealed.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from plandock import git
from plandock.box import image as box_image
from plandock.box import launch
from plandock.engines import arguments, detect
from plandock.engines.command_line import CommandLineEngine
from plandock.engines.protocol import ContainerSpec
from plandock.proc import Finished
from plandock.runs.model import Run, RunId
from plandock.settings.keys import Settings
from plandock.workspace.stage import Wish
from plandock.workspace.stage import stage as stage_workspace
from tests.security.executor import Executor
from tests.security.recorder import ZONE
from tests.support.journal import note
from tests.support.machine import CLONE, as_root
from tests.support.repository import make_repository

ALLOWED = tuple(x for x in (*ZONE, "rebind.example") if x != launch.API_HOST)
"""What this user's settings let the box reach: every name of the recorder's zone, the hostile
answers included; so no attack of this kind is stopped by the list alone."""

UNSEALED = ("NET_RAW", "NET_ADMIN", "NET_BIND_SERVICE")

# As in the agent's environment (`box/inside/steward.py`).
PROXY = "http://127.0.0.1:3128"
ENVIRONMENT = {
    "HOME": launch.HOME,
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    **dict.fromkeys(("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"), PROXY),
    "NO_PROXY": "127.0.0.1,localhost",
    "GIT_TERMINAL_PROMPT": "0",
}

Event = dict[str, Any]


class Arena:
    """One engine's world, gateway and box; made by the fixture ``arena``."""

    def __init__(self, engine: str, folder: Path, base_image: str) -> None:
        chosen = detect.choose(engine)
        assert isinstance(chosen, CommandLineEngine)
        self.engine = chosen
        self.mark = secrets.token_hex(4)
        self.label = f"plandock.test={self.mark}"
        note("name", self.mark)
        note("name", f"a{self.mark}")
        self.folder = folder
        self.record = folder / "arrived.jsonl"
        self.control = folder / "control.sock"
        self.repo = make_repository(folder / "project")
        # Not a name that a user's run could have: those ids have five letters.
        self.run = Run(RunId(f"a{self.mark}"), repo=str(self.repo.root), cwd=str(self.repo.root))
        self.settings = Settings(egress=ALLOWED)
        self.base_image = base_image
        self.image = ""
        self.recorder: subprocess.Popen[bytes] | None = None
        self.executors: dict[str, Executor] = {}

    # Making it, and taking it away

    def build(self) -> None:
        """Bring up the world, its recorder, the gateway and the box."""
        self.image = plandock_image(self.engine, self.base_image)
        self._container("world", "sleep", "infinity")
        self._world()
        launch.make_volumes(self.engine, self.run)
        self._stage()
        named: dict[str, list[str]] = {name: [] for name in self.settings.egress}
        gateway = launch.gateway_spec(self.run, self.image, self.settings, named)
        assert gateway.network == "bridge"
        self._in_world(gateway)
        box = launch.box_spec(self.run, self.image, self.settings)
        self.engine.create(box)
        self.engine.start(box.name)
        self._in_world(self.spec("open", "sleep", "infinity", user="0:0", cap_add=UNSEALED))
        self._until(lambda: self.box("test -S /plandock/link/proxy.sock").ok, "no gateway")
        listening = "for p in 3128 3129; do : < /dev/tcp/127.0.0.1/$p || exit 1; done"
        self._until(lambda: self.box(listening).ok, "no relay in the box")

    def close(self) -> None:
        """Remove everything that was made here, and nothing else."""
        for executor in self.executors.values():
            executor.close()
        if self.recorder is not None:
            end_as_root(self.recorder)
        # Podman keeps the world as long as somebody lives in it.
        launch.remove_containers(self.engine, self.run)
        mine = [c.name for c in self.engine.containers(self.label)]
        for container in sorted(mine, key=lambda name: name == self.name("world")):
            self.engine.remove(container)
        launch.remove_volumes(self.engine, self.run)
        for volume in self.engine.volumes(self.label):
            self.engine.remove_volume(volume.name)
        self.engine.remove_volume(launch.names_of(self.run).mirror)

    def spec(self, what: str, *argv: str, **more: Any) -> ContainerSpec:
        """A container of the test's own from the box's image, without network unless told."""
        plain = ContainerSpec(
            f"plandock-test-{self.mark}-{what}",
            self.image,
            argv,
            labels={"plandock.test": self.mark},
            stop_timeout_s=0,
        )
        return replace(plain, **more)

    def _container(self, what: str, *argv: str) -> None:
        spec = self.spec(what, *argv)
        self.engine.create(spec)
        self.engine.start(spec.name)

    def _in_world(self, spec: ContainerSpec) -> None:
        """Create and start a container as the product does, but in the world's namespace."""
        dialect = self.engine.dialect
        words = arguments.create_arguments(spec, dialect)
        words[words.index("--network") + 1] = f"container:{self.name('world')}"
        vector = [self.engine.name, *arguments.global_arguments(spec, dialect), "create"]
        self.call([*vector, *arguments.log_arguments(spec, dialect), *words])
        self.engine.start(spec.name)

    def _world(self) -> None:
        off = " ".join(f"echo 0 > /proc/sys/net/ipv6/conf/{x}/disable_ipv6;" for x in ("all", "lo"))
        routes = "ip route add local default dev lo; ip -6 route add local default dev lo"
        self.call([*self.inside_world(), "sh", "-ec", f"{off} ip link set lo up; {routes}"])
        program = [sys.executable, str(Path(__file__).with_name("recorder.py"))]
        words = ["--record", str(self.record), "--control", str(self.control)]
        self.recorder = subprocess.Popen([*self.inside_world(), *program, *words], cwd=CLONE)
        self._until(self.control.exists, "no recorder")

    def _stage(self) -> None:
        head = self.repo.git("rev-parse", "HEAD")
        spec = launch.stage_spec(
            self.run, self.image, git.line(self.repo.root, "rev-parse", "--show-object-format")
        )
        names = ("feature/auto", "Ada Lovelace", "ada@example.invalid")
        wish = Wish(self.run.repo, head, *names, self.run.id)
        stage_workspace(self.engine, spec, self.repo.root, wish, ())

    def _until(self, answer: Callable[[], bool], complaint: str) -> None:
        end = time.monotonic() + 240
        while not answer():
            assert time.monotonic() < end, f"{complaint}: {self.gateway_log()}"
            time.sleep(0.2)

    # What a test does in it

    def name(self, what: str) -> str:
        """The name of the ``world``'s or the ``open`` container."""
        return f"plandock-test-{self.mark}-{what}"

    def call(self, vector: Sequence[str]) -> str:
        """Run a program of the host that has to work; what it says."""
        done = subprocess.run(vector, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, f"{vector}: {done.stdout}{done.stderr}"
        return done.stdout

    def pid(self, container: str) -> int:
        """The process, as the host counts, that a container consists of."""
        vector = [self.engine.name, "inspect", "--format", "{{.State.Pid}}", container]
        return int(self.call(vector))

    def inside_world(self) -> list[str]:
        """What to put before a program of the host that is to run in the world's namespace."""
        return [*as_root(), "nsenter", f"--net=/proc/{self.pid(self.name('world'))}/ns/net"]

    def box(self, payload: str) -> Finished:
        """Run a payload (bash) in the box, as the agent's user and with the agent's proxies."""
        return self._bash(launch.names_of(self.run).box, payload, "1000:1000")

    def open(self, payload: str) -> Finished:
        """Run the same in a container of the world that nothing seals."""
        return self._bash(self.name("open"), payload, "0:0")

    def _bash(self, container: str, payload: str, user: str) -> Finished:
        if container not in self.executors:
            argv = ["env", "-i", *(f"{name}={value}" for name, value in ENVIRONMENT.items())]
            vector = self.engine.exec_command(container, argv, user=user, tty=False)
            self.executors[container] = Executor(vector)
        done = self.executors[container].run(payload)
        assert done.returncode != 124, f"it did not end: {done}"
        return done

    def now(self) -> int:
        """A point in the record, after everything that has arrived so far."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(240)
            line.connect(str(self.control))
            with line.makefile("rb") as answer:
                return int(answer.read())

    def arrived(self, since: int, *, names: bool = False) -> list[Event]:
        """What reached the outside since a point in the record.

        Left out are the gateway's questions for names on its list: it may ask those.
        ``names=True`` puts them in.
        """
        end = self.now()
        with self.record.open("rb") as file:
            file.seek(since)
            events = [json.loads(x) for x in file.read(end - since).splitlines()]
        listed = {*ALLOWED, launch.API_HOST}
        return [e for e in events if names or e["kind"] != "dns" or e["name"] not in listed]

    def gateway_log(self) -> str:
        """What the gateway has said."""
        name = launch.names_of(self.run).gateway
        done = subprocess.run(
            [self.engine.name, "logs", name], capture_output=True, text=True, check=False
        )
        return done.stdout + done.stderr


def end_as_root(child: subprocess.Popen[bytes]) -> None:
    """End a child of ours that may belong to root."""
    if os.geteuid() == 0:
        child.kill()
    else:
        subprocess.run([*as_root(), "kill", "-KILL", str(child.pid)], check=False)
    child.wait()


def plandock_image(engine: CommandLineEngine, base_image: str) -> str:
    """The box's image with the newest CLI, from the cache that the end-to-end tests share."""
    cache = os.environ.get("PLANDOCK_TEST_CACHE", str(CLONE / ".setup/cache"))
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = cache
    try:
        return box_image.ensure_image(
            engine,
            cli_version=os.environ["PLANDOCK_TEST_CLI_NEWEST_VERSION"],
            base=base_image,
            progress=lambda line: print(line, flush=True),
        )
    finally:
        if before is None:
            del os.environ["XDG_CACHE_HOME"]
        else:
            os.environ["XDG_CACHE_HOME"] = before
