"""Docker and Podman on this machine: found, or installed and started."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from tools.setup import daemon
from tools.setup.commands import SetupError, apt_install, attempt, have, last_line, require, say
from tools.setup.folder import record_env, setup_dir

ENGINES = ("docker", "podman")

# Debian 12's crun refuses hybrid cgroups and hard limits cannot be raised from inside a
# container; runc with limits of its own runs there.  Elsewhere the plain form is right.
PODMAN_FORMS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    ((), ()),
    (("--runtime", "runc"), ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096")),
)


def asked_for() -> tuple[str, ...]:
    """The engines in `PLANDOCK_TEST_ENGINES` (comma-separated); both where it is unset."""
    names = os.environ.get("PLANDOCK_TEST_ENGINES", "").replace(",", " ").split()
    if unknown := sorted(set(names) - set(ENGINES)):
        raise SetupError(f"unknown engine: {unknown[0]}", f"known: {', '.join(ENGINES)}")
    return tuple(x for x in ENGINES if x in names) or ENGINES


def podman_version() -> str | None:
    """Podman's version, where it works at all."""
    done = attempt(["podman", "info", "--format", "{{.Version.Version}}"], timeout_s=60)
    return done.stdout.strip() if done.returncode == 0 else None


def ready() -> tuple[str, ...]:
    """The engines that answer right now, with nothing installed or started."""
    return tuple(
        name
        for name, version in (("docker", daemon.server_version), ("podman", podman_version))
        if have(name) and version()
    )


def ensure(names: tuple[str, ...]) -> None:
    """Make the engines answer, and record how tests reach them.  Raises `SetupError`."""
    steps: dict[str, Callable[[], None]] = {"docker": _ensure_docker, "podman": _ensure_podman}
    for name in names:
        steps[name]()
    if sys.platform == "linux" and not (have("ip") and have("nsenter")):
        # The attacks' network namespace, with every address in it (tests/security/arena.py).
        apt_install(["iproute2", "util-linux"], "ip and nsenter")
    record_env(_reached_from_elsewhere(names))


def _ensure_docker() -> None:
    if not have("docker") or (daemon.server_version() is None and not have("dockerd")):
        if sys.platform == "darwin":
            raise SetupError(
                "Docker does not answer",
                "start Docker Desktop, colima or another engine; or PLANDOCK_TEST_ENGINES=podman",
            )
        if daemon.server_version() is None:
            apt_install(["docker.io", "iptables", "runc", "ca-certificates"], "Docker")
    version = daemon.server_version()
    if version is None:
        refused = last_line(attempt(["docker", "version"], timeout_s=20))
        if "permission denied" in refused.lower():
            raise SetupError(
                "Docker runs, but this user may not use it",
                "run `sudo usermod -aG docker $USER`, log in again (or run `newgrp docker`)",
            )
        if not os.environ.get("DOCKER_HOST", "unix://").startswith("unix://"):
            raise SetupError(f"DOCKER_HOST does not answer: {refused}", "unset it, or start it")
        daemon.start()
        version = daemon.server_version()
    owner = "started here" if daemon.ours() else "already running"
    say(f"Docker: {version}, {owner}")


def _ensure_podman() -> None:
    if not have("podman"):
        packages = ["podman", "runc", "netavark", "containernetworking-plugins"]
        if os.geteuid() != 0:
            packages += ["uidmap", "slirp4netns", "fuse-overlayfs"]
        if sys.platform == "darwin":
            raise SetupError("Podman is missing", "install it, or set PLANDOCK_TEST_ENGINES=docker")
        apt_install(packages, "Podman")
    version = podman_version()
    if version is None:
        complaint = last_line(attempt(["podman", "info"]))
        raise SetupError(
            f"Podman does not work: {complaint}",
            "run `podman info` (macOS: `podman machine start`), or PLANDOCK_TEST_ENGINES=docker",
        )
    say(f"Podman: {version}")


def container_runs(engine: str, image: str) -> None:
    """Run one container of the image to the end.  Raises `SetupError` where none can run."""
    forms = PODMAN_FORMS if engine == "podman" else PODMAN_FORMS[:1]
    for before, limits in forms:
        argv = [engine, *before, "run", "--rm", "--network", "none", *limits, image, "true"]
        done = attempt(argv, timeout_s=120)
        if done.returncode == 0:
            say(f"{engine}: a container runs{' (with runc)' if before else ''}")
            return
    raise SetupError(
        f"{engine} cannot run a container: {last_line(done)}",
        f"try `{' '.join(argv)}`",
    )


def bridge_works(image: str) -> None:
    """Run one container on Docker's default bridge.  Raises `SetupError` where there is none.

    A daemon that was told ``--bridge=none`` starts such a container without a network, and says
    nothing; so does nobody say that another daemon has taken the bridge away.
    """
    listed = attempt(["docker", "network", "ls", "--format", "{{.Name}}"])
    done = attempt(["docker", "run", "--rm", "--network", "bridge", image, "true"], timeout_s=120)
    if "bridge" not in listed.stdout.split() or done.returncode != 0:
        said = f": {last_line(done)}" if done.returncode else ""
        raise SetupError(
            f"Docker's default bridge is missing{said}",
            "take bridge=none out of daemon.json, restart Docker (one of set-up's: `make stop`)",
        )


def _reached_from_elsewhere(names: tuple[str, ...]) -> dict[str, str | None]:
    """What a client needs to find its engine under another HOME, as tests have one.

    Contexts, connections and the images of a rootless Podman are all kept below HOME; these
    variables name them directly.  None of them is needed for root on Linux.
    """
    found: dict[str, str | None] = {
        "DOCKER_HOST": None,
        "CONTAINER_HOST": None,
        "CONTAINER_SSHKEY": None,
        "CONTAINERS_STORAGE_CONF": None,
    }
    if "docker" in names:
        shown = attempt(["docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"])
        host = shown.stdout.strip()
        if shown.returncode == 0 and host and host != "unix:///var/run/docker.sock":
            found["DOCKER_HOST"] = host
    if "podman" in names and sys.platform == "darwin":
        listed = attempt(["podman", "system", "connection", "list", "--format", "json"])
        for connection in json.loads(listed.stdout or "[]"):
            if connection.get("Default"):
                found["CONTAINER_HOST"] = connection["URI"]
                found["CONTAINER_SSHKEY"] = connection.get("Identity")
    elif "podman" in names and os.geteuid() != 0:
        found["CONTAINERS_STORAGE_CONF"] = str(_rootless_storage())
    return found


def _rootless_storage() -> Path:
    """A storage.conf(5) that names this user's images by absolute path."""
    hint = "run `podman info`"
    store = json.loads(require(["podman", "info", "--format", "json"], hint=hint))["store"]
    keys = {"driver": "graphDriverName", "graphroot": "graphRoot", "runroot": "runRoot"}
    # Without it, a rootless Podman goes by HOME all the same (measured, 4.3).
    keys["rootless_storage_path"] = "graphRoot"
    lines = [f"{key} = {json.dumps(store[name])}" for key, name in keys.items()]
    path = setup_dir() / "storage.conf"
    path.write_text("\n".join(["[storage]", *lines, ""]))
    return path
