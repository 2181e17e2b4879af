"""What may be asked of a container engine, and nothing else.

No bind mount, no host socket, no shared clock: an engine may be on another machine.  Everything
that goes in or out travels through the standard streams of a container or of an exec in one.
Container, image and volume names are plain words; what belongs together is found by label.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, Literal, Protocol

from plandock.errors import EngineError
from plandock.proc import Child, Finished

Network = Literal["none", "bridge", "host"]
Progress = Callable[[str], None]


class EngineDown(EngineError):
    """The engine does not answer (at all, or any more); what ran in it may still be there."""


class OtherEngine(EngineDown):
    """The program of this name belongs to another engine, whose words differ."""


class BrokenOff(EngineError):
    """What was going on in a container came to no end: it was killed, or the engine under it."""


class NotThere(EngineError):
    """The container, image or volume that was named does not exist."""


@dataclass(frozen=True)
class VolumeMount:
    """A named volume at an absolute path of the container."""

    name: str
    path: str
    read_only: bool = False


@dataclass(frozen=True)
class Tmpfs:
    """A file system in memory: at most ``size_bytes``, owned by root, with ``mode``.

    ``inodes`` bounds its files, where the engine can be told (Docker).
    Where the image has a folder at ``path``, runc 1.1 gives that folder's mode to the mount,
    whatever was asked for (measured): mount it where the image has nothing.
    """

    path: str
    size_bytes: int
    mode: int = 0o1777
    exec: bool = False
    inodes: int = 1 << 20


@dataclass(frozen=True)
class Ulimit:
    """One resource limit, soft and hard alike; lowered to what the engine can give."""

    name: str
    value: int


@dataclass(frozen=True)
class ContainerSpec:
    """A container as it is to be created; sealed unless told otherwise.

    ``env`` is listed by the engine to anyone who may ask it: never a secret.  ``network="host"``
    is for the route to a stand-in on loopback alone.  ``init`` puts the image's own ``tini`` over
    ``argv`` (the same on every engine, where ``--init`` needs a program that Podman's packages
    often leave out).  ``cpus=None`` and the other ``None`` limits mean none; a limit that the
    engine's host cannot enforce is left out, with a note (see ``Engine.notes``).
    ``log_max_bytes`` bounds what a container's output may take on the engine's disk.
    """

    name: str
    image: str
    argv: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    volumes: tuple[VolumeMount, ...] = ()
    tmpfs: tuple[Tmpfs, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    user: str = "1000:1000"
    network: Network = "none"
    read_only: bool = True
    cap_add: tuple[str, ...] = ()
    no_new_privileges: bool = True
    memory_bytes: int | None = None
    cpus: float | None = None
    pids_limit: int | None = None
    ulimits: tuple[Ulimit, ...] = ()
    shm_bytes: int = 64 << 20
    stdin_open: bool = False
    runtime: str | None = None
    workdir: str | None = None
    log_max_bytes: int = 512 << 20
    init: bool = False
    hostname: str | None = None
    stop_timeout_s: int | None = None


@dataclass(frozen=True)
class Limits:
    """The limits that a container really gets; ``None`` where the host cannot enforce one.

    ``ulimits`` by name, soft and hard alike; ``inodes``: whether a tmpfs's files are counted.
    """

    memory_bytes: int | None
    cpus: float | None
    pids: int | None
    ulimits: Mapping[str, int]
    inodes: bool


@dataclass(frozen=True)
class Mount:
    """What an engine says is mounted in a container; ``kind`` is ``volume``, ``bind``, …"""

    kind: str
    name: str
    path: str
    writable: bool


@dataclass(frozen=True)
class ContainerState:
    """One container as the engine sees it.  Times are aware, by the engine's own clock.

    ``oom_killed`` may be wrongly false: Podman 4.3 loses that fact (measured); an exit code of
    137 that nobody asked for is the other sign.
    """

    id: str
    name: str
    state: Literal["created", "running", "paused", "exited", "gone"]
    exit_code: int | None
    oom_killed: bool
    started_at: datetime | None
    finished_at: datetime | None
    error: str = ""
    image_id: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()

    @property
    def running(self) -> bool:
        """Whether a process of it is alive (paused counts)."""
        return self.state in ("running", "paused")


@dataclass(frozen=True)
class Volume:
    """One named volume."""

    name: str
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Image:
    """One image; ``tags`` carry no registry part where the engine made them itself."""

    id: str
    tags: tuple[str, ...]
    labels: Mapping[str, str]
    size_bytes: int
    created_at: datetime | None


@dataclass(frozen=True)
class ContextFile:
    """One file of a build context: its name there, its mode, and its bytes or where they are."""

    name: str
    source: bytes | Path
    mode: int = 0o644


class Engine(Protocol):
    """A container engine.  Every method raises :class:`EngineError` (or a subclass) on failure.

    What is removed or stopped twice is no failure: every step may be repeated after a crash.
    """

    @property
    def name(self) -> str:
        """``docker`` or ``podman``."""

    def check_network(self, network: Network) -> None:
        """Raise :class:`EngineError` where the engine has no such network to give."""

    def limits(self, spec: ContainerSpec) -> Limits:
        """What becomes of a container's limits on this engine's host."""

    def ping(self) -> str:
        """The engine's version; raises :class:`EngineDown` where it does not answer."""

    def architecture(self) -> str:
        """What the engine's containers run on: ``x64`` or ``arm64``."""

    def notes(self) -> tuple[str, ...]:
        """One line for each thing that this engine's host cannot do, such as a memory limit."""

    def image_id(self, image: str) -> str | None:
        """The local id of an image (hex, no prefix), or ``None`` where it is not there."""

    def local_name(self, image: str) -> str | None:
        """What a build's ``FROM`` may call an image that is here already, else ``None``.

        A name without a registry may stand for one that was fetched with it: which registries
        those are is the engine's own configuration, so the image is looked for among those here.
        """

    def image_exists(self, image: str) -> bool:
        """Whether the image is there, without asking a registry."""

    def images(self, label: str) -> tuple[Image, ...]:
        """Images with a label, given as ``key`` or ``key=value``."""

    def pull(self, image: str, progress: Progress) -> None:
        """Fetch an image through the engine's own configuration of registries."""

    def build(
        self,
        tag: str,
        context: Iterable[ContextFile],
        *,
        build_args: Mapping[str, str],
        labels: Mapping[str, str],
        progress: Progress,
        timeout_s: float = 1800.0,
    ) -> None:
        """Build ``Dockerfile`` of ``context``, which is sent over standard input as a tar stream.

        ``progress`` gets each line of output, from a thread of its own.
        """

    def remove_image(self, image: str) -> None:
        """Remove an image or a tag of it; one that is not there is fine, one in use is kept."""

    def create_volume(self, name: str, labels: Mapping[str, str]) -> None:
        """Make a named volume; one that is there already stays as it is."""

    def remove_volume(self, *names: str) -> None:
        """Remove volumes; one that is not there is fine, one in use is an error."""

    def volume_names(self, label: str) -> tuple[str, ...]:
        """The names of the volumes with a label, given as ``key`` or ``key=value``."""

    def volumes(self, label: str) -> tuple[Volume, ...]:
        """Volumes with a label, given as ``key`` or ``key=value``."""

    def create(self, spec: ContainerSpec) -> str:
        """Make a container without starting it; returns its id."""

    def start(self, container: str) -> None:
        """Start a created or ended container; a running one is left alone."""

    def stop(self, container: str, timeout_s: int = 10) -> None:
        """Ask PID 1 to end, end it after ``timeout_s`` seconds; one that is gone is fine."""

    def kill(self, container: str, signal: str = "KILL") -> None:
        """Send a signal to PID 1; one that does not run is fine."""

    def remove(self, container: str) -> None:
        """Remove a container, running or not, and its nameless volumes; gone is fine."""

    def open_run(self, spec: ContainerSpec, *, stderr: IO[bytes] | None = None) -> Child:
        """Create and start a container that is removed at its end, its streams being the child's.

        Its output is not logged by the engine.  Without ``stderr`` that too is a pipe, which the
        caller must read.  The caller ends the child with :func:`plandock.proc.end`.
        """

    def run(
        self,
        spec: ContainerSpec,
        *,
        stdin: bytes | IO[bytes] | None = None,
        timeout_s: float | None = 120.0,
        check: bool = True,
    ) -> Finished:
        """Run a container to its end and remove it; with ``check`` a failure raises."""

    def open_exec(
        self,
        container: str,
        argv: Sequence[str],
        *,
        user: str | None = None,
        stderr: IO[bytes] | None = None,
    ) -> Child:
        """Start a program in a running container, its streams being the child's."""

    def exec(
        self,
        container: str,
        argv: Sequence[str],
        *,
        user: str | None = None,
        stdin: bytes | IO[bytes] | None = None,
        timeout_s: float | None = 60.0,
        check: bool = True,
    ) -> Finished:
        """Run a program in a running container to its end; with ``check`` a failure raises."""

    def exec_command(
        self, container: str, argv: Sequence[str], *, user: str | None = None, tty: bool = True
    ) -> list[str]:
        """The argument vector of an exec on the user's terminal, for :func:`proc.attached`."""

    def logs(
        self, container: str, *, follow: bool = True, stderr: IO[bytes] | None = None
    ) -> Child:
        """What a container has said from its start; with ``follow`` on to its end.

        The child's stdout carries the container's stdout.  Its stderr goes to ``stderr``, or
        nowhere: a reader of one stream must not hang on the other.
        """

    def wait(self, container: str, timeout_s: float | None = None) -> int | None:
        """The exit code of a container once it has ended; ``None`` when the time ran out."""

    def inspect(self, container: str) -> ContainerState | None:
        """How a container is, or ``None`` where there is none of that name."""

    def container_names(self, label: str) -> tuple[str, ...]:
        """The names of the containers with a label, ended ones too."""

    def containers(self, label: str) -> tuple[ContainerState, ...]:
        """Containers, ended ones too, with a label, given as ``key`` or ``key=value``."""
