"""How the engines' programs are called, and what their refusals mean."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from plandock import paths, proc
from plandock.engines import arguments, building, filtering, reading
from plandock.engines import dialect as dialect_module
from plandock.engines.dialect import Dialect, EngineName, LocalHost
from plandock.engines.protocol import (
    ContainerSpec,
    ContextFile,
    EngineDown,
    NotThere,
    OtherEngine,
    Progress,
)
from plandock.errors import EngineError
from plandock.proc import Finished, ProcessFailed, TimedOut

DOWN = re.compile(
    r"cannot connect to the docker daemon|error during connect|is the docker daemon running"
    r"|cannot connect to podman|unable to connect to podman|connection refused"
    r"|permission denied while trying to connect|failed to connect to the docker api"
    # An engine that is on its way out, to the calls that are under way.
    r"|unexpected eof|connection reset by peer|transport is closing"
    r"|client connection is closing|ttrpc: closed",
    re.IGNORECASE,
)
NOT_THERE = re.compile(
    r"no such (container|image|volume|object)|image not known|no container with (name|id)"
    r"|no volume with name|does not exist in database|unable to find image",
    re.IGNORECASE,
)
NOT_RUNNING = re.compile(
    r"is not running|can only kill running|container state improper|is not created or running",
    re.IGNORECASE,
)
HELD = re.compile(r"image is being used|image used by|is in use by|image is in use", re.IGNORECASE)
_REMOVAL_PAUSES_S = (0.0, 0.1, 0.3, 1.0, 3.0, 5.0, 5.0, 5.0)
"""Before what broke off over a removal is tried again: removals come in bursts (seconds)."""


class Caller:
    """One engine's program, and how it is to be spoken to.

    What the engine says of itself is asked once, when first needed, and kept.
    """

    def __init__(
        self,
        name: EngineName,
        program: str | None = None,
        *,
        local_host: Callable[[], LocalHost] = reading.local_host,
    ) -> None:
        self._name: EngineName = name
        self._program = program or name
        self._local_host = local_host

    @property
    def name(self) -> str:
        """``docker`` or ``podman``."""
        return self._name

    def ping(self) -> str:
        """The engine's version; raises :class:`EngineDown` where it does not answer.

        The ``podman-docker`` package calls Podman ``docker``: Podman's words need Podman's flags.
        It tells itself by ``APIVersion``, where Docker has ``ApiVersion`` (measured, podman 4.3
        and docker 20.10).
        """
        words = ["version", "--format", "{{json .}}"]
        answer = reading.parse_object(self._call(words, timeout_s=60.0).text)
        server = answer.get("Server") or answer.get("Client") or {}
        if not isinstance(server, dict):
            server = {}
        version = str(server.get("Version", ""))
        if self._name == "docker" and "APIVersion" in server:
            raise OtherEngine("docker here is another name for podman", hint="set engine to podman")
        if not version or (self._name == "docker" and not answer.get("Server")):
            raise EngineDown(f"{self._name} gave no version of its engine")
        return version

    @cached_property
    def dialect(self) -> Dialect:
        """How this engine on this host is to be spoken to."""
        answer = reading.parse_object(self._call(["info", "--format", "{{json .}}"]).text)
        if self._name == "podman":
            spoken = dialect_module.podman_dialect(answer, self._local_host())
            return replace(spoken, seccomp=filtering.narrowed_file(answer, self._place()))
        if answer.get("ServerErrors"):
            raise EngineDown(f"docker: {answer['ServerErrors'][0]}")
        return dialect_module.docker_dialect(
            answer, blank_proxies=reading.docker_config_has_proxies()
        )

    @cached_property
    def _buildkit(self) -> bool:
        if self._name != "docker" or os.environ.get("DOCKER_BUILDKIT") == "0":
            return False
        return self._finish(self._vector(["buildx", "version"]), timeout_s=60.0).ok

    def _vector(self, words: Sequence[str]) -> list[str]:
        """The whole vector; the verbs that reach a container need the same global words."""
        flags = self.dialect.global_flags if self._name == "podman" else ()
        return [self._program, *flags, *words]

    def _run_words(self, spec: ContainerSpec) -> list[str]:
        dialect = self.dialect
        words = [self._program, *arguments.global_arguments(spec, dialect), "run", "--rm"]
        # What streams through is the caller's: a second copy in the engine's logs serves nobody.
        words += ["--log-driver", "none"]
        return words + arguments.create_arguments(spec, dialect)

    def _place(self) -> Path:
        """Where the engine's program runs, out of the user's folders.

        Podman's conmon leaves an empty file called ``oom`` in the working directory of whoever
        started a container that ran out of memory (measured: podman 4.3, conmon 2.1).
        """
        return paths.make_private(paths.state_dir() / "engine")

    def _env(self) -> dict[str, str]:
        return proc.clean_environment()

    def _call(
        self, words: Sequence[str], *, timeout_s: float = 120.0, plain: bool = False
    ) -> Finished:
        """One call to its end.  ``plain``: the words begin with the global ones already."""
        bare = plain or words[0] in ("info", "version")
        vector = [self._program, *words] if bare else self._vector(words)
        return self._checked(self._finish(vector, timeout_s=timeout_s), True)

    def _idempotent(
        self, words: Sequence[str], *fine: re.Pattern[str], timeout_s: float = 120.0
    ) -> None:
        finished = self._finish(self._vector(words), timeout_s=timeout_s)
        said = finished.stderr.decode("utf-8", "replace")
        if not finished.ok and not any(pattern.search(said) for pattern in fine):
            self._checked(finished, True)

    def _finish(
        self,
        vector: Sequence[str],
        *,
        stdin: bytes | IO[bytes] | None = None,
        timeout_s: float | None,
        container: str = "",
    ) -> Finished:
        # The clients are Go programs.  In one that lives for a moment, fewer collections save a
        # sixth of the processor's time (measured: podman 4.3, docker 28).
        env = {"GOGC": "400"} | self._env()
        try:
            return proc.run(
                vector,
                stdin=stdin,
                env=env,
                cwd=self._place(),
                timeout_s=timeout_s,
                check=False,
            )
        except ProcessFailed as error:
            if container:
                # Ending the client does not end what it started.
                gone = self._vector(arguments.remove_arguments(container, self.dialect))
                proc.run(gone, env=self._env(), cwd=self._place(), check=False)
            hung = isinstance(error, TimedOut) and not container
            if hung or shutil.which(self._program) is None:
                raise EngineDown(error.message, hint=error.hint) from error
            raise EngineError(error.message, hint=error.hint) from error

    def _checked(self, finished: Finished, check: bool) -> Finished:
        if finished.ok or not check:
            return finished
        if finished.returncode < 0:
            # Nothing that the engine has said: asked once more it may answer.
            raise EngineDown(f"{self._name} was ended by signal {-finished.returncode}")
        said = reading.engine_words(finished.stderr.decode("utf-8", "replace"))
        message = f"{self._name}: {reading.complaint(said) or finished.complaint}"
        if DOWN.search(said):
            hint = f"start {self._name} and see that `{self._program} info` answers"
            raise EngineDown(message, hint=hint)
        if NOT_THERE.search(said):
            raise NotThere(message)
        raise EngineError(message)

    def _listed(self, words: Sequence[str]) -> list[str]:
        """What a listing prints, word by word.

        Podman's breaks off where another process removes one of the things just then (seen: 4.3,
        images); asked again it answers.  Raises :class:`NotThere` where it never does.
        """
        for pause_s in _REMOVAL_PAUSES_S:
            try:
                return self._call(words).text.split()
            except NotThere:
                time.sleep(pause_s)
        return self._call(words).text.split()

    def _build(
        self,
        words: Sequence[str],
        context: tuple[ContextFile, ...],
        progress: Progress,
        *,
        timeout_s: float,
    ) -> None:
        """One build, begun again where it lost a layer of another image to a removal.

        Podman looks through every image for steps that it need not repeat, and breaks off where
        another process removes one just then (seen: 4.3, ``layer not known``).
        """
        for pause_s in _REMOVAL_PAUSES_S:
            try:
                return self._stream("build", words, context, progress, timeout_s=timeout_s)
            except EngineError as error:
                if not reading.is_lost_layer(error.message):
                    raise
                time.sleep(pause_s)
        return self._stream("build", words, context, progress, timeout_s=timeout_s)

    def _inspect(self, kind: str, names: Sequence[str]) -> list[dict[str, Any]]:
        """What ``inspect`` says of each; what has gone in the meantime is left out."""
        if not names:
            return []
        finished = self._finish(self._vector([kind, "inspect", *names]), timeout_s=60.0)
        said = finished.stderr.decode("utf-8", "replace")
        if not finished.ok and not NOT_THERE.search(said):
            self._checked(finished, True)
        try:
            found = json.loads(finished.stdout or b"[]")
        except ValueError as error:
            raise EngineError(f"{self._name} gave an unreadable answer to inspect") from error
        return [entry for entry in found or [] if isinstance(entry, dict)]

    def _stream(
        self,
        what: str,
        words: Sequence[str],
        context: tuple[ContextFile, ...],
        progress: Progress,
        *,
        timeout_s: float,
    ) -> None:
        vector = [self._program, *words]
        # With DOCKER_BUILDKIT=1 and no buildx, the client would refuse to build at all.
        env = self._env() if self._buildkit else self._env() | {"DOCKER_BUILDKIT": "0"}
        try:
            built = building.build(
                vector, context, env=env, cwd=self._place(), progress=progress, timeout_s=timeout_s
            )
        except ProcessFailed as error:
            raise EngineError(error.message, hint=error.hint) from error
        if built.returncode != 0:
            said = "\n".join(built.last_lines)
            kind = EngineDown if DOWN.search(said) else EngineError
            raise kind(
                f"{self._name} {what} failed: {reading.complaint(said)}",
                hint="\n".join(built.last_lines[-12:]),
            )
