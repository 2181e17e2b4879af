"""What an agent may use up; each asks for a bounded amount that is more than its box may have.

A payload prints :data:`GAINED` where it got all of it.  Its control is the same in a box with
larger limits, where it does get it; so nothing here asks for more than that one has
(:data:`ROOMY`), and nothing for what this machine would miss.
"""

from __future__ import annotations

from tests.security.payloads import Payload, python
from tests.security.privilege_programs import GAINED, WON

MIB = 1 << 20
# In the box that is attacked, and in the one that shows what is possible.
MEMORY, ROOMY_MEMORY = 96 * MIB, 768 * MIB
PROCESSES, ROOMY_PROCESSES = 128, 4096
ASKED = 200  # MiB, between the two

_C = "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"
_ALL = f"print('{GAINED}')"
_FORKS = f"""
import os, signal
children = []
try:
    for _ in range(300):
        child = os.fork()
        if child == 0:
            WORK
        children.append(child)
    {_ALL}
except OSError as error:
    print(len(children), error)
for child in children:
    try:
        os.kill(child, signal.SIGKILL)
    except OSError: pass
    os.waitpid(child, 0)
"""
_THREADS = f"""
import threading, time
over = threading.Event()
threading.stack_size(65536)
try:
    for _ in range(300): threading.Thread(target=over.wait, daemon=True).start()
    {_ALL}
except RuntimeError as error: print(error)
over.set()
"""
_HOLD = f"held = [bytearray(b'x' * {MIB}) for _ in range({ASKED})]\n{_ALL}"
_MAPPED = f"""
import mmap
room = mmap.mmap(-1, {ASKED * MIB})
for _ in range({ASKED}): room.write(bytes({MIB}))
{_ALL}
"""
_LOCKED = f"""
{_C}import mmap
room = mmap.mmap(-1, {8 * MIB})
at = ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(room)))
failed = libc.mlock(at, ctypes.c_size_t({8 * MIB}))
print(os.strerror(ctypes.get_errno()) if failed else '{GAINED}')
"""
_INODES = f"""
import os
os.mkdir('/run/plandock/many')
try:
    for n in range(100000): os.mknod(f'/run/plandock/many/{{n:0200}}')
    {_ALL}
except OSError as error: print(n, error)
"""
_OPEN = f"""
import os
held = []
try:
    for _ in range(17000): held.append(os.open('/dev/null', os.O_RDONLY))
    {_ALL}
except OSError as error: print(len(held), error)
"""
_SOCKETS = f"""
import socket
held, sent = [], 0
while sent < {ASKED * MIB}:
    held += socket.socketpair()
    held[-1].setblocking(False)
    try:
        while True: sent += held[-1].send(bytes(65536))
    except BlockingIOError: pass
{_ALL}
"""
_SEGMENTS = f"""
{_C}libc.shmat.restype = ctypes.c_void_p
for n in range({ASKED // 20}):
    made = libc.shmget(0, ctypes.c_size_t({20 * MIB}), 0o1600)
    place = libc.shmat(made, None, 0)
    if made < 0 or place in (None, 2 ** 64 - 1):
        print(n, os.strerror(ctypes.get_errno())); break
    ctypes.memset(place, 1, {20 * MIB})
else: {_ALL}
"""
_MESSAGES = f"""
{_C}sent = 0
while sent < {ASKED * MIB}:
    queue = libc.msgget(0, 0o1600)
    room = ctypes.create_string_buffer((1).to_bytes(8, 'little') + bytes(8192))
    if queue < 0: print(sent, os.strerror(ctypes.get_errno())); break
    while libc.msgsnd(queue, room, ctypes.c_size_t(8192), 0o4000) == 0: sent += 8192
else: {_ALL}
"""
_QUEUES = f"""
{_C}import struct
for n in range(4):
    room = ctypes.create_string_buffer(struct.pack('=qqqq', 0, 10, 8192, 0) + bytes(32))
    name = f'/plandock-{{os.getpid()}}-{{n}}'.encode()
    made = libc.mq_open(name, os.O_CREAT | os.O_RDWR, 0o600, room)
    if made < 0: print(n, os.strerror(ctypes.get_errno())); break
    libc.mq_unlink(name)
else: {_ALL}
"""


def _fill(name: str, place: str, megabytes: int) -> Payload:
    return Payload(
        name, f"head -c {megabytes}M /dev/zero > {place}/fill && {WON}; rm -f {place}/fill"
    )


USES: tuple[Payload, ...] = (
    Payload("processes", python(_FORKS.replace("WORK", "signal.pause()"))),
    Payload("processes-that-are-not-waited-for", python(_FORKS.replace("WORK", "os._exit(0)"))),
    Payload("threads", python(_THREADS)),
    Payload("memory", python(_HOLD)),
    Payload("memory-mapped-and-shared", python(_MAPPED)),
    Payload("memory-locked", python(_LOCKED)),
    _fill("memory-by-files-in-tmp", "/tmp", ASKED),
    _fill("memory-by-files-in-home", "/plandock/home", ASKED),
    _fill("room-of-the-steward", "/run/plandock", 100),
    _fill("shared-memory", "/dev/shm", 100),
    Payload("inodes", python(_INODES) + "; rm -rf /run/plandock/many"),
    Payload("descriptors", python(_OPEN)),
    Payload("socket-buffers", python(_SOCKETS)),
    Payload("system-v-segments", python(_SEGMENTS)),
    Payload("system-v-messages", python(_MESSAGES)),
    Payload("posix-queues", python(_QUEUES)),
    Payload("a-file-of-any-length", f"cd {{work}} && truncate -s 17G f && {WON}; rm -f f"),
    Payload("core-dumps", f"cd {{work}} && ulimit -c unlimited && {WON}"),
)

# What the kernel counts by itself, for a namespace or for a user: used up, held, and told of with
# a line; then whether a next one can be had.
_HELD = "print('held', flush=True)\ninput()\n"
COUNTED: dict[str, tuple[str, str]] = {
    "system-v-semaphores": (
        f"{_C}while libc.semget(0, 1, 0o1600) >= 0: pass\n{_HELD}",
        f"{_C}print('{GAINED}' if libc.semget(0, 1, 0o1600) >= 0 else 'none left')",
    ),
    "system-v-queues": (
        f"{_C}while libc.msgget(0, 0o1600) >= 0: pass\n{_HELD}",
        f"{_C}print('{GAINED}' if libc.msgget(0, 0o1600) >= 0 else 'none left')",
    ),
    "abstract-names": (
        "import socket\nheld = socket.socket(socket.AF_UNIX); held.bind('\\0plandock')\n" + _HELD,
        "import socket\ntry:\n    socket.socket(socket.AF_UNIX).bind('\\0plandock')\n"
        f"    {_ALL}\nexcept OSError as error: print('none left')",
    ),
}
