"""Docker and Podman through their command lines: one argument vector serves both."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import IO

from plandock import proc
from plandock.engines import arguments, reading
from plandock.engines import dialect as dialect_module
from plandock.engines.calling import HELD, NOT_RUNNING, NOT_THERE, Caller
from plandock.engines.protocol import (
    ContainerSpec,
    ContainerState,
    ContextFile,
    Image,
    Limits,
    Network,
    NotThere,
    Progress,
    Volume,
)
from plandock.errors import EngineError
from plandock.proc import Child, Finished, ProcessFailed

# Podman's words and Docker's (measured, podman 4.3 and docker 20.10).
_IN_USE = re.compile(r"name .* is already in use", re.IGNORECASE)
_NO_RUNTIME = re.compile(r"runtime .* not found|unknown.* runtime|invalid runtime", re.IGNORECASE)
_ARCHITECTURES = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}


class CommandLineEngine(Caller):
    """A container engine through the ``docker`` or ``podman`` program on the PATH."""

    def architecture(self) -> str:
        """What the engine's containers run on: ``x64`` or ``arm64``."""
        said = self.dialect.architecture
        known = _ARCHITECTURES.get(said)
        if known is None:
            raise EngineError(
                f"{self._name} runs on {said or 'an unnamed architecture'}; "
                "Claude Code exists for x86_64 and arm64"
            )
        return known

    def notes(self) -> tuple[str, ...]:
        """One line for each thing that this engine's host cannot do."""
        return self.dialect.notes()

    def check_network(self, network: Network) -> None:
        """Raise :class:`EngineError` where this engine has no such network.

        A Docker whose daemon was told ``--bridge=none`` starts a container that asks for the
        bridge all the same, without any way out (measured, 20.10).
        """
        if network != "bridge" or self._name != "docker":
            return
        if network not in self._call(["network", "ls", "--format", "{{.Name}}"]).text.split():
            raise EngineError(
                "docker has no network bridge, the only way out of a box's gateway",
                hint="take bridge=none out of the daemon's options (daemon.json) and restart it",
            )

    def limits(self, spec: ContainerSpec) -> Limits:
        """What becomes of a container's limits on this engine's host."""
        return dialect_module.limits_of(spec, self.dialect)

    # Images

    def image_id(self, image: str) -> str | None:
        """The local id of an image, or ``None`` where it is not there."""
        words = ["image", "inspect", "--format", "{{.Id}}", arguments.image_name(image)]
        try:
            return self._call(words).text.strip().removeprefix("sha256:") or None
        except NotThere:
            return None

    def local_name(self, image: str) -> str | None:
        """What a build's ``FROM`` may call an image that is here already, else ``None``."""
        if self.image_exists(image):
            return image
        if self._name == "docker" or reading.names_registry(image):
            return None
        listed = self._call(["image", "ls", "--format", "{{json .Names}}"]).text.splitlines()
        return reading.full_name(image, listed)

    def image_exists(self, image: str) -> bool:
        """Whether the image is there, without asking a registry."""
        return self.image_id(image) is not None

    def images(self, label: str) -> tuple[Image, ...]:
        """Images with a label."""
        words = ["image", "ls", "--quiet", "--no-trunc", "--filter", f"label={label}"]
        found = list(dict.fromkeys(self._listed(words)))
        return tuple(reading.image(entry) for entry in self._inspect("image", found))

    def pull(self, image: str, progress: Progress) -> None:
        """Fetch an image through the engine's own configuration of registries."""
        words = [*self.dialect.global_flags, "pull", arguments.image_name(image)]
        self._stream("pull", words, (), progress, timeout_s=1800.0)

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
        """Build ``Dockerfile`` of ``context``, sent over standard input.

        Where the engine cannot give a build a network of its own (no kernel support, no
        netavark), the build is done once more on the host's: the build alone, never a box.
        """
        files = tuple(context)
        for host_network in (False, True):
            words = arguments.build_arguments(
                tag,
                self.dialect,
                build_args=build_args,
                labels=labels,
                buildkit=self._buildkit,
                host_network=host_network,
            )
            try:
                self._build(words, files, progress, timeout_s=timeout_s)
                return
            except EngineError as error:
                if host_network or not reading.is_network_failure(error.hint or error.message):
                    raise
                progress("The build has no network of its own here; using the host's for it.")

    def remove_image(self, image: str) -> None:
        """Remove an image or a tag of it; one in use is kept."""
        self._idempotent(["image", "rm", arguments.image_name(image)], NOT_THERE, HELD)

    # Volumes

    def create_volume(self, name: str, labels: Mapping[str, str]) -> None:
        """Make a named volume; one that is there already stays as it is."""
        words = ["volume", "create"]
        for key, value in sorted(labels.items()):
            words += ["--label", f"{key}={value}"]
        already = re.compile("already exists", re.IGNORECASE)
        self._idempotent([*words, arguments.plain_name("volume", name)], already)

    def remove_volume(self, *names: str) -> None:
        """Remove volumes in one call; one that is not there is fine."""
        plain = [arguments.plain_name("volume", name) for name in names]
        if len(plain) > 1:
            finished = self._finish(self._vector(["volume", "rm", *plain]), timeout_s=120.0)
            complaints = finished.stderr.decode("utf-8", "replace").splitlines()
            if finished.ok or (complaints and all(map(NOT_THERE.search, complaints))):
                return
        # One by one: one that is not there must not hide what became of the others.
        for name in plain:
            self._idempotent(["volume", "rm", name], NOT_THERE)

    def volume_names(self, label: str) -> tuple[str, ...]:
        """The names of the volumes with a label."""
        return tuple(self._listed(["volume", "ls", "--quiet", "--filter", f"label={label}"]))

    def volumes(self, label: str) -> tuple[Volume, ...]:
        """Volumes with a label."""
        found = self.volume_names(label)
        return tuple(reading.volume(entry) for entry in self._inspect("volume", found))

    # Containers

    def create(self, spec: ContainerSpec) -> str:
        """Make a container without starting it; returns its id."""
        self.check_network(spec.network)
        words = [*arguments.global_arguments(spec, self.dialect), "create"]
        words += arguments.log_arguments(spec, self.dialect)
        words += arguments.create_arguments(spec, self.dialect)
        try:
            return self._call(words, plain=True).text.split()[-1]
        except EngineError as error:
            if spec.runtime and _NO_RUNTIME.search(error.message):
                raise EngineError(
                    f"{self._name} knows no runtime {spec.runtime}",
                    hint=dialect_module.runtime_hint(self.dialect),
                ) from error
            there = self.inspect(spec.name) if _IN_USE.search(error.message) else None
            if (
                there is None
                or there.state != "created"
                or not spec.labels.keys() <= set(there.labels)
            ):
                raise
            # The client of a supervisor that was killed came to its end after the clearing up.
            self.remove(spec.name)
            return self._call(words, plain=True).text.split()[-1]

    def start(self, container: str) -> None:
        """Start a created or ended container."""
        self._call(["start", arguments.plain_name("container", container)])

    def stop(self, container: str, timeout_s: int = 10) -> None:
        """Ask PID 1 to end, end it after ``timeout_s`` seconds."""
        words = ["stop", "--time", str(timeout_s), arguments.plain_name("container", container)]
        self._idempotent(words, NOT_THERE, NOT_RUNNING, timeout_s=timeout_s + 60.0)

    def kill(self, container: str, signal: str = "KILL") -> None:
        """Send a signal to PID 1; one that does not run is fine."""
        words = ["kill", "--signal", signal, arguments.plain_name("container", container)]
        self._idempotent(words, NOT_THERE, NOT_RUNNING)

    def remove(self, container: str) -> None:
        """Remove a container, running or not, and its nameless volumes."""
        words = arguments.remove_arguments(container, self.dialect)
        gone = re.compile("removal of container .* is already in progress", re.IGNORECASE)
        self._idempotent(words, NOT_THERE, gone)

    def open_run(self, spec: ContainerSpec, *, stderr: IO[bytes] | None = None) -> Child:
        """Create and start a container that is removed at its end, its streams the child's."""
        self.check_network(spec.network)
        return proc.open_pipe(
            self._run_words(spec), env=self._env(), cwd=self._place(), stderr=stderr
        )

    def run(
        self,
        spec: ContainerSpec,
        *,
        stdin: bytes | IO[bytes] | None = None,
        timeout_s: float | None = 120.0,
        check: bool = True,
    ) -> Finished:
        """Run a container to its end and remove it."""
        words = self._run_words(spec)
        finished = self._finish(words, stdin=stdin, timeout_s=timeout_s, container=spec.name)
        return self._checked(finished, check)

    def open_exec(
        self,
        container: str,
        argv: Sequence[str],
        *,
        user: str | None = None,
        stderr: IO[bytes] | None = None,
    ) -> Child:
        """Start a program in a running container, its streams being the child's."""
        words = arguments.exec_arguments(container, argv, user=user, stdin=True)
        return proc.open_pipe(
            self._vector(words), env=self._env(), cwd=self._place(), stderr=stderr
        )

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
        """Run a program in a running container to its end."""
        words = arguments.exec_arguments(container, argv, user=user, stdin=stdin is not None)
        return self._checked(
            self._finish(self._vector(words), stdin=stdin, timeout_s=timeout_s), check
        )

    def exec_command(
        self, container: str, argv: Sequence[str], *, user: str | None = None, tty: bool = True
    ) -> list[str]:
        """The argument vector of an exec on the user's terminal."""
        words = arguments.exec_arguments(container, argv, user=user, stdin=True, tty=tty)
        return self._vector(words)

    def logs(
        self, container: str, *, follow: bool = True, stderr: IO[bytes] | None = None
    ) -> Child:
        """What a container has said from its start; with ``follow`` on to its end."""
        words = ["logs", *(["--follow"] if follow else [])]
        words = self._vector([*words, arguments.plain_name("container", container)])
        with open(os.devnull, "wb") as nowhere:
            return proc.open_pipe(
                words, env=self._env(), cwd=self._place(), stdin=False, stderr=stderr or nowhere
            )

    def wait(self, container: str, timeout_s: float | None = None) -> int | None:
        """The exit code of a container once it has ended; ``None`` when the time ran out."""
        words = ["wait", arguments.plain_name("container", container)]
        try:
            finished = proc.run(
                self._vector(words),
                env=self._env(),
                cwd=self._place(),
                timeout_s=timeout_s,
                check=False,
            )
        except ProcessFailed as error:
            state = self.inspect(container)
            if state is not None and state.running:
                return None
            if state is not None and state.exit_code is not None:
                return state.exit_code
            raise EngineError(error.message, hint=error.hint) from error
        said = self._checked(finished, True).text.split()
        return int(said[-1]) if said and said[-1].lstrip("-").isdigit() else None

    def inspect(self, container: str) -> ContainerState | None:
        """How a container is, or ``None`` where there is none of that name."""
        found = self._inspect("container", [arguments.plain_name("container", container)])
        return reading.container(found[0]) if found else None

    def container_names(self, label: str) -> tuple[str, ...]:
        """The names of the containers with a label, ended ones too."""
        words = ["ps", "--all", "--format", "{{.Names}}", "--filter", f"label={label}"]
        return tuple(self._listed(words))

    def containers(self, label: str) -> tuple[ContainerState, ...]:
        """Containers, ended ones too, with a label."""
        words = ["ps", "--all", "--quiet", "--no-trunc", "--filter", f"label={label}"]
        found = self._listed(words)
        return tuple(reading.container(entry) for entry in self._inspect("container", found))
