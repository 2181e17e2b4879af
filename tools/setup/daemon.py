"""A Docker daemon of our own, for machines where none runs: start, find again, stop.

It is known by its process id together with the moment that process started, so that an id used
again by another program is never taken for it.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tools.setup.commands import SetupError, as_root, attempt, environment, last_line, say
from tools.setup.folder import setup_dir

START_WITHIN_S = 60.0
STOP_WITHIN_S = 40.0
"""Longer than the ten seconds that the daemon gives each container at its own end."""


def server_version() -> str | None:
    """The version of the Docker server that answers the client, if one does."""
    done = attempt(["docker", "version", "--format", "{{.Server.Version}}"], timeout_s=20)
    return done.stdout.strip() if done.returncode == 0 and done.stdout.strip() else None


def process_start(pid: int) -> str | None:
    """Boot and clock tick at which a process started; None where it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    # After the name, field 3 (state) comes first and field 22 (starttime) twentieth: proc(5).
    return None if fields[0] in "ZX" else f"{boot} {fields[19]}"


def _record() -> Path:
    return setup_dir() / "dockerd.json"


def ours() -> int | None:
    """The process id of the daemon started here, while it lives."""
    try:
        known: dict[str, Any] = json.loads(_record().read_text())
    except (OSError, ValueError):
        return None
    return known["pid"] if process_start(known["pid"]) == known["started"] else None


def start() -> None:
    """Start `dockerd` in a session of its own and wait until it answers.  Raises `SetupError`.

    `PLANDOCK_SETUP_DOCKERD_ARGS` holds further arguments, such as `--storage-driver=vfs` where
    overlays cannot be nested.
    """
    prefix = as_root()
    log, pid_file = setup_dir() / "dockerd.log", setup_dir() / "dockerd.pid"
    _outwait(pid_file)
    argv = [*prefix, "dockerd", "--pidfile", str(pid_file)]
    if prefix:
        # The socket belongs to root; through its group the user who asked may use it.
        argv += ["--group", str(os.getgid())]
    if host := os.environ.get("DOCKER_HOST"):
        argv += ["--host", host]
    argv += shlex.split(os.environ.get("PLANDOCK_SETUP_DOCKERD_ARGS", ""))
    say(f"Docker: starting the daemon (log: {log})")
    with log.open("wb") as output:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment(),
        )
    until = time.monotonic() + START_WITHIN_S
    while child.poll() is None and time.monotonic() < until:
        if _note(pid_file) and server_version():
            return
        time.sleep(0.2)
    if child.poll() is None:
        _send(signal.SIGTERM, child.pid)
    _record().unlink(missing_ok=True)
    lines = log.read_text(errors="replace").strip().splitlines()
    raise SetupError(
        f"dockerd did not start: {lines[-1][:300] if lines else 'no output'}",
        f"see {log}, or start Docker yourself",
    )


def _outwait(pid_file: Path) -> None:
    """Wait for the daemon of a `make` just before, which may still be on its way out: its
    process id in the file would keep the next one from starting."""
    until = time.monotonic() + STOP_WITHIN_S
    while time.monotonic() < until:
        try:
            name = Path(f"/proc/{int(pid_file.read_text())}/comm").read_text().strip()
        except (OSError, ValueError):
            return
        if name != "dockerd":
            pid_file.unlink(missing_ok=True)  # the number is another program's now
            return
        time.sleep(0.2)


def _note(pid_file: Path) -> bool:
    """Record the daemon as ours as soon as it has written its process id."""
    try:
        pid = int(pid_file.read_text())
    except (OSError, ValueError):
        return False
    if (started := process_start(pid)) is None:
        return False
    _record().write_text(json.dumps({"pid": pid, "started": started}))
    return True


def _send(sign: signal.Signals, pid: int) -> None:
    """Send a signal as root.  Raises `SetupError` where that is refused."""
    # Not kill(1): a minimal Debian has it only inside its shells.
    code = "import os, sys; os.kill(int(sys.argv[1]), int(sys.argv[2]))"
    done = attempt([*as_root(), sys.executable, "-c", code, str(pid), str(int(sign))])
    if done.returncode != 0 and process_start(pid) is not None:
        raise SetupError(f"dockerd was not stopped: {last_line(done)}", f"stop process {pid}")


def stop() -> None:
    """Stop the daemon that was started here; does nothing where there is none."""
    pid = ours()
    if pid is not None:
        say(f"Docker: stopping the daemon that set-up started (process {pid})")
        for sign, wait_s in ((signal.SIGTERM, STOP_WITHIN_S), (signal.SIGKILL, 5.0)):
            _send(sign, pid)
            until = time.monotonic() + wait_s
            while ours() is not None and time.monotonic() < until:
                time.sleep(0.1)
            if ours() is None:
                break
    _record().unlink(missing_ok=True)
