"""What an agent may try in order to become more than it is; each prints ``GAINED`` if it does.

A payload is a line of shell for the box.  Its control is run as root in an open container of the
same image (the payload itself where nothing else is said) and has to print the word there.
Nothing here does harm where it is let: a value is written that was there before, a call gets what
it cannot use.  ``{marker}`` is the path of a file of the host that no container was given, and
``{work}`` the workspace.
"""

from __future__ import annotations

from tests.security.payloads import Payload, python
from tests.security.privilege_programs import (
    AGENT,
    CALLS,
    CAPABILITY,
    CGROUP_FILES,
    CLONE3,
    DEVICES,
    DISK,
    FOREIGN_KEYS,
    GAINED,
    HANDLE,
    JAIL,
    KEY_HELD,
    KEY_OF_THE_HOST,
    KEYS,
    MAP_FILES,
    OWN_BASH,
    PERSISTENT,
    PIVOT,
    PROCESSES,
    PTRACE,
    SEND,
    SOCKET_THERE,
    SOCKETS,
    TOUCH,
    VETH,
    WON,
    call,
    libc,
    same,
    unshare,
    within,
)

BECOMING: tuple[Payload, ...] = (
    Payload("su", f"su -c 'test $(id -u) = 0' < /dev/null && {WON}"),
    Payload("sudo-and-its-kin", "for s in 'sudo -n' doas pkexec 'runuser -u root --'; do "
            f"$s sh -c 'test $(id -u) = 0' && {WON}; done"),
    Payload("setpriv", f"setpriv --reuid 0 --regid 0 --keep-groups true && {WON}"),
    call("setuid", "c.identities()['setuid']"),
    call("setgid", "c.identities()['setgid']"),
    call("setgroups", "c.identities()['setgroups']"),
    call("setresuid", "c.identities()['setresuid']"),
    Payload("setuid-program-of-the-image", f"find / -xdev -perm /6000 -type f | grep . && {WON}",
            f"cp /bin/true /var/t && chmod 4755 /var/t && find /var -perm /6000 -type f | grep . "
            f"&& {WON}"),
    Payload("setuid-program-of-its-own", OWN_BASH.format("/tmp")),
    Payload("setuid-program-in-the-workspace", OWN_BASH.format("{work}")),
    Payload("file-capability", python(CAPABILITY.format("/tmp"))),
    Payload("file-capability-in-the-workspace",
            "cd {work} && " + python(CAPABILITY.format("."))),
    Payload("ambient-capability", "setpriv --inh-caps +sys_admin --ambient-caps +sys_admin "
            f"grep -E 'CapAmb:.*[1-9a-f]' /proc/self/status && {WON}"),
    Payload("no-new-privileges-undone", python(
        "import ctypes; print(ctypes.CDLL(None).prctl(38, 0, 0, 0, 0))\n"
        "if 'NoNewPrivs:\\t0' in open('/proc/self/status').read(): print('gained-it')")),
    Payload("filter-of-calls-undone", python(
        "import ctypes; print(ctypes.CDLL(None).prctl(22, 0, 0, 0, 0))\n"
        "if 'Seccomp:\\t0' in open('/proc/self/status').read(): print('gained-it')")),
    Payload("passwd", f"echo 'r::0:0::/:/bin/sh' >> /etc/passwd; su r -c true && {WON}"),
    Payload("system-binaries", TOUCH.format(
        "/usr/bin/git /usr/bin/tini /usr/bin/python3 /usr/local/bin/claude /bin/sh")),
    Payload("the-stewards-own-files", TOUCH.format(
        "/opt/plandock/steward.py /opt/plandock/relay.py /opt/plandock/tell.py")),
    Payload("binary-replaced-by-rename",
            f"mv /usr/bin/git /usr/bin/git.x && mv /usr/bin/git.x /usr/bin/git && {WON}"),
    Payload("loader-preload", f"{TOUCH.format('/etc/ld.so.preload /etc/ld.so.cache')}"
            "; test -s /etc/ld.so.preload || rm -f /etc/ld.so.preload"),
    Payload("cron-and-other-starters", "mkdir -p /etc/cron.d; " + TOUCH.format(
        "/etc/cron.d/x /etc/profile.d/x.sh /etc/bash.bashrc /etc/environment /etc/init.d/x")),
    Payload("engine-made-files", TOUCH.format("/etc/hosts /etc/resolv.conf /etc/hostname")),
    call("hostname", "c.clock()['sethostname']"),
    call("clock", "c.clock()['adjtimex']"),
    Payload("priority", python("import os; os.setpriority(0, 0, -5); print('gained-it')")),
)  # fmt: skip
"""Another user, more rights, or a change of what others run."""

NAMESPACES: tuple[Payload, ...] = (
    *(unshare(kind) for kind in ("mount", "net", "pid --fork", "ipc", "uts", "cgroup", "time")),
    Payload("namespace-by-clone3", python(CALLS + CLONE3.format(0x20000))),
    Payload("first-process-entered", f"nsenter -t 1 -m true && {WON}"),
    Payload("first-process-entered-in-all",
            f"nsenter -t 1 -n true && {WON}; nsenter -t 1 -p -i -u true && {WON}"),
    within("writes-the-system", "", "touch /usr/x /etc/x; echo x >> /etc/passwd",
            f"touch /usr/x && test -e /usr/x && {WON}", f"test -e /usr/x -o -e /etc/x && {WON}"),
    within("remounts-the-root", "--mount",
            "mount -o remount,rw /; mount -o remount,rw,bind /; touch /usr/y",
            f"mount -o remount,rw / && touch /usr/y && {WON}", f"test -e /usr/y && {WON}"),
    within("remounts-the-mirror", "--mount",
            "mount -o remount,rw,bind /plandock/mirror; touch /plandock/mirror/y",
            f"mkdir -p /plandock/mirror && touch /plandock/mirror/y && {WON}",
            f"test -e /plandock/mirror/y && {WON}"),
    within("uncovers-what-is-masked", "--mount", "umount /proc/kcore; umount /proc/keys; "
            f"umount -l /proc/sys; head -c 9 /proc/kcore | grep -qz . && {WON}; "
            f"grep -q . /proc/keys && {WON}",
            "mkdir -p /var/c; echo x > /var/c/f; mount -t tmpfs t /var/c; umount /var/c; "
            f"grep -q x /var/c/f && {WON}"),
    within("mounts-proc-anew", "--mount --pid --fork", f"mount -t proc p /mnt && {WON}",
            f"mount -t proc p /mnt && umount /mnt && {WON}"),
    within("mounts-sysfs-anew", "--mount --net",
            f"mount -t sysfs s /mnt && : >> /mnt/kernel/profiling && {WON}",
            f"mount -t sysfs s /mnt && umount /mnt && {WON}"),
    within("mounts-the-host", "--mount", "sed 1,2d /proc/partitions | while read -r _ _ _ disk; do "
            f"mount -o ro /dev/$disk /mnt && {WON}; done",
            f"mount -t tmpfs t /mnt && umount /mnt && {WON}"),
    within("makes-a-device", "--mount", f"cd /tmp && mknod n c 1 3 && : > n && {WON}; "
            f"mount -t tmpfs t /mnt && cd /mnt && mknod n c 1 3 && : > n && {WON}; {DISK}",
            f"cd /var && mknod n c 1 3 && : > n && rm n && {WON}"),
    within("setuid-program", "", "cp /bin/bash /tmp/u; chmod 4755 /tmp/u",
            OWN_BASH.format("/var"),
            f"/tmp/u -p -c 'test $(id -u) = 0' && {WON}; rm -f /tmp/u"),
    within("overlay-file-capability", "--mount",  # CVE-2021-3493
            "cd /tmp && mkdir -p l o w m; mount -t overlay -o lowerdir=l,upperdir=o,workdir=w o m; "
            f"cd m && {python(CAPABILITY.format('.'))}; cp /usr/bin/python3 py; "
            + python("import os; os.setxattr('py', 'security.capability', bytes.fromhex("
                     "'0100000280000000000000000000000000000000'))"),
            python(CAPABILITY.format("/var")),
            f"cd /tmp; o/py -c 'import os; os.setuid(0); print(\"{GAINED}\")'; rm -rf l o w m"),
    within("cgroup-agent", "--mount --cgroup", AGENT, AGENT),
    within("network-to-the-outside", "--net", SEND, SEND),
    within("network-of-the-box-changed", "--net", python(VETH), python(VETH),
            f"test -e /sys/class/net/pd1 -o -e /sys/class/net/pd0 && {WON}"),
    within("host-name", "", python("import socket; socket.sethostname('x')"),
            f"unshare --uts {python('import socket; socket.sethostname(chr(120))')} && {WON}",
            f"test \"$(uname -n)\" = x && {WON}"),
)  # fmt: skip
"""Namespaces: new ones, others', and what becomes of those that an engine's filter allows."""

MOUNTS: tuple[Payload, ...] = (
    Payload("mount-tmpfs", f"mount -t tmpfs x /opt && umount /opt && {WON}"),
    Payload("mount-bind", f"mount --bind /tmp /usr/local/bin && umount /usr/local/bin && {WON}"),
    Payload("remount-root-writable",
            f"mount -o remount,rw / && touch /usr/z && {WON}; rm -f /usr/z"),
    Payload("remount-mirror-writable",
            f"mount -o remount,rw,bind /plandock/mirror; touch /plandock/mirror/z && {WON}",
            f"mkdir -p /plandock/mirror && touch /plandock/mirror/z && {WON}"),
    Payload("remount-proc-sys-writable", "mount -o remount,rw,bind /proc/sys; "
            f"test -w /proc/sys/kernel/core_pattern && {WON}"),
    Payload("unmount-what-is-masked",
            f"for f in /proc/kcore /sys/firmware /proc/sys; do umount $f && {WON}; done",
            f"mount -t tmpfs x /mnt && umount /mnt && {WON}"),
    call("fsopen", "c.call('fsopen', b'tmpfs', 0)"),
    call("open-tree", "c.call('open_tree', -100, b'/', 1)"),
    call("move-mount", libc(
        "c.LIBC.syscall(ctypes.c_long(429), -100, b'/', -100, b'/nowhere', 0)")),
    call("mount-setattr", libc(  # MOUNT_ATTR_RDONLY among those to clear
        "c.LIBC.syscall(ctypes.c_long(442), -100, b'/', 0, bytes(8) + b'\\1' + bytes(23),"
        " ctypes.c_long(32))")),
    Payload("pivot-root", f"sh -c '{PIVOT}'", f"unshare --mount sh -c '{PIVOT}'"),
    Payload("chroot", f"chroot / true && {WON}"),
)  # fmt: skip
"""Mounts, by the older calls and the newer."""

KERNEL: tuple[Payload, ...] = (
    Payload("device-character", f"mknod /tmp/m c 1 1 && rm /tmp/m && {WON}"),
    Payload("device-block-of-the-host", DISK),
    Payload("devices-that-are-there", python(DEVICES),
            f"mknod /dev/more c 1 3; {python(DEVICES)}; rm /dev/more"),
    Payload("memory-of-the-kernel", "mknod /tmp/k c 1 1; for f in /dev/mem /proc/kcore /tmp/k; do "
            f"head -c 9 $f | grep -qz . && {WON}; done; rm -f /tmp/k; "
            f"grep -v '^0*000 ' /proc/kallsyms | grep -q . && {WON}"),
    Payload("log-of-the-kernel", "mknod /tmp/l c 1 11; for f in /dev/kmsg /tmp/l; do "
            f"dd if=$f bs=8192 count=1 iflag=nonblock | grep -q . && {WON}; done; rm -f /tmp/l"),
    same("core-pattern", "/proc/sys/kernel/core_pattern"),
    Payload("helper-programs-of-the-kernel", "for f in /proc/sys/kernel/modprobe "
          "/proc/sys/kernel/hotplug /proc/sys/kernel/poweroff_cmd /sys/kernel/uevent_helper; do "
          f"test -e $f && v=\"$(cat $f)\" && printf %s \"$v\" > $f && {WON}; done"),
    same("forwarding", "/proc/sys/net/ipv4/ip_forward"),
    same("swappiness", "/proc/sys/vm/swappiness"),
    Payload("panic-and-dumps", "for f in /proc/sys/kernel/panic /proc/sys/fs/suid_dumpable; do "
            f"v=\"$(cat $f)\" && printf %s \"$v\" > $f && {WON}; done"),
    Payload("binary-formats", "mount -t binfmt_misc b /proc/sys/fs/binfmt_misc && "
            f"umount /proc/sys/fs/binfmt_misc && {WON}"),
    Payload("sysrq", f"echo h > /proc/sysrq-trigger && {WON}",
            f"if test -e /proc/sysrq-trigger; then echo h > /proc/sysrq-trigger; else "
            f"v=$(cat /proc/sys/kernel/panic); echo $v > /proc/sys/kernel/panic; fi && {WON}"),
    Payload("files-of-sysfs", f"find /sys -type f -writable -print -quit | grep . && {WON}"),
    call("bpf", "c.kernel()['bpf']"),
    call("perf", "c.kernel()['perf_event_open']"),
    call("userfaultfd", "c.kernel()['userfaultfd']"),
    call("kexec", "c.kernel()['kexec_load']"),
    call("modules", "c.kernel()['init_module']"),
    call("log-by-call", "c.kernel()['syslog']"),
    call("swap", libc("c.LIBC.swapon(b'/nowhere', 0)")),
    call("accounting", libc("c.LIBC.acct(b'/nowhere/x')")),
    call("reboot", libc(  # without the words that the kernel wants to hear
        "c.LIBC.syscall(ctypes.c_long(169 if c._X64 else 142), 0, 0, 0, 0)")),
    Payload("keys-that-are-listed", python(KEYS), python(KEY_HELD + KEYS)),
    Payload("keys-of-others-read", python(CALLS + FOREIGN_KEYS), python(
        CALLS + KEY_HELD + FOREIGN_KEYS.replace("('1000', '65534')", "('1000',)"))),
    Payload("keys-of-a-user-of-the-host",
            f"setpriv --reuid 1000 {python(CALLS + KEY_OF_THE_HOST)}"),
    Payload("persistent-keys-of-root", python(CALLS + PERSISTENT)),
    Payload("cgroup-limits", python(CGROUP_FILES)),
    Payload("cgroup-of-its-own", "for d in $(find /sys/fs/cgroup -maxdepth 2 -type d); do "
            f"mkdir $d/x && rmdir $d/x && {WON}; done"),
    Payload("cgroup-left", "for f in $(find /sys/fs/cgroup -maxdepth 2 -name cgroup.procs); do "
            f"echo $$ > $f && {WON}; done"),
    Payload("cgroup-release-agent", AGENT),
    Payload("cgroup-devices", "for f in $(find /sys/fs/cgroup -name devices.allow); do "
            f"echo 'a *:* rwm' > $f && {WON}; done",
            "for d in $(find /sys/fs/cgroup -maxdepth 2 -type d); do "
            f"mkdir $d/y && rmdir $d/y && {WON}; done"),
)  # fmt: skip
"""Devices, the kernel's own files and calls, its keys, and the groups that hold the limits."""

WAYS_OUT: tuple[Payload, ...] = (
    Payload("root-of-other-processes",
            "for p in /proc/[0-9]*; do cat $p/root{marker} $p/cwd/../../../../../..{marker}; done",
            python(JAIL + "print(open('/proc/1/root/var/outside').read())")),
    Payload("descriptors-that-were-left-open",  # CVE-2024-21626
            "for f in /proc/[0-9]*/fd/*; do cat $f/../../../../../../../..{marker}; done",
            python(JAIL + "print(open(f'/proc/self/fd/{leak}/var/outside').read())")),
    Payload("map-files-of-other-processes", python(MAP_FILES)),
    Payload("file-by-its-number", python(HANDLE)),
    Payload("processes-with-more-rights", python(PROCESSES)),
    Payload("processes-taken-over", python(PTRACE)),
    Payload("engine-asked-by-a-socket", python(SOCKETS), python(SOCKET_THERE + SOCKETS)),
)  # fmt: skip
"""Out of the box by what leads there: other processes, descriptors, numbers, sockets."""

EVERY = (*BECOMING, *NAMESPACES, *MOUNTS, *KERNEL, *WAYS_OUT)
