"""`plandock doctor --isolation`: is a box as sealed as it was ordered?  Tried out, from inside.

Every check of the per-run `probe`, and then attempts that a sealed box refuses.  Reads what is
expected as JSON from standard input, prints one JSON line per check as it is made, `done` last.
Nothing here leaves the box: where it has a network after all, no connection is tried.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import socket
import stat
import sys
from collections.abc import Callable
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import attack_calls as calls  # type: ignore[import-not-found]
import probe  # type: ignore[import-not-found]

Answer = tuple[bool | None, str]
Expected = dict[str, Any]
PATIENCE_S = 120  # for each attempt; a machine under load is no missing protection
PLACES = ("/", "/boot", "/etc", "/home", "/lib", "/opt/plandock", "/opt/plandock/lib", "/plandock",
          "/root", "/run", "/srv", "/sys", "/sys/fs/cgroup", "/usr", "/usr/local/bin", "/var",
          "/proc/sys/kernel", "/dev")  # fmt: skip
FILES = ("/usr/local/bin/claude", "/usr/bin/git", "/opt/plandock/steward.py", "/etc/passwd",
         "/etc/resolv.conf", "/etc/hosts", "/etc/ld.so.preload", "/proc/sysrq-trigger",
         "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/vm/drop_caches",
         "/sys/kernel/uevent_helper", "/sys/power/state")  # fmt: skip
NOWHERE = "192.0.2.1"  # RFC 5737: nobody's address


def writes(expected: Expected) -> Answer:
    """No folder outside the box's own volumes takes a file, no file of the system is written."""
    read_only = [path for path, entry in expected["volumes"].items() if entry["read_only"]]
    faults = [x for folder in (*PLACES, *read_only) for x in probe.takes_a_file(folder)]
    faults += [f"{path} can be written" for path in FILES if opens(path, os.O_WRONLY | os.O_APPEND)]
    return not faults, ", ".join(faults) or f"{len(PLACES) + len(read_only) + len(FILES)} refused"


def opens(path: str, flags: int) -> bool:
    """Whether a file that is there can be opened so."""
    try:
        os.close(os.open(path, flags | os.O_NONBLOCK))
    except OSError:
        return False
    return True


def device_nodes(_: Expected) -> Answer:
    """No device can be made."""
    faults = []
    for name, kind, number in (("null", stat.S_IFCHR, (1, 3)), ("disk", stat.S_IFBLK, (8, 0))):
        place = f"/tmp/plandock-{name}"
        try:
            os.mknod(place, kind | 0o600, os.makedev(*number))
        except OSError:
            continue
        os.unlink(place)
        faults.append(name)
    return not faults, ", ".join(faults) or "none can be made"


def mounting(_: Expected) -> Answer:
    """Nothing can be mounted, by the older calls or the newer."""
    return calls.told(calls.mounts())  # type: ignore[no-any-return]


def namespaces(_: Expected) -> Answer:
    """No namespace can be made directly (see `user_namespaces` for the way around)."""
    found = {name: error for name, error in calls.namespaces().items() if "user" not in name}
    return calls.told(found)  # type: ignore[no-any-return]


def user_namespaces(expected: Expected) -> Answer:
    """No user namespace, in which a process is root over nothing, but near more of the kernel.

    Docker's filter of system calls refuses them; that of Podman 4.3 does not (measured), and is
    in force where plandock cannot give it a narrower one.
    """
    ok, detail = calls.told({k: e for k, e in calls.namespaces().items() if "user" in k})
    if ok:
        return True, detail
    filtered = probe.seccomp(expected)[0] is not False
    return (None if filtered else False), f"the engine's filter allows it: {detail}"


def becoming_root(_: Expected) -> Answer:
    """Nobody becomes root, and chroot is refused."""
    return calls.told(calls.identities())  # type: ignore[no-any-return]


def kernel_calls(_: Expected) -> Answer:
    """The kernel's own doors: bpf, perf, userfaultfd, kexec, modules, its log."""
    return calls.told(calls.kernel())  # type: ignore[no-any-return]


def clock(_: Expected) -> Answer:
    """Clock and host name cannot be set."""
    return calls.told(calls.clock())  # type: ignore[no-any-return]


def keyrings(expected: Expected) -> Answer:
    """No key of anybody else's is seen, and no keyring can be asked for.

    That of a user belongs to no namespace: it would be one with the same uid's on the host.
    """
    if calls.call("keyctl", 0, -4, 0) not in calls.REFUSED:
        filtered = probe.seccomp(expected)[0] is not False
        return (
            None if filtered else False
        ), "the engine's filter lets the user's keys be asked for"
    listed = [x.split() for x in probe.rows("/proc/keys")]
    others = [x[-2] for x in listed if len(x) > 5 and x[5] not in ("1000", "65534")]
    return not others, ", ".join(others[:5]) or "none of another user"


def setuid_everywhere(_: Expected) -> Answer:
    """No file in the whole image makes its caller somebody else, by mode or by capability."""
    found = []
    for top, folders, names in os.walk("/"):
        folders[:] = [x for x in folders if top != "/" or x not in ("proc", "sys", "dev")]
        for name in names:
            path = os.path.join(top, name)
            try:
                mode = os.lstat(path).st_mode
                if not stat.S_ISREG(mode):
                    continue
                if mode & (stat.S_ISUID | stat.S_ISGID) or "security.capability" in os.listxattr(path, follow_symlinks=False):  # fmt: skip  # noqa: E501
                    found.append(path)
            except OSError:
                continue
    return not found, ", ".join(found[:10]) or "none"


def other_processes(_: Expected) -> Answer:
    """Every process that can be seen is the box's own."""
    faults = []
    for name in os.listdir("/proc"):
        try:
            status = probe.text(f"/proc/{name}/status") if name.isdigit() else ""
            if status and status.split("\nUid:")[1].split()[0] != str(probe.AGENT):
                faults.append(name)
        except OSError:
            continue
    return not faults, ", ".join(faults[:10]) or "none of another user"


def packet_sockets(_: Expected) -> Answer:
    """No socket that makes packets by itself."""
    kinds = {"raw": (socket.AF_INET, socket.SOCK_RAW, 1), "raw6": (socket.AF_INET6, socket.SOCK_RAW, 58), "packet": (socket.AF_PACKET, socket.SOCK_RAW, 0x300)}  # fmt: skip  # noqa: E501
    let = []
    for name, words in kinds.items():
        try:
            socket.socket(*words).close()
        except OSError:
            continue
        let.append(name)
    return not let, ", ".join(let) or "refused"


def kernel_memory(_: Expected) -> Answer:
    """Neither the kernel's memory nor its log can be read."""
    let = []
    for path in ("/proc/kcore", "/dev/mem", "/dev/kmem", "/dev/kmsg", "/proc/kmsg", "/proc/kallsyms"):  # fmt: skip  # noqa: E501
        try:
            with open(path, "rb") as file:
                data = file.read(64)
        except OSError:
            continue
        # Symbols without their addresses say nothing; a masked file is empty.
        if data and not data.startswith(b"0000000000000000"):
            let.append(path)
    return not let, ", ".join(let) or "nothing"


def cgroups(_: Expected) -> Answer:
    """No group can be made, no limit raised, no release agent named."""
    let = []
    for top, folders, names in os.walk("/sys/fs/cgroup"):
        let += [f"{top}/{x}" for x in names if opens(f"{top}/{x}", os.O_WRONLY)]
        try:
            os.mkdir(f"{top}/plandock")
            os.rmdir(f"{top}/plandock")
            let.append(top)
        except OSError:
            pass
        if top.count("/") > 5:
            folders.clear()
    return not let, ", ".join(let[:5]) or "not writable"


def way_out(expected: Expected) -> Answer:
    """No address and no name is reached; each fails at once, for want of a route."""
    sealed, detail = probe.network(expected)
    if not sealed:
        return False, f"not tried, for it might go out: {detail}"
    let = []
    for kind, name in ((socket.SOCK_STREAM, "TCP"), (socket.SOCK_DGRAM, "UDP")):
        with socket.socket(socket.AF_INET, kind) as line:
            line.settimeout(5)
            error = line.connect_ex((NOWHERE, 443))
        if error not in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EPERM):
            let.append(f"{name}: {os.strerror(error) if error else 'sent'}")
    try:
        socket.getaddrinfo("doctor.plandock.invalid", 443)
        let.append("a name was answered")
    except OSError:
        pass
    return not let, ", ".join(let) or "no route, no names"


def gateway(_: Expected) -> Answer:
    """The gateway refuses what is not on its list: a name, an address, a port, plain HTTP."""
    asked = {
        "another name": "CONNECT doctor.plandock.invalid:443",
        "an address": f"CONNECT {NOWHERE}:443",
        "port 80": "CONNECT api.anthropic.com:80",
        "plain HTTP": "GET http://doctor.plandock.invalid/",
    }
    faults = []
    for name, head in asked.items():
        host = head.split()[1].removeprefix("http://").rstrip("/")
        with socket.create_connection(("127.0.0.1", 3128), timeout=60) as line:
            line.sendall(f"{head} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            said = line.recv(200).split(b"\r\n")[0].decode("ascii", "replace")
        if not said.startswith(("HTTP/1.1 4", "HTTP/1.1 5")):
            faults.append(f"{name}: {said or 'no answer'}")
    return not faults, ", ".join(faults) or f"refused: {', '.join(asked)}"


def tmpfs_limit(expected: Expected) -> Answer:
    """A file system in memory is full when it has what was ordered (tried on the smallest)."""
    place, entry = min(expected["tmpfs"].items(), key=lambda x: x[1]["size"])
    name, written = f"{place}/.plandock-fill", 0
    handle = os.open(name, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        while written <= entry["size"]:
            written += os.write(handle, bytes(1 << 20))
    except OSError as error:
        return (
            error.errno == errno.ENOSPC,
            f"{place}: {error.strerror} at {written} bytes",
        )
    finally:
        os.close(handle)
        os.unlink(name)
    return False, f"{place} took {written} bytes"


def process_limit(expected: Expected) -> Answer:
    """There is an end to new processes."""
    if expected["pids"] is None:
        return None, "the engine cannot count processes here"
    children: list[int] = []
    try:
        while len(children) <= expected["pids"]:
            child = os.fork()
            if child == 0:
                signal.pause()
                os._exit(0)
            children.append(child)
    except OSError as error:
        return error.errno == errno.EAGAIN, f"{error.strerror} after {len(children)}"
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    return False, f"{len(children)} were started"


def memory_limit(expected: Expected) -> Answer:
    """A process that takes more memory than there is for the box is ended."""
    most = expected["memory"]
    if most is None:
        return None, "the engine cannot limit memory here"
    child = os.fork()
    if child == 0:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")  # this one first, not the box's own
        held = []
        for _i in range((most >> 24) + 8):
            held.append(b"x" * (16 << 20))
        os._exit(0)
    try:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    except TimeoutError:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    return code != 0, f"ended with {code}" if code else f"more than {most} bytes were given"


def core_dump(_: Expected) -> Answer:
    """A crash writes nothing."""
    child = os.fork()
    if child == 0:
        os.chdir("/tmp")
        resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
        os.abort()
    ended = os.waitpid(child, 0)[1]
    left = [x for x in os.listdir("/tmp") if x.startswith("core")]
    return not os.WCOREDUMP(ended) and not left, "none" if not left else ", ".join(left)


ATTEMPTS: tuple[tuple[str, Callable[[Expected], Answer]], ...] = (
    ("writes", writes),
    ("device-nodes", device_nodes),
    ("mounting", mounting),
    ("namespaces", namespaces),
    ("user-namespaces", user_namespaces),
    ("becoming-root", becoming_root),
    ("kernel-calls", kernel_calls),
    ("clock", clock),
    ("keyrings", keyrings),
    ("setuid-everywhere", setuid_everywhere),
    ("other-processes", other_processes),
    ("packet-sockets", packet_sockets),
    ("kernel-memory", kernel_memory),
    ("cgroups", cgroups),
    ("way-out", way_out),
    ("gateway", gateway),
    ("tmpfs-limit", tmpfs_limit),
    ("process-limit", process_limit),
    ("memory-limit", memory_limit),
    ("core-dump", core_dump),
)


def late(*_: object) -> None:
    """An attempt that takes too long has failed."""
    raise TimeoutError(f"no answer within {PATIENCE_S} s")


def main() -> int:
    """Say every check."""
    expected = json.load(sys.stdin)
    signal.signal(signal.SIGALRM, late)
    for found in probe.examine(expected):
        print(json.dumps(found), flush=True)
    for name, attempt in ATTEMPTS:
        signal.alarm(PATIENCE_S)
        try:
            ok, detail = attempt(expected)
        except Exception as error:
            ok, detail = False, f"could not be tried: {type(error).__name__}: {error}"
        signal.alarm(0)
        print(json.dumps({"name": name, "ok": ok, "detail": detail[:500]}), flush=True)
    print(json.dumps({"name": "done"}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
