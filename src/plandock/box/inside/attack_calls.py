"""System calls that a sealed box has to refuse, made by number; none does harm where it is let.

The numbers are those of the kernel's tables (x86: syscall_64.tbl, arm64: asm-generic/unistd.h).
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal

_X64 = os.uname().machine == "x86_64"
NUMBERS = {
    "clone": 56 if _X64 else 220,
    "keyctl": 250 if _X64 else 219,
    "bpf": 321 if _X64 else 280,
    "perf_event_open": 298 if _X64 else 241,
    "userfaultfd": 323 if _X64 else 282,
    "kexec_load": 246 if _X64 else 104,
    "init_module": 175 if _X64 else 105,
    "pivot_root": 155 if _X64 else 41,
    "fsopen": 430,
    "open_tree": 428,
    "syslog": 103 if _X64 else 116,
    "adjtimex": 159 if _X64 else 171,
}
NAMESPACES = {
    "user": 0x10000000, "mount": 0x20000, "net": 0x40000000, "pid": 0x20000000,
    "ipc": 0x8000000, "uts": 0x4000000, "cgroup": 0x2000000,
}  # fmt: skip
# Any other answer means that the call was let through to its own checks.
REFUSED = {errno.EPERM, errno.EACCES, errno.ENOSYS}
LIBC = ctypes.CDLL(None, use_errno=True)


def call(name: str, *words: object) -> int:
    """Make a call of :data:`NUMBERS`: 0 where it went well, else the error's number."""
    made = LIBC.syscall(ctypes.c_long(NUMBERS[name]), *(_word(x) for x in words))
    if made >= 0 and name in ("bpf", "perf_event_open", "userfaultfd", "fsopen", "open_tree"):
        os.close(made)
    return 0 if made >= 0 else ctypes.get_errno()


def _word(value: object) -> object:
    return ctypes.c_long(value) if isinstance(value, int) else value


def told(errors: dict[str, int]) -> tuple[bool, str]:
    """An answer of calls by name and error: true where every one was refused."""
    let = [f"{name}: {os.strerror(e) if e else 'done'}" for name, e in errors.items() if e not in REFUSED]  # fmt: skip  # noqa: E501
    return not let, ", ".join(let) or f"refused: {', '.join(errors)}"


def mounts() -> dict[str, int]:
    """New mounts, a writable root, and the newer calls for the same."""
    tried = {
        "mount tmpfs": (b"none", b"/tmp", b"tmpfs", 0),
        "remount / writable": (None, b"/", None, 32 | 4096),
        "bind": (b"/proc", b"/tmp", None, 4096),
    }
    found = {}
    for name, words in tried.items():
        failed = LIBC.mount(*words, None)
        found[name] = ctypes.get_errno() if failed else 0
        if not failed and name != "remount / writable":
            LIBC.umount2(b"/tmp", 2)
    found["umount"] = ctypes.get_errno() if LIBC.umount2(b"/proc/acpi", 2) else 0
    found["fsopen"] = call("fsopen", b"tmpfs", 0)
    found["open_tree"] = call("open_tree", -100, b"/", 1)
    found["pivot_root"] = call("pivot_root", b"/tmp", b"/tmp")
    return found


def namespaces() -> dict[str, int]:
    """A namespace of each kind, in a child of its own; and init's, entered again."""
    found = {}
    for name, flag in NAMESPACES.items():
        found[f"unshare {name}"] = in_child(lambda f=flag: LIBC.unshare(f))
    made = LIBC.syscall(ctypes.c_long(NUMBERS["clone"]), *(ctypes.c_long(x) for x in (NAMESPACES["user"] | signal.SIGCHLD, 0, 0, 0, 0)))  # fmt: skip  # noqa: E501
    if made == 0:
        os._exit(0)
    found["clone user"] = ctypes.get_errno() if made < 0 else 0
    if made > 0:
        os.waitpid(made, 0)
    return found


def in_child(attempt: object) -> int:
    """The error of an attempt (a call of libc) that would change the process that makes it."""
    child = os.fork()
    if child == 0:
        code = 255
        try:
            ctypes.set_errno(0)
            failed = attempt()  # type: ignore[operator]
            code = ctypes.get_errno() if failed else 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kernel() -> dict[str, int]:
    """Calls for the kernel's own doors; what they are given can do nothing where they are let."""
    room = ctypes.create_string_buffer(256)
    return {
        "bpf": call("bpf", 0, ctypes.create_string_buffer(b"\1\0\0\0\4\0\0\0\4\0\0\0\1", 128), 72),
        "perf_event_open": call("perf_event_open", _perf(), 0, -1, -1, 0),
        "userfaultfd": call("userfaultfd", 0),
        "kexec_load": call("kexec_load", 0, 99999, room, 0),
        "init_module": call("init_module", room, 0, b""),
        "syslog": call("syslog", 3, room, 255),
    }


def _perf() -> ctypes.Array[ctypes.c_char]:
    """A counter of context switches (software), of kernel and user alike."""
    words = (1).to_bytes(4, "little") + (112).to_bytes(4, "little") + (3).to_bytes(8, "little")
    return ctypes.create_string_buffer(words, 128)


def clock() -> dict[str, int]:
    """The clock's own rate, set again to what it is; the name, too."""
    state = ctypes.create_string_buffer(256)
    call("adjtimex", state)
    ctypes.memmove(
        state, (2).to_bytes(4, "little"), 4
    )  # ADJ_FREQUENCY: a right is asked for, nothing changes
    found = {"adjtimex": call("adjtimex", state)}
    name = os.uname().nodename.encode()
    found["sethostname"] = ctypes.get_errno() if LIBC.sethostname(name, len(name)) else 0
    return found


def identities() -> dict[str, int]:
    """Becoming root, by every call for it, in children."""
    return {
        "setuid": in_child(lambda: LIBC.setuid(0)),
        "setgid": in_child(lambda: LIBC.setgid(0)),
        "setresuid": in_child(lambda: LIBC.setresuid(0, 0, 0)),
        "setgroups": in_child(lambda: LIBC.setgroups(0, None)),
        "chroot": in_child(lambda: LIBC.chroot(b"/tmp")),
    }
