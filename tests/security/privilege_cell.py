"""Two containers of the box's image: the product's own box, and one that nothing seals.

Each payload is run once in each, all of one container in one go: starting a program through an
engine costs more than most of them do.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from plandock.engines import arguments, detect
from plandock.engines.command_line import CommandLineEngine
from plandock.engines.protocol import ContainerSpec
from plandock.settings.keys import Settings
from tests.security.arena import plandock_image
from tests.security.payloads import Payload
from tests.security.privilege_programs import GAINED, PLANT_KEY
from tests.support.boxes import Box
from tests.support.journal import note
from tests.support.machine import as_root

RUNNER = """
import json, subprocess, sys
found = {}
for name, command in json.load(sys.stdin):
    words = ["timeout", "-k", "2", "240", "bash", "-c", command]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=-1, stderr=-2, cwd="/tmp")
    found[name] = [done.returncode, done.stdout[-6000:].decode("utf-8", "replace")]
print(json.dumps(found))
"""

# The engines mount these without the right to write; whoever may mount takes it back.
WRITABLE = (
    "cut -d' ' -f5 /proc/self/mountinfo | grep ^/sys | while read -r place; do "
    "mount -o remount,rw,bind $place || mount -o remount,rw $place; done"
)
# In the kernel's order (linux/capability.h), in which a mask counts them; later ones are parts of
# SYS_ADMIN, which Docker 20.10 does not know.
RIGHTS = """
    CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE
    NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO
    SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME
    SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG
    WAKE_ALARM BLOCK_SUSPEND AUDIT_READ
"""


@dataclass(frozen=True)
class Said:
    """What a payload said, and the exit code of its shell (124: it did not end by itself)."""

    code: int
    text: str

    @property
    def gained(self) -> bool:
        """Whether it says, on a line of its own, that it got what it wanted."""
        return any(line.startswith(GAINED) for line in self.text.splitlines())


class Cell:
    """One engine's box with its real steward, and the open container beside it."""

    def __init__(self, engine: str, folder: Path, base_image: str) -> None:
        chosen = detect.choose(engine)
        assert isinstance(chosen, CommandLineEngine)
        self.engine = chosen
        self.image = plandock_image(chosen, base_image)
        self.marker = folder / "marker"
        self.marker.write_text(f"{GAINED}\n")
        self.box = Box(chosen, self.image, Settings())
        note("name", mark := secrets.token_hex(4))
        self.opened = ContainerSpec(
            f"plandock-test-{mark}-open",
            self.image,
            ("sleep", "infinity"),
            user="0:0",
            read_only=False,
            no_new_privileges=False,
            stop_timeout_s=0,
        )

    def build(self) -> None:
        """Start both, and give a user of this machine a key."""
        self.box.start(argv=self.box.spec.argv)
        dialect = replace(self.engine.dialect, seccomp="")
        words = arguments.create_arguments(self.opened, dialect)
        at = words.index("--cap-drop")
        words[at : at + 2] = self._unsealed()
        vector = [self.engine.name, *arguments.global_arguments(self.opened, dialect), "create"]
        self._host([*vector, *words])
        self.engine.start(self.opened.name)
        seen = [self.engine.name, "inspect", "--format", "{{.State.Pid}}", self.opened.name]
        inside = [*as_root(), "nsenter", f"--net=/proc/{self._host(seen).strip()}/ns/net"]
        # Every address is its own: what is sent there can be seen to go, and goes nowhere.
        self._host([*inside, "ip", "link", "set", "lo", "up"])
        self._host([*inside, "ip", "route", "add", "local", "default", "dev", "lo"])
        work = f"mkdir -p '{self.box.run.repo}'"
        self.engine.exec(self.opened.name, ["sh", "-c", f"{WRITABLE}; {work}"], user="0:0")
        self._host([*as_root(), "setpriv", "--reuid", "1000", sys.executable, "-c", PLANT_KEY])

    def _unsealed(self) -> list[str]:
        """What ``--privileged`` means, less the rights that this machine itself is without."""
        bound = Path("/proc/self/status").read_text().split("CapBnd:\t")[1].split()[0]
        words = [f"--cap-add={x}" for n, x in enumerate(RIGHTS.split()) if int(bound, 16) >> n & 1]
        masks = "unmask=ALL" if self.engine.name == "podman" else "systempaths=unconfined"
        for option in ("seccomp=unconfined", "apparmor=unconfined", masks):
            words += ["--security-opt", option]
        return [*words, "--device-cgroup-rule", "b *:* rwm", "--device-cgroup-rule", "c *:* rwm"]

    def close(self) -> None:
        """Remove both."""
        self.engine.remove(self.opened.name)
        self.box.remove()

    def attack(self, payloads: tuple[Payload, ...]) -> dict[str, Said]:
        """What each says as the agent's user in the box."""
        jobs = [(x.name, x.command) for x in payloads]
        return self._run(self.box.name, "1000:1000", jobs)

    def control(self, payloads: tuple[Payload, ...]) -> dict[str, Said]:
        """What each, or its control, says as root in the open container."""
        jobs = [(x.name, x.control or x.command) for x in payloads]
        return self._run(self.opened.name, "0:0", jobs)

    def _run(self, container: str, user: str, jobs: list[tuple[str, str]]) -> dict[str, Said]:
        places = {"{marker}": str(self.marker), "{work}": self.box.run.repo}
        told = []
        for name, command in jobs:
            for mark, place in places.items():
                command = command.replace(mark, f"'{place}'" if mark == "{work}" else place)
            told.append((name, command))
        argv = ["python3", "-I", "-c", RUNNER]
        data = json.dumps(told).encode()
        done = self.engine.exec(container, argv, user=user, stdin=data, timeout_s=1500.0)
        return {name: Said(*said) for name, said in json.loads(done.stdout).items()}

    def _host(self, vector: list[str]) -> str:
        done = subprocess.run(vector, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, f"{vector}: {done.stdout}{done.stderr}"
        return done.stdout
