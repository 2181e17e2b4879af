"""The one module that builds container arguments: pure functions from a spec to a vector.

One function serves docker and podman; where they differ, :class:`Dialect` says how, and it is
read off what the engine says of itself (``docker info``, ``podman info``).
"""

from __future__ import annotations

import math
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from plandock.engines.protocol import ContainerSpec, Tmpfs, VolumeMount
from plandock.errors import EngineError

EngineName = Literal["docker", "podman"]

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY")
TINI = "/usr/bin/tini"


@dataclass(frozen=True)
class Dialect:
    """How one engine on one host is to be spoken to.

    ``global_flags`` stand before the verb.  ``memory``, ``swap``, ``cpus``, ``pids``: whether the
    host can enforce that limit.  ``hard_limits``: for a Podman that starts containers from this
    very process, the limits that it cannot raise.  ``blank_proxies``: the client would put its
    own proxy settings, passwords included, into every container.
    """

    engine: EngineName
    architecture: str = "x86_64"
    global_flags: tuple[str, ...] = ()
    memory: bool = True
    swap: bool = True
    cpus: bool = True
    pids: bool = True
    selinux: bool = False
    rootless: bool = False
    slirp: bool = False
    hard_limits: tuple[tuple[str, int], ...] = ()
    blank_proxies: bool = False
    runtimes: tuple[str, ...] | None = None

    def notes(self) -> tuple[str, ...]:
        """One line for each limit that this host cannot enforce."""
        missing = [
            word
            for word, there in (
                ("memory", self.memory),
                ("processor", self.cpus),
                ("process", self.pids),
            )
            if not there
        ]
        return tuple(
            f"{self.engine} cannot enforce a {word} limit on this host (cgroups); none is set"
            for word in missing
        )


def create_arguments(spec: ContainerSpec, dialect: Dialect) -> list[str]:
    """The words after ``create`` or ``run`` for one container, image and program included.

    Raises :class:`EngineError` for what the engines cannot be told.
    """
    argv = [TINI, "--", *spec.argv] if spec.init else list(spec.argv)
    if not argv:
        raise EngineError(f"container {spec.name} has no program to run")
    words = ["--name", plain_name("container", spec.name)]
    for key, value in sorted(spec.labels.items()):
        words += ["--label", f"{_text('label', key)}={_text('label', value)}"]
    # The image is here already or something is wrong: a create must not reach for a registry.
    # A base image's own health check would run its commands beside ours.
    words += ["--pull", "never", "--no-healthcheck"]
    words += _isolation(spec, dialect)
    words += _limits(spec, dialect)
    for tmpfs in spec.tmpfs:
        words += ["--tmpfs", tmpfs_option(tmpfs, dialect.engine)]
    for volume in spec.volumes:
        words += ["--mount", volume_option(volume)]
    words += _environment(spec.env, dialect)
    if spec.hostname is not None:
        words += ["--hostname", plain_name("host", spec.hostname)]
    if spec.workdir is not None:
        words += ["--workdir", container_path(spec.workdir)]
    if spec.stdin_open:
        words += ["--interactive"]
    if spec.stop_timeout_s is not None:
        words += ["--stop-timeout", str(spec.stop_timeout_s)]
    # As --entrypoint, so that an entrypoint of the base image cannot step in between.
    words += ["--entrypoint", _text("program", argv[0]), image_name(spec.image)]
    return words + [_text("argument", word) for word in argv[1:]]


def log_arguments(spec: ContainerSpec, dialect: Dialect) -> list[str]:
    """Where the output of a detached container goes, whatever the engine's default is.

    Not docker's ``local`` driver: in 20.10 it drops the newline after a line of more than 16 KiB
    and so glues two JSON lines together (measured).  ``json-file`` keeps lines, but turns a
    non-ASCII character that straddles a 16 KiB boundary into U+FFFD (measured).
    """
    if dialect.engine == "podman":
        return ["--log-driver", "k8s-file", "--log-opt", f"max-size={spec.log_max_bytes}"]
    half = max(1, spec.log_max_bytes // 2)
    return ["--log-driver", "json-file", "--log-opt", f"max-size={half}", "--log-opt", "max-file=2"]


def _isolation(spec: ContainerSpec, dialect: Dialect) -> list[str]:
    words = ["--user", _text("user", spec.user), "--network", _network(spec, dialect)]
    words += ["--cap-drop", "ALL"]
    for capability in spec.cap_add:
        words += ["--cap-add", plain_name("capability", capability)]
    if spec.no_new_privileges:
        words += ["--security-opt", "no-new-privileges"]
    if dialect.selinux:
        # Containers that share a volume and a socket in it need one level; with the engine's
        # random categories the box could not connect to its gateway.
        words += ["--security-opt", "label=level:s0"]
    if spec.read_only:
        words += ["--read-only"]
        if dialect.engine == "podman":
            # Else it adds writable /run, /tmp and /var/tmp of its own, without a size.
            words += ["--read-only-tmpfs=false"]
    if dialect.engine == "podman":
        words += ["--http-proxy=false"]
    elif spec.runtime:
        if dialect.runtimes is not None and spec.runtime not in dialect.runtimes:
            raise EngineError(
                f"docker knows no runtime {spec.runtime}",
                hint=f"set runtime to one of: {', '.join(dialect.runtimes)}; or install it",
            )
        words += ["--runtime", _text("runtime", spec.runtime)]
    return words


def _network(spec: ContainerSpec, dialect: Dialect) -> str:
    if spec.network == "bridge" and dialect.engine == "podman" and dialect.rootless:
        return "slirp4netns" if dialect.slirp else "pasta"
    return spec.network


def _limits(spec: ContainerSpec, dialect: Dialect) -> list[str]:
    words: list[str] = []
    if spec.memory_bytes is not None and dialect.memory:
        words += ["--memory", str(spec.memory_bytes)]
        if dialect.swap:
            words += ["--memory-swap", str(spec.memory_bytes)]
    if spec.cpus is not None and dialect.cpus:
        words += ["--cpus", f"{spec.cpus:g}"]
    if dialect.pids:
        # 0 is Podman's word for none, where leaving it out means 2048; docker says -1.
        none = "0" if dialect.engine == "podman" else "-1"
        words += ["--pids-limit", none if spec.pids_limit is None else str(spec.pids_limit)]
    hard = dict(dialect.hard_limits)
    wanted = {limit.name: limit.value for limit in spec.ulimits}
    for name in sorted({*hard, *wanted}):
        lowest = int(min(wanted.get(name, math.inf), hard.get(name, math.inf)))
        words += ["--ulimit", f"{name}={lowest}:{lowest}"]
    return words


def global_arguments(spec: ContainerSpec, dialect: Dialect) -> list[str]:
    """The words between the engine's name and ``create``: Podman takes the runtime there."""
    words = list(dialect.global_flags)
    if spec.runtime and dialect.engine == "podman":
        words += ["--runtime", _text("runtime", spec.runtime)]
    return words


def build_arguments(
    tag: str,
    dialect: Dialect,
    *,
    build_args: Mapping[str, str],
    labels: Mapping[str, str],
    buildkit: bool = False,
    host_network: bool = False,
) -> list[str]:
    """The words after the engine's name for a build whose context comes as tar on stdin."""
    words = [*dialect.global_flags, "build", "--tag", image_name(tag), "--file", "Dockerfile"]
    # A failed step leaves no container behind either.
    words += ["--force-rm"]
    words += ["--pull=never"] if dialect.engine == "podman" else ["--pull=false"]
    if dialect.engine == "podman":
        # Without layers every build would start from the first step.
        words += ["--layers"]
        for name, hard in dialect.hard_limits:
            words += ["--ulimit", f"{name}={hard}:{hard}"]
    elif buildkit:
        # A builder of its own (buildx) keeps what it made to itself unless told to hand it over.
        words += ["--load", "--progress", "plain"]
    if host_network:
        words += ["--network", "host"]
    for key, value in sorted(build_args.items()):
        words += ["--build-arg", f"{_env_name(key)}={_text('build argument', value)}"]
    for key, value in sorted(labels.items()):
        words += ["--label", f"{_text('label', key)}={_text('label', value)}"]
    return [*words, "-"]


def exec_arguments(
    container: str, argv: Sequence[str], *, user: str | None, stdin: bool, tty: bool = False
) -> list[str]:
    """The words after the engine's name that run a program in a container."""
    words = ["exec"]
    words += ["--interactive"] if stdin else []
    words += ["--tty"] if tty else []
    words += ["--user", _text("user", user)] if user is not None else []
    return [*words, plain_name("container", container), *(_text("argument", w) for w in argv)]


def remove_arguments(container: str, dialect: Dialect) -> list[str]:
    """The words after the engine's name that remove a container, running or not."""
    words = ["rm", "--force", "--volumes"]
    # Docker ends what runs at once; Podman would first wait ten seconds for it.
    words += ["--time", "0"] if dialect.engine == "podman" else []
    return [*words, plain_name("container", container)]


def volume_option(volume: VolumeMount) -> str:
    """The value of ``--mount`` for a named volume.

    ``-v`` breaks on colons; ``--mount`` is one record of comma-separated values, which both
    engines read with Go's ``encoding/csv``: a field with a comma, a quote or a line break stands
    in quotes, quotes are doubled (measured on docker 20.10 and podman 4.3, with spaces, colons,
    non-ASCII, backslashes and line feeds in the path).
    """
    path = container_path(volume.path)
    fields = ["type=volume", f"source={plain_name('volume', volume.name)}", f"destination={path}"]
    if volume.read_only:
        fields.append("ro=true")
    return ",".join(_csv_field(value) for value in fields)


def _csv_field(value: str) -> str:
    if any(c in value for c in '",\n'):
        return '"' + value.replace('"', '""') + '"'
    return value


def tmpfs_option(tmpfs: Tmpfs, engine: EngineName) -> str:
    """The value of ``--tmpfs``; its path ends at the first colon, so it can hold none."""
    path = container_path(tmpfs.path)
    if ":" in path:
        raise EngineError(f"a file system in memory cannot be mounted at {path!r}: it has a colon")
    options = ["rw", "nosuid", "nodev", "exec" if tmpfs.exec else "noexec"]
    options += [f"size={tmpfs.size_bytes}", f"mode={tmpfs.mode:04o}"]
    if engine == "podman":
        # Else it copies what the image has there, where docker begins empty.
        options.append("notmpcopyup")
    return f"{path}:{','.join(options)}"


def _environment(env: Mapping[str, str], dialect: Dialect) -> list[str]:
    words: list[str] = []
    if dialect.blank_proxies:
        for name in (*_PROXIES, *(name.lower() for name in _PROXIES)):
            if name not in env:
                words += ["--env", f"{name}="]
    for name, value in sorted(env.items()):
        words += ["--env", f"{_env_name(name)}={_text(name, value)}"]
    return words


def container_path(path: str) -> str:
    """``path`` itself, where an engine can mount something there.

    Raises :class:`EngineError` for a path that is relative, not in its shortest form, the root,
    not UTF-8 (the engines' API is JSON) or holds a carriage return (lost by Go's CSV reader).
    """
    reason = ""
    if not path.startswith("/") or path.startswith("//"):
        reason = "it is not absolute"
    elif path == "/" or posixpath.normpath(path) != path:
        reason = "it is not in its shortest form" if path != "/" else "it is the root"
    elif "\r" in path:
        reason = "it holds a carriage return"
    if reason:
        raise EngineError(
            f"the path {path!r} cannot be mounted in a container: {reason}",
            hint="move or rename the folder",
        )
    return _text("path", path)


def plain_name(what: str, name: str) -> str:
    """``name`` itself, where it is a plain word that cannot be taken for a flag or a path."""
    if not _PLAIN.fullmatch(name):
        raise EngineError(f"{name!r} is no usable name for a {what}")
    return name


def image_name(image: str) -> str:
    """``image`` itself, where it cannot be taken for a flag."""
    if not image or image.startswith("-") or any(c.isspace() for c in image):
        raise EngineError(f"{image!r} is no usable name for an image", hint="check setting image")
    return _text("image", image)


def _env_name(name: str) -> str:
    if not _ENV_NAME.fullmatch(name):
        raise EngineError(f"{name!r} is no usable name for a variable")
    return name


def _text(what: str, value: str) -> str:
    """``value`` itself, where it survives the engines' JSON and the kernel's argument vector."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise EngineError(
            f"the {what} {value!r} is not UTF-8 and cannot be told to a container engine",
            hint="rename it" if what == "path" else "",
        ) from None
    if "\0" in value:
        raise EngineError(f"the {what} {value!r} holds a null character")
    return value


def docker_dialect(info: Mapping[str, Any], *, blank_proxies: bool) -> Dialect:
    """The dialect for what ``docker info`` says (field names of the Engine API, 1.41 on)."""
    security = " ".join(info.get("SecurityOptions") or ())
    runtimes = info.get("Runtimes")
    return Dialect(
        engine="docker",
        architecture=str(info.get("Architecture", "")),
        memory=bool(info.get("MemoryLimit", True)),
        swap=bool(info.get("SwapLimit", True)),
        cpus=bool(info.get("CpuCfsQuota", True)),
        pids=bool(info.get("PidsLimit", True)),
        selinux="name=selinux" in security,
        rootless="name=rootless" in security,
        blank_proxies=blank_proxies,
        runtimes=tuple(sorted(runtimes)) if isinstance(runtimes, dict) else None,
    )


@dataclass(frozen=True)
class LocalHost:
    """What this machine says of itself, where Podman runs on it without a daemon.

    ``hard_limits``: the limits of this process by Podman's names (infinite ones left out).
    """

    systemd: bool
    hybrid_cgroups: bool
    runc: bool
    hard_limits: tuple[tuple[str, int], ...]


def podman_dialect(info: Mapping[str, Any], local: LocalHost) -> Dialect:
    """The dialect for what ``podman info`` says, with a flag only where its host needs one.

    * crun refuses hybrid cgroups ("drop all controllers from cgroupv2", measured): runc then.
    * A configuration that asks for systemd where none runs: ``--cgroup-manager cgroupfs``.
    * Rootful without CAP_SYS_RESOURCE, Podman's defaults exceed the hard limits (measured).
    * Rootless without delegation, controllers are missing and a limit would be an error.
    """
    host = info.get("host", {})
    remote = bool(host.get("serviceIsRemote", False))
    security = host.get("security", {})
    rootless = bool(security.get("rootless", False))
    flags: list[str] = []
    if not remote:
        crun = (host.get("ociRuntime") or {}).get("name") == "crun"
        if crun and host.get("cgroupVersion") == "v1" and local.hybrid_cgroups and local.runc:
            flags += ["--runtime", "runc"]
        if host.get("cgroupManager") == "systemd" and not local.systemd:
            flags += ["--cgroup-manager", "cgroupfs"]
    controllers = set(host.get("cgroupControllers") or ())
    if rootless and host.get("cgroupVersion") == "v1":
        controllers = set()
    known = bool(controllers) or rootless
    return Dialect(
        engine="podman",
        architecture=str(host.get("arch", "")),
        global_flags=tuple(flags),
        memory="memory" in controllers or not known,
        swap="memory" in controllers or not known,
        cpus="cpu" in controllers or not known,
        pids="pids" in controllers or not known,
        selinux=bool(security.get("selinuxEnabled", False)),
        rootless=rootless,
        slirp=str((info.get("version") or {}).get("Version", "")).startswith(("3.", "4.")),
        hard_limits=() if remote or rootless else local.hard_limits,
    )
