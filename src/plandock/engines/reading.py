"""What the engines' answers, and this machine's own files, mean."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import sys
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from plandock.engines.dialect import LocalHost
from plandock.engines.protocol import ContainerState, Image, Mount, Volume
from plandock.errors import EngineError
from plandock.paths import home

_State = Literal["created", "running", "paused", "exited", "gone"]
# Docker's words and Podman's, by what they mean for us.
_STATES: dict[str, _State] = {
    "created": "created",
    "configured": "created",
    "initialized": "created",
    "running": "running",
    "restarting": "running",
    "stopping": "running",
    "paused": "paused",
    "exited": "exited",
    "stopped": "exited",
    "dead": "gone",
    "removing": "gone",
}
# A fraction of any length, as Go prints it, and the zone.
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)")
_OWN_WORDS = re.compile(r"^(docker: |error|cannot connect|the command |failed to )", re.IGNORECASE)
_NETWORK = re.compile(
    r"netavark|aardvark|cni |setup network|set up container networking|iptables"
    r"|failed to create endpoint|temporary failure resolving|could not resolve host"
    r"|unable to connect to|could not connect to",
    re.IGNORECASE,
)

# Not "image not known": so says a build whose base is not there, however often it is begun.
_LOST_LAYER = re.compile(r"layer not known|checking if cached image exists", re.IGNORECASE)


def parse_object(text: str) -> dict[str, Any]:
    """One JSON object of an engine; raises :class:`EngineError` where it is none."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise EngineError("the container engine gave an unreadable answer")
    return found


def engine_words(said: str) -> str:
    """Of a standard error that a program in a container shares, the engine's own lines."""
    return "\n".join(line for line in said.splitlines() if _OWN_WORDS.match(line.strip()))


def complaint(said: str) -> str:
    """The line of an engine's output that says what went wrong, without its boilerplate."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    own = [line for line in lines if _OWN_WORDS.match(line)]
    chosen = (own or lines or [""])[-1]
    for prefix in ("docker: ", "Error response from daemon: ", "Error: "):
        chosen = chosen.removeprefix(prefix)
    return chosen[:400]


def is_network_failure(said: str) -> bool:
    """Whether a build failed for want of a working network of its own."""
    return bool(_NETWORK.search(said))


def is_lost_layer(said: str) -> bool:
    """Whether a build broke off over an image that another process removed meanwhile."""
    return bool(_LOST_LAYER.search(said))


def moment(text: object) -> datetime | None:
    """An aware time; ``None`` for nothing and for Go's zero time."""
    match = _TIME.fullmatch(text) if isinstance(text, str) else None
    if match is None or match[1].startswith("0001-"):
        return None
    fraction = (match[2] or "")[:6].ljust(6, "0")
    zone = "+00:00" if match[3] == "Z" else match[3]
    return datetime.fromisoformat(f"{match[1]}.{fraction}{zone}")


def container(entry: Mapping[str, Any]) -> ContainerState:
    """One entry of ``container inspect``; the same fields in docker and podman."""
    state = entry.get("State") or {}
    config = entry.get("Config") or {}
    status = _STATES.get(str(state.get("Status", "")).lower(), "gone")
    return ContainerState(
        id=str(entry.get("Id", "")),
        name=str(entry.get("Name", "")).removeprefix("/"),
        state=status,
        exit_code=int(state.get("ExitCode", 0)) if status in ("exited", "gone") else None,
        oom_killed=bool(state.get("OOMKilled", False)),
        started_at=moment(state.get("StartedAt")),
        finished_at=moment(state.get("FinishedAt")) if status in ("exited", "gone") else None,
        error=str(state.get("Error") or ""),
        image_id=str(entry.get("Image", "")).removeprefix("sha256:"),
        labels=_labels(config.get("Labels")),
        mounts=tuple(
            Mount(
                kind=str(mount.get("Type", "")),
                name=str(mount.get("Name") or mount.get("Source") or ""),
                path=str(mount.get("Destination", "")),
                writable=bool(mount.get("RW", True)),
            )
            for mount in entry.get("Mounts") or ()
        ),
    )


def names_registry(name: str) -> bool:
    """Whether an image's name begins with a host, by Docker's rule: a dot, a colon, localhost."""
    first, slash, _ = name.partition("/")
    return bool(slash) and ("." in first or ":" in first or first == "localhost")


def full_name(name: str, listed: Iterable[str]) -> str | None:
    """Among JSON lists of full names, the one that a name without a registry stands for."""
    wanted = name if ":" in name.rpartition("/")[2] else f"{name}:latest"
    # Docker's official images lie in a folder that their short names leave out.
    ends = [f"/{wanted}"] + ([f"/library/{wanted}"] if "/" not in wanted else [])
    found: list[str] = []
    for line in listed:
        names = json.loads(line) or []
        found += [n for n in names if any(n == n.partition("/")[0] + end for end in ends)]
    return min(found, default=None)


def image(entry: Mapping[str, Any]) -> Image:
    """One entry of ``image inspect``."""
    config = entry.get("Config") or {}
    return Image(
        id=str(entry.get("Id", "")).removeprefix("sha256:"),
        # Podman's name for "made here".
        tags=tuple(str(t).removeprefix("localhost/") for t in entry.get("RepoTags") or ()),
        labels=_labels(config.get("Labels")),
        size_bytes=int(entry.get("Size") or 0),
        created_at=moment(entry.get("Created")),
    )


def volume(entry: Mapping[str, Any]) -> Volume:
    """One entry of ``volume inspect``."""
    return Volume(name=str(entry.get("Name", "")), labels=_labels(entry.get("Labels")))


def _labels(found: object) -> dict[str, str]:
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}


def docker_config_dir() -> Path:
    """``$DOCKER_CONFIG`` or ``~/.docker``."""
    value = os.environ.get("DOCKER_CONFIG", "")
    return Path(value) if value else home() / ".docker"


def docker_config_has_proxies() -> bool:
    """Whether docker's client would put proxy settings into every container it creates.

    They may hold a password, and the box has no use for them (docker's documentation,
    "Configure the Docker CLI to use a proxy server"; measured with client 28).
    """
    try:
        found = json.loads((docker_config_dir() / "config.json").read_bytes())
    except (OSError, ValueError):
        return False
    return bool(isinstance(found, dict) and found.get("proxies"))


def _finite(limits: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple((name, x) for name, x in limits.items() if x != resource.RLIM_INFINITY)


def _ceilings() -> dict[str, int]:
    """This process's hard limits by the engines' names, as far as its system knows them."""
    known = {
        "core": "RLIMIT_CORE",
        "fsize": "RLIMIT_FSIZE",
        "memlock": "RLIMIT_MEMLOCK",
        "msgqueue": "RLIMIT_MSGQUEUE",
    }
    return {
        name: resource.getrlimit(getattr(resource, constant))[1]
        for name, constant in known.items()
        if hasattr(resource, constant)
    }


def local_host() -> LocalHost:
    """What this machine says of itself, for a Podman that has no daemon."""
    try:
        # crun's condition: a version 2 hierarchy beside version 1 that holds controllers.
        hybrid = bool(Path("/sys/fs/cgroup/unified/cgroup.controllers").read_text().strip())
    except OSError:
        hybrid = False
    hard = {"nofile": resource.getrlimit(resource.RLIMIT_NOFILE)[1]}
    hard["nproc"] = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    try:
        # Podman lowers its own limit to this before it starts anything (measured, 4.3).
        most = int(Path("/proc/sys/kernel/pid_max").read_text())
    except (OSError, ValueError):
        most = resource.RLIM_INFINITY
    if most != resource.RLIM_INFINITY:
        known = hard["nproc"] != resource.RLIM_INFINITY
        hard["nproc"] = min(hard["nproc"], most) if known else most
    return LocalHost(
        systemd=sys.platform != "linux" or os.path.isdir("/run/systemd/system"),
        hybrid_cgroups=hybrid,
        runc=shutil.which("runc") is not None,
        runtimes=tuple(x for x in ("crun", "runc", "runsc", "kata", "youki") if shutil.which(x)),
        hard_limits=_finite(hard),
        ceilings=_finite({**hard, **_ceilings()}),
    )
