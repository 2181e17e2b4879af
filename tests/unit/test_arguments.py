"""What the engines are told: pure functions from a spec to a vector."""

from __future__ import annotations

import csv
import io
import itertools
import posixpath
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plandock.engines import arguments, reading
from plandock.engines.dialect import Dialect, LocalHost, docker_dialect, podman_dialect
from plandock.engines.protocol import ContainerSpec, Tmpfs, Ulimit, VolumeMount
from plandock.errors import EngineError

DOCKER = Dialect("docker")
PODMAN = Dialect("podman")
PLAIN = ContainerSpec(name="box", image="plandock-box:1", argv=("true",))
LOCAL = LocalHost(systemd=True, hybrid_cgroups=False, runc=True, hard_limits=())


def after(words: list[str], flag: str) -> list[str]:
    """Every value that a flag has in a vector."""
    return [value for word, value in itertools.pairwise(words) if word == flag]


def readable(path: str) -> bool:
    """Whether a path is one that an engine can be told."""
    return posixpath.normpath(path) == path and not path.startswith("//") and path != "/"


paths = (
    st.lists(st.text(st.characters(exclude_characters="/\r\0", exclude_categories=["Cs"])))
    .map(lambda parts: "/" + "/".join(parts))
    .filter(readable)
)


@given(path=paths, read_only=st.booleans())
def test_mount_survives_csv(path: str, read_only: bool) -> None:
    """Any path that can be told comes out of a CSV reader as it went in, as one field."""
    option = arguments.volume_option(VolumeMount("work", path, read_only))
    (fields,) = csv.reader(io.StringIO(option, newline=""))
    assert fields[:3] == ["type=volume", "source=work", f"destination={path}"]
    assert fields[3:] == (["ro=true"] if read_only else [])


@pytest.mark.parametrize(
    "path",
    ["", "relative", "/", "//double", "/a/../b", "/a/", "/a//b", "/a\rb", "/a\0b", "/caf\udce9"],
)
def test_paths_that_cannot_be_told(path: str) -> None:
    """A path that an engine would misread is refused with a clear line."""
    with pytest.raises(EngineError) as caught:
        arguments.volume_option(VolumeMount("work", path))
    assert repr(path) in caught.value.message


def test_tmpfs_with_colon_is_refused() -> None:
    """The path of a tmpfs ends at its first colon, so one with a colon is refused."""
    with pytest.raises(EngineError, match="colon"):
        arguments.tmpfs_option(Tmpfs("/a:b", 1), "docker")


def test_tmpfs_options_of_both() -> None:
    """Podman is told not to copy the image's files, and needs no option that it lacks."""
    spec = Tmpfs("/tmp", 4096, 0o700, exec=True)
    docker = arguments.tmpfs_option(spec, "docker")
    assert docker == "/tmp:rw,nosuid,nodev,exec,size=4096,mode=0700,nr_inodes=1048576"
    podman = docker.replace("nr_inodes=1048576", "notmpcopyup")
    assert arguments.tmpfs_option(spec, "podman") == podman


@pytest.mark.parametrize("dialect", [DOCKER, PODMAN], ids=["docker", "podman"])
def test_sealed_unless_told_otherwise(dialect: Dialect) -> None:
    """A spec without more has no network, no capability, no privilege and no writable root."""
    words = arguments.create_arguments(PLAIN, dialect)
    assert after(words, "--network") == ["none"]
    assert after(words, "--cap-drop") == ["ALL"]
    assert after(words, "--cap-add") == []
    assert after(words, "--security-opt") == ["no-new-privileges"]
    assert after(words, "--user") == ["1000:1000"]
    assert after(words, "--pull") == ["never"]
    assert "--read-only" in words
    assert ("--read-only-tmpfs=false" in words) == (dialect.engine == "podman")
    assert not {"-v", "--volume", "--privileged", "--device"} & set(words)
    assert after(words, "--ipc") == ["private"]
    for namespace in ("--pid", "--uts"):
        assert after(words, namespace) == (["private"] if dialect.engine == "podman" else [])
    assert after(words, "--shm-size") == [str(64 << 20)]


@given(
    argv=st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
    .filter(bool)
    .map(tuple)
)
def test_program_comes_last_and_whole(argv: tuple[str, ...]) -> None:
    """Whatever the program's words are, none of them is read as a flag of the engine."""
    words = arguments.create_arguments(replace(PLAIN, argv=argv), DOCKER)
    place = words.index("--entrypoint")
    assert words[place + 1] == argv[0]
    assert words[place + 2] == "plandock-box:1"
    assert tuple(words[place + 3 :]) == argv[1:]


def test_init_is_the_images_tini() -> None:
    """`init` puts the image's tini over the program, for Podman often has no init of its own."""
    words = arguments.create_arguments(replace(PLAIN, argv=("a", "b"), init=True), PODMAN)
    assert words[-5:] == ["/usr/bin/tini", "plandock-box:1", "--", "a", "b"]


def test_limits_that_the_host_cannot_enforce() -> None:
    """A limit without its cgroup controller is left out, with a note for people."""
    spec = replace(PLAIN, memory_bytes=1 << 30, cpus=1.5, pids_limit=64)
    words = arguments.create_arguments(spec, DOCKER)
    assert after(words, "--memory") == after(words, "--memory-swap") == [str(1 << 30)]
    assert after(words, "--cpus") == ["1.5"]
    assert after(words, "--pids-limit") == ["64"]
    poor = Dialect("podman", memory=False, swap=False, cpus=False, pids=False)
    words = arguments.create_arguments(spec, poor)
    assert not {"--memory", "--memory-swap", "--cpus", "--pids-limit"} & set(words)
    assert [note.split()[4] for note in poor.notes()] == ["memory", "processor", "process"]
    assert DOCKER.notes() == ()


def test_ulimits_are_lowered_to_what_can_be_given() -> None:
    """A limit above the hard one of this process would keep Podman from starting anything."""
    spec = replace(PLAIN, ulimits=(Ulimit("nofile", 65536), Ulimit("core", 0)))
    dialect = replace(PODMAN, hard_limits=(("nofile", 20000), ("nproc", 4096)))
    words = arguments.create_arguments(spec, dialect)
    assert after(words, "--ulimit") == ["core=0:0", "nofile=20000:20000", "nproc=4096:4096"]
    assert after(arguments.create_arguments(PLAIN, DOCKER), "--ulimit") == []


def test_proxies_of_the_client_stay_out() -> None:
    """Docker's client puts its proxies, passwords included, into containers unless blanked."""
    spec = replace(PLAIN, env={"HTTPS_PROXY": "http://127.0.0.1:1"})
    words = arguments.create_arguments(spec, replace(DOCKER, blank_proxies=True))
    env = after(words, "--env")
    assert "HTTP_PROXY=" in env
    assert "https_proxy=" in env
    assert "HTTPS_PROXY=" not in env
    assert "HTTPS_PROXY=http://127.0.0.1:1" in env
    assert after(arguments.create_arguments(PLAIN, DOCKER), "--env") == []
    assert "--http-proxy=false" in arguments.create_arguments(PLAIN, PODMAN)


def test_runtime_stands_where_each_engine_wants_it() -> None:
    """Docker takes the runtime with the container, Podman before the verb; an unknown one fails."""
    spec = replace(PLAIN, runtime="runsc")
    assert after(arguments.create_arguments(spec, DOCKER), "--runtime") == ["runsc"]
    assert arguments.global_arguments(spec, PODMAN) == ["--runtime", "runsc"]
    assert "--runtime" not in arguments.create_arguments(spec, PODMAN)
    with pytest.raises(EngineError, match="runsc"):
        arguments.create_arguments(spec, replace(DOCKER, runtimes=("runc",)))


def test_network_of_a_rootless_podman() -> None:
    """A rootless Podman has no bridge of its own; its usual user-mode network is named."""
    spec = replace(PLAIN, network="bridge")
    assert after(arguments.create_arguments(spec, PODMAN), "--network") == ["bridge"]
    rootless = replace(PODMAN, rootless=True)
    assert after(arguments.create_arguments(spec, rootless), "--network") == ["pasta"]
    old = replace(rootless, slirp=True)
    assert after(arguments.create_arguments(spec, old), "--network") == ["slirp4netns"]


def test_level_with_selinux() -> None:
    """With SELinux, the containers of a run get one level, so that they share a socket."""
    words = arguments.create_arguments(PLAIN, replace(PODMAN, selinux=True))
    assert "label=level:s0" in after(words, "--security-opt")


def test_words_that_would_be_taken_for_flags() -> None:
    """Names that an engine could read as a flag or a path are refused."""
    for spec in (
        replace(PLAIN, name="--privileged"),
        replace(PLAIN, image="-v"),
        replace(PLAIN, volumes=(VolumeMount("/etc", "/host"),)),
        replace(PLAIN, env={"A=B": "c"}),
        replace(PLAIN, argv=()),
        replace(PLAIN, cap_add=("SYS_ADMIN,--privileged",)),
    ):
        with pytest.raises(EngineError):
            arguments.create_arguments(spec, DOCKER)
    with pytest.raises(EngineError):
        arguments.exec_arguments("--privileged", ["true"], user=None, stdin=False)


def test_logs_keep_their_lines() -> None:
    """Docker's `local` driver glues long lines together, so it is never the one."""
    assert after(arguments.log_arguments(PLAIN, DOCKER), "--log-driver") == ["json-file"]
    assert after(arguments.log_arguments(PLAIN, PODMAN), "--log-driver") == ["k8s-file"]


def test_exec_words() -> None:
    """An exec names its user, keeps stdin open where asked, and ends with the program's words."""
    words = arguments.exec_arguments("box", ["sh", "-c", "x"], user="0", stdin=True, tty=True)
    assert words == [
        "exec", "--interactive", "--tty", "--user", "0", "box", "sh", "-c", "x"
    ]  # fmt: skip


def test_build_words() -> None:
    """A build reads its context from stdin and never asks a registry for its base."""
    options: dict[str, Any] = {"build_args": {"BASE": "b"}, "labels": {"l": "1"}}
    words = arguments.build_arguments("t:1", DOCKER, **options)
    assert words[0] == "build"
    assert words[-1] == "-"
    assert "--pull=false" in words
    assert "--load" not in words
    assert "--load" in arguments.build_arguments("t:1", DOCKER, buildkit=True, **options)
    podman = replace(PODMAN, hard_limits=(("nofile", 9),), global_flags=("--runtime", "runc"))
    words = arguments.build_arguments("t:1", podman, host_network=True, **options)
    assert words[:3] == ["--runtime", "runc", "build"]
    assert "--pull=never" in words
    assert after(words, "--ulimit") == ["nofile=9:9"]
    assert after(words, "--network") == ["host"]


def podman_info(**host: object) -> dict[str, Any]:
    """What `podman info` says of an ordinary rootful machine, with changes."""
    known: dict[str, Any] = {
        "arch": "amd64",
        "cgroupManager": "systemd",
        "cgroupVersion": "v2",
        "cgroupControllers": ["cpu", "memory", "pids"],
        "ociRuntime": {"name": "crun"},
        "security": {"rootless": False},
        "serviceIsRemote": False,
    }
    return {"host": known | host, "version": {"Version": "5.2.1"}}


def test_ordinary_podman_gets_no_flag() -> None:
    """Where nothing is wrong, Podman is called with nothing but the verb."""
    dialect = podman_dialect(podman_info(), LOCAL)
    assert dialect.global_flags == ()
    assert dialect.hard_limits == ()
    assert dialect.notes() == ()
    rootless = podman_info(security={"rootless": True})
    limited = replace(LOCAL, hard_limits=(("nofile", 4096),))
    assert podman_dialect(rootless, limited).hard_limits == ()


def test_crun_on_hybrid_cgroups() -> None:
    """crun refuses hybrid cgroups, so runc is named there, and only there, if it is installed."""
    info = podman_info(cgroupVersion="v1", cgroupManager="cgroupfs")
    hybrid = replace(LOCAL, hybrid_cgroups=True)
    assert podman_dialect(info, hybrid).global_flags == ("--runtime", "runc")
    assert podman_dialect(info, LOCAL).global_flags == ()
    assert podman_dialect(info, replace(hybrid, runc=False)).global_flags == ()
    remote = podman_info(cgroupVersion="v1", cgroupManager="cgroupfs", serviceIsRemote=True)
    assert podman_dialect(remote, hybrid).global_flags == ()


def test_podman_without_systemd() -> None:
    """A configuration that asks for systemd where none runs is overruled."""
    bare = replace(LOCAL, systemd=False)
    found = podman_dialect(podman_info(), bare)
    assert found.global_flags == ("--cgroup-manager", "cgroupfs")


@pytest.mark.parametrize(
    ("host", "missing"),
    [
        ({"cgroupControllers": ["memory", "pids"]}, ["processor"]),
        ({"cgroupControllers": []}, ["memory", "processor", "process"]),
        ({"cgroupVersion": "v1"}, ["memory", "processor", "process"]),
    ],
)
def test_rootless_podman_without_delegation(host: dict[str, Any], missing: list[str]) -> None:
    """A rootless Podman enforces only what was delegated to it, and nothing on cgroups v1."""
    info = podman_info(security={"rootless": True}, **host)
    dialect = podman_dialect(info, LOCAL)
    assert [note.split()[4] for note in dialect.notes()] == missing


def test_docker_info() -> None:
    """What docker says of its host decides on limits, level and runtimes."""
    info = {
        "Architecture": "aarch64",
        "MemoryLimit": True,
        "SwapLimit": False,
        "CpuCfsQuota": True,
        "PidsLimit": False,
        "SecurityOptions": ["name=seccomp,profile=default", "name=selinux", "name=rootless"],
        "Runtimes": {"runc": {}, "runsc": {}},
    }
    dialect = docker_dialect(info, blank_proxies=False)
    assert dialect.architecture == "aarch64"
    assert (dialect.memory, dialect.swap, dialect.pids) == (True, False, False)
    assert dialect.selinux
    assert dialect.rootless
    assert dialect.runtimes == ("runc", "runsc")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-23T11:23:13.122375708Z", "2026-11-23T11:23:13.122375+00:00"),
        ("2026-11-23T11:23:13Z", "2026-11-23T11:23:13+00:00"),
        ("2026-11-23T12:23:13.5+01:00", "2026-11-23T12:23:13.500000+01:00"),
        ("0001-01-01T00:00:00Z", None),
        ("", None),
        (None, None),
    ],
)
def test_moments(text: object, expected: str | None) -> None:
    """Go's times are read whatever their precision; its zero time is none."""
    found = reading.moment(text)
    assert (found.isoformat() if found else None) == expected


@pytest.mark.parametrize(
    ("name", "listed", "expected"),
    [
        ("debian:12", ['["r.example/library/debian:12"]'], "r.example/library/debian:12"),
        ("debian:12", ['["localhost/debian:12"]', "null"], "localhost/debian:12"),
        ("debian", ['["r.example/library/debian:latest"]'], "r.example/library/debian:latest"),
        ("me/tool:1", ['["r.example/me/tool:1"]'], "r.example/me/tool:1"),
        ("tool:1", ['["r.example/me/tool:1"]'], None),
        ("debian:12", ['["r.example/library/debian:11"]'], None),
    ],
)
def test_short_names(name: str, listed: list[str], expected: str | None) -> None:
    """A name without a registry stands for an image that was fetched with one, and for no other."""
    assert reading.full_name(name, listed) == expected
    assert not reading.names_registry(name)


def test_complaint_is_the_engines_own_line() -> None:
    """Of an engine's refusal one line is kept, without boilerplate."""
    said = "docker: Error response from daemon: no such thing\n\nRun 'docker run --help'\n"
    assert reading.complaint(said) == "no such thing"
    assert reading.complaint("") == ""


def test_processors_are_lowered_to_what_the_engine_has() -> None:
    """Docker refuses a limit above its count, so that a default must not exceed it."""
    spec = replace(PLAIN, cpus=2.0)
    assert after(arguments.create_arguments(spec, replace(DOCKER, processors=1)), "--cpus") == ["1"]
    assert after(arguments.create_arguments(spec, replace(DOCKER, processors=8)), "--cpus") == ["2"]


def test_a_limit_that_is_asked_for_is_lowered_to_the_ceiling_and_no_other_is_set() -> None:
    """What this process cannot raise it cannot give; what was not asked for stays unset."""
    dialect = replace(PODMAN, ceilings=(("nofile", 4096), ("memlock", 9)))
    spec = replace(PLAIN, ulimits=(Ulimit("nofile", 65536), Ulimit("core", 0)))
    words = arguments.create_arguments(spec, dialect)
    assert after(words, "--ulimit") == ["core=0:0", "nofile=4096:4096"]
