"""Is this box as sealed as it was ordered?  Looked at from inside, before anything else runs.

Passive and cheap: files of /proc and attempts that a sealed box refuses; no child process.  Each
check has a name, an answer (true, false, or null where it cannot be told here) and a detail.
The steward says them all into the log, and starts nothing when one is false; the supervisor
judges the same line once more.  What is expected comes with the order (`box.expectations`).
"""

from __future__ import annotations

import os
import resource
import socket
import stat
from collections.abc import Callable, Iterator
from typing import Any

from mounts import mount_faults  # type: ignore[import-not-found]

AGENT = 1000
SOCKETS = (
    "/run/docker.sock", "/var/run/docker.sock", "/run/podman/podman.sock", "/run/podman.sock",
    "/run/containerd/containerd.sock", "/run/crio/crio.sock", "/run/dbus/system_bus_socket",
    "/run/systemd/private", "/run/user/1000/docker.sock", "/run/user/1000/podman/podman.sock",
    "/run/snapd.socket", "/run/buildkit/buildkitd.sock", "/run/host-services/docker.proxy.sock",
)  # fmt: skip
# Down and without an address in every new network namespace where the kernel has the module.
FALLBACK = {"tunl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "sit0", "ip6tnl0", "ip6gre0"}  # fmt: skip  # noqa: E501
NODES = {"full", "null", "random", "tty", "urandom", "zero", "console", "ptmx"}
LINKS = {"fd", "stdin", "stdout", "stderr", "ptmx", "core"}
FOLDERS = {"mqueue", "pts", "shm"}
# Of init's surroundings: what engines and the shell add of themselves.
USUAL = {"HOME", "HOSTNAME", "LANG", "LC_ALL", "PATH", "PWD", "SHLVL", "TERM", "_", "container"}
PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")
IMAGE_ENVIRONMENT = "/opt/plandock/environment"
FEW = 16  # processes in a box in which nothing runs yet

Expected = dict[str, Any]
Answer = tuple[bool | None, str]


def text(path: str) -> str:
    """A small file of the kernel's."""
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def status() -> dict[str, str]:
    """/proc/self/status by name."""
    lines = text("/proc/self/status").splitlines()
    return {name: value.strip() for name, _, value in (x.partition(":") for x in lines)}


def user(_: Expected) -> Answer:
    """uid and gid 1000 in every place, and no further group."""
    uids, gids = set(os.getresuid()), set(os.getresgid())
    groups = set(os.getgroups()) - {AGENT}
    said = f"uid {sorted(uids)}, gid {sorted(gids)}, further groups {sorted(groups)}"
    return uids == {AGENT} and gids == {AGENT} and not groups, said


def capabilities(_: Expected) -> Answer:
    """No capability in any set."""
    found = status()
    sets = {name: found[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
    held = [f"{name} {value}" for name, value in sets.items() if int(value, 16)]
    return not held, ", ".join(held) or "none"


def no_new_privileges(_: Expected) -> Answer:
    """No program can give more rights than its caller has."""
    value = status().get("NoNewPrivs", "?")
    return value == "1", f"NoNewPrivs {value}"


def seccomp(expected: Expected) -> Answer:
    """The engine's filter of system calls is on."""
    if expected.get("gvisor"):
        return None, "gVisor answers system calls itself"
    value = status().get("Seccomp", "?")
    return value == "2", f"Seccomp {value}"


def network(_: Expected) -> Answer:
    """Only loopback: no other interface that could be used, no route, no IPv6 address."""
    faults = []
    for _index, name in socket.if_nameindex():
        if name == "lo":
            continue
        try:
            up = int(text(f"/sys/class/net/{name}/flags"), 16) & 1
        except (OSError, ValueError):
            up = 1
        if name not in FALLBACK or up:
            faults.append(f"interface {name}")
    faults += [f"route by {x.split()[0]}" for x in rows("/proc/net/route")[1:]]
    faults += [f"IPv6 route by {x.split()[-1]}" for x in rows("/proc/net/ipv6_route") if x.split()[-1] != "lo"]  # fmt: skip  # noqa: E501
    own = {("0" * 31 + "1", "lo")}
    faults += [f"IPv6 address on {x.split()[-1]}" for x in rows("/proc/net/if_inet6") if (x.split()[0], x.split()[-1]) not in own]  # fmt: skip  # noqa: E501
    return not faults, ", ".join(faults) or "loopback alone"


def rows(path: str) -> list[str]:
    """The lines of a table that a kernel without IPv6 does not have."""
    try:
        return [x for x in text(path).splitlines() if x.strip()]
    except OSError:
        return []


def root_read_only(_: Expected) -> Answer:
    """The root file system and the image's folders take no file."""
    faults = []
    for folder in ("/", "/etc", "/usr", "/usr/local/bin", "/opt/plandock", "/proc/sys"):
        if not os.statvfs(folder).f_flag & os.ST_RDONLY:
            faults.append(f"{folder} is mounted writable")
    for folder in ("/", "/etc", "/usr", "/opt/plandock"):
        faults += takes_a_file(folder)
    return not faults, ", ".join(faults) or "read-only"


def takes_a_file(folder: str) -> list[str]:
    """An attempt to make a file there; a fault if it went well."""
    name = os.path.join(folder, f".plandock-probe-{os.getpid()}")
    try:
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError:
        return []
    os.unlink(name)
    return [f"a file could be made in {folder}"]


def volumes_read_only(expected: Expected) -> Answer:
    """The repository's mirror and the link to the gateway take no file."""
    faults = []
    for path, entry in expected["volumes"].items():
        if entry["read_only"]:
            faults += takes_a_file(path)
            if not os.statvfs(path).f_flag & os.ST_RDONLY:
                faults.append(f"{path} is mounted writable")
    return not faults, ", ".join(faults) or "read-only"


def mounts(expected: Expected) -> Answer:
    """Nothing is mounted but the run's volumes, its tmpfs and what every container has."""
    faults: list[str] = mount_faults(text("/proc/self/mountinfo"), expected)
    if faults and expected.get("gvisor"):
        return None, f"gVisor shows other mounts: {', '.join(faults)}"
    return not faults, ", ".join(faults) or "only its own"


def engine_sockets(_: Expected) -> Answer:
    """No socket of an engine or of the host's services."""
    found = [path for path in SOCKETS if os.path.lexists(path)]
    for folder, names, files in os.walk("/run"):
        if folder == "/run/plandock":
            names.clear()
            continue
        for name in files:
            path = os.path.join(folder, name)
            if stat.S_ISSOCK(os.lstat(path).st_mode) and path not in found:
                found.append(path)
    return not found, ", ".join(found) or "none"


def devices(_: Expected) -> Answer:
    """/dev has the nodes that every container has, and no block device."""
    faults = []
    for entry in os.scandir("/dev"):
        mode = entry.stat(follow_symlinks=False).st_mode
        known = (
            (stat.S_ISLNK(mode) and entry.name in LINKS)
            or (stat.S_ISDIR(mode) and entry.name in FOLDERS)
            or (stat.S_ISCHR(mode) and entry.name in NODES)
        )
        if not known:
            faults.append(f"/dev/{entry.name}")
    return not faults, ", ".join(sorted(faults)[:20]) or "the usual ones"


def kernel_files(_: Expected) -> Answer:
    """The kernel's switches cannot be written."""
    places = ("/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname",
              "/sys/kernel/uevent_helper", "/sys/power/state")  # fmt: skip
    faults = [path for path in places if os.access(path, os.W_OK)]
    try:
        if not os.statvfs("/sys").f_flag & os.ST_RDONLY:
            faults.append("/sys is mounted writable")
    except OSError:
        pass
    return not faults, ", ".join(faults) or "not writable"


def tmpfs_sizes(expected: Expected) -> Answer:
    """Each file system in memory is as small as ordered."""
    faults = []
    shared = {"/dev/shm": {"size": expected["shm"], "inodes": None}}
    for path, entry in {**expected["tmpfs"], **shared}.items():
        found = os.statvfs(path)
        size = found.f_blocks * found.f_frsize
        # Rounded to whole pages by the kernel.
        if size == 0 or size > entry["size"] + resource.getpagesize():
            faults.append(f"{path} has {size} bytes")
        if entry["inodes"] and not 0 < found.f_files <= entry["inodes"]:
            faults.append(f"{path} has {found.f_files} inodes")
    return not faults, ", ".join(faults) or "as ordered"


def processes(_: Expected) -> Answer:
    """A process namespace of its own: init is the image's, and nobody else is there."""
    first = text("/proc/1/comm").strip()
    count = sum(name.isdigit() for name in os.listdir("/proc"))
    return first == "tini" and count < FEW, f"process 1 is {first}, {count} process(es)"


def shared_memory(_: Expected) -> Answer:
    """An IPC namespace of its own: no segment, queue or semaphore is there yet."""
    kinds = ("shm", "msg", "sem")
    found = [kind for kind in kinds if len(rows(f"/proc/sysvipc/{kind}")) > 1]
    return not found, ", ".join(found) or "none"


def cgroup_limits(expected: Expected) -> Answer:
    """Memory, processes and processors are limited as the engine claims."""
    faults, unseen = [], []
    for name, read in (("memory", memory_limit), ("pids", pids_limit), ("cpus", cpu_limit)):
        wanted = expected[name]
        if wanted is None:
            continue
        try:
            found = read()
        except (OSError, ValueError):
            unseen.append(name)
            continue
        # The kernel counts memory in pages and processor time in microseconds.
        if found is None or found > wanted * 1.001:
            faults.append(f"{name} {found or 'unlimited'}, not {wanted}")
    if faults or not unseen:
        return not faults, ", ".join(faults) or "as ordered"
    return None, f"cannot be seen here: {', '.join(unseen)}"


GROUP = "/sys/fs/cgroup"


def first_of(*names: str) -> str:
    """The first of these files below the cgroup's folder that is there."""
    for name in names:
        if os.path.exists(f"{GROUP}/{name}"):
            return text(f"{GROUP}/{name}").strip()
    raise FileNotFoundError(names[0])


def memory_limit() -> float | None:
    """Bytes, of cgroups version 2 or 1; None for no limit."""
    found = first_of("memory.max", "memory/memory.limit_in_bytes")
    return None if found == "max" or int(found) > 1 << 60 else int(found)


def pids_limit() -> float | None:
    """Processes; None for no limit."""
    found = first_of("pids.max", "pids/pids.max")
    return None if found == "max" else int(found)


def cpu_limit() -> float | None:
    """Processors; None for no limit."""
    try:
        quota, period = first_of("cpu.max").split()
    except FileNotFoundError:
        quota = first_of("cpu/cpu.cfs_quota_us", "cpu,cpuacct/cpu.cfs_quota_us")
        period = first_of("cpu/cpu.cfs_period_us", "cpu,cpuacct/cpu.cfs_period_us")
    return None if quota in ("max", "-1") else int(quota) / int(period)


def resource_limits(expected: Expected) -> Answer:
    """No core dump, and the other limits of a process as ordered, hard ones too."""
    faults = []
    for name, most in expected["ulimits"].items():
        constant = getattr(resource, f"RLIMIT_{name.upper()}", None)
        if constant is None:
            continue
        hard = resource.getrlimit(constant)[1]
        if hard == resource.RLIM_INFINITY or hard > most:
            faults.append(f"{name} {hard}, not {most}")
    return not faults, ", ".join(faults) or "as ordered"


def environment(expected: Expected) -> Answer:
    """No variable of the host: only those of the engine, of the image and of the order."""
    known = USUAL | set(expected["environment"])
    known |= {x for name in PROXIES for x in (name, name.upper())}
    known |= set(rows(IMAGE_ENVIRONMENT))
    faults = sorted(set(os.environ) - known)
    faults += [x for x in os.environ if x.lower() in PROXIES and os.environ[x]]
    # Names alone: a value may be a secret.
    return not faults, ", ".join(faults[:20]) or "only its own"


def setuid_files(_: Expected) -> Answer:
    """No program on the PATH makes its caller somebody else."""
    found = []
    for folder in dict.fromkeys(os.path.realpath(x) for x in os.environ["PATH"].split(":")):
        if not os.path.isdir(folder):
            continue
        with os.scandir(folder) as entries:
            for entry in entries:
                mode = entry.stat(follow_symlinks=False).st_mode
                if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
                    found.append(entry.path)
    return not found, ", ".join(found[:20]) or "none"


CHECKS: tuple[tuple[str, Callable[[Expected], Answer]], ...] = (
    ("user", user),
    ("capabilities", capabilities),
    ("no-new-privileges", no_new_privileges),
    ("seccomp", seccomp),
    ("network", network),
    ("root-read-only", root_read_only),
    ("volumes-read-only", volumes_read_only),
    ("mounts", mounts),
    ("engine-sockets", engine_sockets),
    ("devices", devices),
    ("kernel-files", kernel_files),
    ("tmpfs-sizes", tmpfs_sizes),
    ("processes", processes),
    ("shared-memory", shared_memory),
    ("cgroup-limits", cgroup_limits),
    ("resource-limits", resource_limits),
    ("environment", environment),
    ("setuid-files", setuid_files),
)


def examine(expected: Expected | None) -> Iterator[dict[str, Any]]:
    """Every check; one that cannot be carried out has failed, and so has an order without any."""
    if not isinstance(expected, dict):
        yield {"name": "order", "ok": False, "detail": "nothing says what this box should be"}
        return
    for name, check in CHECKS:
        try:
            ok, detail = check(expected)
        except Exception as error:
            ok, detail = False, f"could not be looked at: {type(error).__name__}: {error}"
        yield {"name": name, "ok": ok, "detail": detail[:500]}
