"""The containers of one run: their names, their labels, and how each is sealed.

The only place that says what a run's containers look like; `engines.arguments` turns that into an
engine's words.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from plandock import paths, proc
from plandock.box.expectations import isolation_fault
from plandock.engines.protocol import (
    BrokenOff,
    ContainerSpec,
    Engine,
    Network,
    Tmpfs,
    Ulimit,
    VolumeMount,
)
from plandock.errors import EngineError, IsolationError, RepositoryError
from plandock.runs.model import Run
from plandock.settings.keys import PROCESSORS, WITH_CREDITS, Settings

# The label with a run's record, on its box and on the volume with its work.
RECORD = "plandock.record"
RECORDED: tuple[str, ...] = (
    "id", "repo", "cwd", "branch", "base", "snapshot", "session_id", "box_session_id", "engine",
    "image", "cli_version", "claude", "config_dir", "created_at", "started_at", "trigger", "model",
    "fresh", "upstream", "handoff_key", "attempt", "tip",
)  # fmt: skip
# What is read where it is there: a label of an older version lacks it.
RECORDED_LATER = ("effort", "model_origin", "login_volume")
# Of the session's own setup; the rest of it told how the model was chosen, which is done.
OF_THE_SESSION = ("variables", "thinking")
OF_BILLING = ("credits_usd", "credits_uncounted")
_LONGEST_FOLDER = 1000  # of those left out, as JSON: a label is one word of a command line
_UNRECORDED = frozenset({"setup", "notify", "carry", "npm_registry", "origins", "refused"})

API_HOST = "api.anthropic.com"
CONVERSATION = "/plandock/conversation"
MIRROR = "/plandock/mirror"
LINK = "/plandock/link"
HOME = "/plandock/home"
SCRATCH = "/tmp"  # noqa: S108 - the box's own, a tmpfs
GIB = 1 << 30

# In every container of a run.  Core dumps would be written by the host's kernel to wherever its
# core_pattern says; a lock in memory and a message queue are the host's own memory.
LIMITS: tuple[Ulimit, ...] = (
    Ulimit("core", 0),
    Ulimit("fsize", 16 * GIB),
    Ulimit("memlock", 1 << 20),
    Ulimit("msgqueue", 64 << 10),
    Ulimit("nofile", 16384),
)

_TAIL = 64 << 10
# How long a container that runs may take until it listens: a machine can have much to do.
_PATIENCE_S = 120.0

# Where a workspace cannot lie: the box needs these itself.
_TAKEN: tuple[str, ...] = ("/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/opt/plandock")
_TAKEN += ("/plandock", "/proc", "/run", "/sbin", "/sys", "/usr")


@dataclass(frozen=True)
class Names:
    """The names of everything that a run has in its engine."""

    run: str
    repo: str

    @property
    def box(self) -> str:
        """The agent's container."""
        return f"plandock-{self.run}-box"

    @property
    def gateway(self) -> str:
        """The box's way out."""
        return f"plandock-{self.run}-gateway"

    @property
    def work(self) -> str:
        """The volume with the workspace."""
        return f"plandock-{self.run}-work"

    @property
    def conversation(self) -> str:
        """The volume with the conversation."""
        return f"plandock-{self.run}-conversation"

    @property
    def link(self) -> str:
        """The volume with the gateway's sockets."""
        return f"plandock-{self.run}-link"

    @property
    def mirror(self) -> str:
        """The volume with the repository's objects, kept from run to run."""
        digest = hashlib.sha256(self.repo.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        return f"plandock-mirror-{digest}"

    @property
    def own_volumes(self) -> tuple[str, ...]:
        """The volumes that end with the run."""
        return (self.work, self.conversation, self.link)


def names_of(run: Run) -> Names:
    """The names of a run's containers and volumes."""
    return Names(run.id, run.repo)


def labels_of(run: Run, role: str) -> dict[str, str]:
    """The labels by which `gc` and `recover` find what belongs to a run."""
    labels = {"plandock.run": run.id, "plandock.role": role}
    if role in ("box", "work"):
        labels[RECORD] = _record(run)
    return labels


def _record(run: Run) -> str:
    """What a run is harvested or driven on from where the state folder is lost: JSON, in base64.

    Nothing of the plan and nothing that could hold a secret: labels stand in command lines, and
    the engine lists them to anyone who may ask it.
    """
    known = run.to_record()
    record = {name: known[name] for name in (*RECORDED, *RECORDED_LATER)}
    record["settings"] = {k: v for k, v in run.settings.items() if k not in _UNRECORDED}
    record["account"] = run.account  # digests, and names in short
    setup = run.session_setup
    record["session_setup"] = {name: setup[name] for name in OF_THE_SESSION if name in setup}
    record["billing"] = {name: known["billing"][name] for name in OF_BILLING}
    short = [x for x in run.folders_left_out if len(json.dumps(x)) <= _LONGEST_FOLDER]
    record["folders_left_out"] = short[:20]
    record["git_home"] = run.git_home
    record["state_dir"] = str(paths.state_dir())
    # Podman 4.3 reads a volume's labels as CSV, where JSON's quotes are an error (measured).
    return base64.b64encode(json.dumps(record, separators=(",", ":")).encode()).decode()


def check_place(repo: str) -> None:
    """Raise :class:`RepositoryError` where a box cannot have a workspace at this path."""
    for taken in _TAKEN:
        if repo == taken or repo.startswith(taken + "/") or taken.startswith(repo + "/"):
            raise RepositoryError(
                f"a repository at {repo} cannot be carried out: the box needs that folder itself",
                hint="clone it to another folder",
            )
    if repo in ("/", SCRATCH):
        raise RepositoryError(f"a repository at {repo} cannot be carried out", hint="move it")


def make_volumes(engine: Engine, run: Run) -> None:
    """Create the run's volumes and its repository's mirror."""
    names = names_of(run)
    for name in names.own_volumes:
        engine.create_volume(name, labels_of(run, "work" if name == names.work else "volume"))
    engine.create_volume(names.mirror, {"plandock.mirror": names.mirror})


def stage_spec(run: Run, image: str, object_format: str) -> ContainerSpec:
    """The container that lays the volumes out: no network, root only to hand folders over."""
    names = names_of(run)
    places = [run.repo, MIRROR, CONVERSATION, LINK]
    return ContainerSpec(
        name=f"plandock-{run.id}-stage",
        image=image,
        argv=("python3", "-I", "/opt/plandock/stage.py"),
        labels=labels_of(run, "stage"),
        volumes=(
            VolumeMount(names.work, run.repo),
            VolumeMount(names.mirror, MIRROR),
            VolumeMount(names.conversation, CONVERSATION),
            VolumeMount(names.link, LINK),
        ),
        tmpfs=(Tmpfs(SCRATCH, GIB),),
        env={"PLANDOCK_VOLUMES": json.dumps(places), "PLANDOCK_OBJECT_FORMAT": object_format},
        user="0:0",
        cap_add=("CHOWN", "SETUID", "SETGID"),
        memory_bytes=4 * GIB,
        pids_limit=256,
        ulimits=LIMITS,
        stdin_open=True,
        # What it does can be done again; without an init it hears no SIGTERM.
        stop_timeout_s=1,
    )


def stand_in_route(upstream: str) -> dict[str, Any] | None:
    """The gateway's setting for what stands in for the API at this address; None without one."""
    if not upstream:
        return None
    address = urlsplit(upstream)
    # On Linux the gateway shares the host's network to reach its loopback; elsewhere the engine
    # lives in a machine of its own, which knows the host by this name.
    host = address.hostname if sys.platform == "linux" else "host.docker.internal"
    return {"socket": f"{LINK}/upstream.sock", "host": host, "port": address.port}


def gateway_network(upstream: str) -> Network:
    """The network of a gateway: the host's for a stand-in on its loopback, else a bridge."""
    return "host" if upstream and sys.platform == "linux" else "bridge"


def _covers(entry: str, host: str) -> bool:
    """Whether an entry of the allowlist, a name or a wildcard, lets this host through."""
    name = entry.lower().rstrip(".")
    return name == host or (name.startswith("*.") and host.endswith(name[1:]))


def gateway_spec(
    run: Run, image: str, settings: Settings, pins: Mapping[str, Sequence[str]]
) -> ContainerSpec:
    """The gateway's container: a network, and nothing of the workspace.

    ``pins`` are the names beside Anthropic's that it lets through, each with the addresses that
    it may have though they are not public.
    """
    upstream, api = stand_in_route(run.upstream), None
    sealed = settings.credentials == "sealed"
    if sealed:
        api = {"socket": f"{LINK}/upstream.sock", "host": API_HOST, "port": 443, "tls": True}
        if upstream is not None:
            api, upstream = {**upstream, "tls": False}, None
        api["credits"] = settings.billing == WITH_CREDITS
    # Last, so that no preset pins the model's own API.
    allow = {**{name: list(addresses) for name, addresses in pins.items()}, API_HOST: []}
    if sealed:
        # Inside a tunnel the agent could speak to Anthropic with a key of its own.
        allow = {name: a for name, a in allow.items() if not _covers(name, API_HOST)}
    wish: dict[str, Any] = {"socket": f"{LINK}/proxy.sock", "allow": allow, "upstream": upstream}
    if api is not None:
        wish["api"] = api
    return ContainerSpec(
        name=names_of(run).gateway,
        image=image,
        argv=("python3", "-s", "/opt/plandock/gateway.py"),
        labels=labels_of(run, "gateway"),
        volumes=(VolumeMount(names_of(run).link, LINK),),
        tmpfs=(Tmpfs("/run/plandock", 1 << 20),) if sealed else (),
        env={"PLANDOCK_GATEWAY": json.dumps(wish), "PYTHONPATH": "/opt/plandock/lib"},
        network=gateway_network(run.upstream),
        memory_bytes=256 << 20,
        cpus=1.0,
        pids_limit=64,
        ulimits=LIMITS,
        init=True,
        stop_timeout_s=2,
    )


def box_spec(run: Run, image: str, settings: Settings) -> ContainerSpec:
    """The agent's container: no network, no capability, nothing of the host."""
    names = names_of(run)
    return ContainerSpec(
        name=names.box,
        image=image,
        argv=("python3", "-I", "/opt/plandock/steward.py"),
        labels=labels_of(run, "box"),
        volumes=(
            VolumeMount(names.work, run.repo),
            VolumeMount(names.mirror, MIRROR, read_only=True),
            VolumeMount(names.conversation, CONVERSATION),
            VolumeMount(names.link, LINK, read_only=True),
        ),
        tmpfs=(
            Tmpfs(HOME, 2 * GIB, exec=True),
            Tmpfs(SCRATCH, 2 * GIB, exec=True),
            Tmpfs("/run/plandock", 64 << 20),
        ),
        env={"HOME": HOME, "PLANDOCK_BOX": "1", "LANG": "C.UTF-8"},
        network="none",
        memory_bytes=settings.memory,
        cpus=settings.cpus or PROCESSORS,
        pids_limit=settings.pids,
        ulimits=LIMITS,
        runtime=settings.runtime or None,
        init=True,
        hostname="box",
        stop_timeout_s=20,
    )


def reader_spec(run: Run, image: str, role: str, argv: tuple[str, ...]) -> ContainerSpec:
    """A container without network over the run's volumes, for harvest and conversation."""
    names = names_of(run)
    return ContainerSpec(
        name=f"plandock-{run.id}-{role}",
        image=image,
        argv=argv,
        labels=labels_of(run, role),
        volumes=(
            VolumeMount(names.work, run.repo),
            VolumeMount(names.mirror, MIRROR, read_only=True),
            VolumeMount(names.conversation, CONVERSATION, read_only=True),
        ),
        tmpfs=(Tmpfs(SCRATCH, GIB),),
        env={"HOME": SCRATCH},
        memory_bytes=4 * GIB,
        pids_limit=256,
        ulimits=LIMITS,
        stdin_open=True,
        # What it does can be done again; without an init it hears no SIGTERM.
        stop_timeout_s=1,
    )


def tell(
    engine: Engine, run: Run, message: dict[str, Any], *, patience_s: float = _PATIENCE_S
) -> None:
    """Hand the steward a message, by standard input; waits until the steward is there."""
    _tell(engine, names_of(run).box, "tell.py", message, patience_s)


def tell_gateway(
    engine: Engine, run: Run, message: dict[str, Any], *, patience_s: float = _PATIENCE_S
) -> None:
    """Hand a sealed run's gateway a message, by standard input; waits until it listens."""
    _tell(engine, names_of(run).gateway, "tell_gateway.py", message, patience_s)


def _tell(
    engine: Engine, container: str, script: str, message: dict[str, Any], patience_s: float
) -> None:
    end = time.monotonic() + patience_s
    data = json.dumps(message).encode()
    argv = ("python3", "-I", f"/opt/plandock/{script}")
    while True:
        try:
            engine.exec(container, argv, user="1000:1000", stdin=data)
            return
        except (EngineError, proc.ProcessFailed) as error:
            what = container.rpartition("-")[2]
            state = engine.inspect(container)
            if state is None or not state.running:
                said = last_words(engine, container)
                if fault := isolation_fault(said):
                    raise IsolationError(**fault) from error
                raise BrokenOff(f"the {what} ended at once: {said}") from error
            if time.monotonic() > end:
                raise BrokenOff(f"the {what} cannot be spoken to: {error}") from error
            time.sleep(0.1)


def last_words(engine: Engine, container: str) -> str:
    """The last line that a container has said, on either stream, for a message of ours."""
    with tempfile.TemporaryFile() as errors:
        reader = engine.logs(container, follow=False, stderr=errors)
        assert reader.stdout is not None
        said = b""
        while more := reader.stdout.read(_TAIL):  # the box may have said gigabytes
            said = (said + more)[-_TAIL:]
        proc.end(reader)
        errors.seek(max(0, errors.seek(0, os.SEEK_END) - _TAIL))
        said += b"\n" + errors.read(_TAIL)
    lines = [x for x in said.decode("utf-8", "replace").splitlines() if x.strip()]
    return lines[-1][:500] if lines else "it said nothing"


def remove_containers(engine: Engine, run: Run) -> None:
    """Remove every container of a run."""
    for name in engine.container_names(f"plandock.run={run.id}"):
        engine.remove(name)


def remove_helpers(engine: Engine, run: Run) -> None:
    """Remove what a killed supervisor's harvest left at work; box and gateway stay."""
    names = names_of(run)
    for name in engine.container_names(f"plandock.run={run.id}"):
        if name not in (names.box, names.gateway):
            engine.remove(name)


def remove_volumes(engine: Engine, run: Run) -> None:
    """Remove every volume of a run; the mirror stays.

    By name as well as by label: the client of a killed supervisor may have mounted one anew after
    its removal, and the engine then made it without labels (seen with Podman).
    """
    labelled = set(engine.volume_names(f"plandock.run={run.id}"))
    engine.remove_volume(*sorted(labelled | set(names_of(run).own_volumes)))
