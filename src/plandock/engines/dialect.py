"""How one engine on one host is to be spoken to, read off what it says of itself.

``docker info`` and ``podman info`` tell; :mod:`plandock.engines.arguments` goes by it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from plandock.engines.protocol import ContainerSpec, Limits, Ulimit

EngineName = Literal["docker", "podman"]


@dataclass(frozen=True)
class Dialect:
    """How one engine on one host is to be spoken to.

    ``global_flags`` stand before the verb.  ``memory``, ``swap``, ``cpus``, ``pids``: whether the
    host can enforce that limit.  ``hard_limits``: for a Podman that starts containers from this
    very process, the limits that it cannot raise.  ``ceilings``: the most that it can give of a
    limit that is asked for.  ``processors``: how many it has; Docker refuses a limit above that.
    ``blank_proxies``: the client would put its own proxy settings, passwords included, into every
    container.  ``seccomp``: a file with a filter of system calls in the place of the engine's own.
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
    ceilings: tuple[tuple[str, int], ...] = ()
    processors: int | None = None
    blank_proxies: bool = False
    runtimes: tuple[str, ...] | None = None
    seccomp: str = ""

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

    def processor_limit(self, wanted: float | None) -> float | None:
        """What becomes of a limit on processors: lowered to what there is, or not set at all."""
        if wanted is None or not self.cpus:
            return None
        return min(wanted, float(self.processors)) if self.processors else wanted

    def ulimits(self, wanted: Sequence[Ulimit]) -> dict[str, int]:
        """Limits by name as they are set, lowered to what this engine can give."""
        hard = dict(self.hard_limits)
        most = dict(self.ceilings)
        asked = {x.name: min(x.value, most.get(x.name, x.value)) for x in wanted}
        return {
            name: int(min(asked.get(name, math.inf), hard.get(name, math.inf)))
            for name in sorted({*hard, *asked})
        }


def runtime_hint(dialect: Dialect) -> str:
    """What to do about a runtime that is not there."""
    known = ", ".join(dialect.runtimes or ())
    return f"set runtime to one of: {known}; or install it" if known else "install it"


def limits_of(spec: ContainerSpec, dialect: Dialect) -> Limits:
    """What becomes of a container's limits where ``dialect`` is spoken."""
    return Limits(
        memory_bytes=spec.memory_bytes if dialect.memory else None,
        cpus=dialect.processor_limit(spec.cpus),
        pids=spec.pids_limit if dialect.pids else None,
        ulimits=dialect.ulimits(spec.ulimits),
        inodes=dialect.engine == "docker",
    )


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
        processors=_count(info.get("NCPU")),
        runtimes=tuple(sorted(runtimes)) if isinstance(runtimes, dict) else None,
    )


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


@dataclass(frozen=True)
class LocalHost:
    """What this machine says of itself, where Podman runs on it without a daemon.

    ``hard_limits``: the limits of this process by Podman's names (infinite ones left out) that
    its own defaults exceed; ``ceilings``: all of them that a container may be given.
    ``runtimes``: the well-known ones on the PATH.
    """

    systemd: bool
    hybrid_cgroups: bool
    runc: bool
    hard_limits: tuple[tuple[str, int], ...]
    ceilings: tuple[tuple[str, int], ...] = ()
    runtimes: tuple[str, ...] = ()


def _podman_runtimes(host: Mapping[str, Any], local: LocalHost) -> tuple[str, ...]:
    """For hints alone: Podman takes others, too, that its containers.conf names."""
    own = (host.get("ociRuntime") or {}).get("name")
    remote = bool(host.get("serviceIsRemote", False))
    return tuple(sorted({*([own] if own else []), *(() if remote else local.runtimes)}))


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
        ceilings=() if remote else local.ceilings,
        processors=_count(host.get("cpus")),
        runtimes=_podman_runtimes(host, local),
    )
