"""The one module that builds container arguments: pure functions from a spec to a vector.

One function serves docker and podman; where they differ, :class:`Dialect` says how.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence

from plandock.engines.dialect import Dialect, EngineName, runtime_hint
from plandock.engines.protocol import ContainerSpec, Tmpfs, VolumeMount
from plandock.errors import EngineError

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY")
TINI = "/usr/bin/tini"


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
    # Docker's own default may be one that other containers can join, Podman's always is.
    words += ["--ipc", "private"]
    if dialect.engine == "podman":
        # Its containers.conf may say otherwise; docker has no word for its default.
        words += ["--pid", "private", "--uts", "private"]
    words += ["--cap-drop", "ALL"]
    for capability in spec.cap_add:
        words += ["--cap-add", plain_name("capability", capability)]
    if spec.no_new_privileges:
        words += ["--security-opt", "no-new-privileges"]
    if dialect.seccomp:
        words += ["--security-opt", f"seccomp={_text('path', dialect.seccomp)}"]
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
                hint=runtime_hint(dialect),
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
    if (cpus := dialect.processor_limit(spec.cpus)) is not None:
        words += ["--cpus", f"{cpus:g}"]
    if dialect.pids:
        # 0 is Podman's word for none, where leaving it out means 2048; docker says -1.
        none = "0" if dialect.engine == "podman" else "-1"
        words += ["--pids-limit", none if spec.pids_limit is None else str(spec.pids_limit)]
    for name, value in dialect.ulimits(spec.ulimits).items():
        words += ["--ulimit", f"{name}={value}:{value}"]
    return [*words, "--shm-size", str(spec.shm_bytes)]


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
    if engine == "docker":
        # Podman 4.3 knows no such option (measured); there the memory limit bounds the inodes.
        options.append(f"nr_inodes={tmpfs.inodes}")
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
