"""Running commands for the set-up: bounded, quiet unless they fail, as root where needed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""Where Debian keeps daemons and iptables; an ordinary user's PATH may lack them."""


class SetupError(Exception):
    """Set-up cannot go on; the message is one line, `hint` the next step for the user."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def say(line: str) -> None:
    """Print one line of progress."""
    print(f"setup: {line}", file=sys.stderr, flush=True)


def path_with_system_folders() -> str:
    """PATH, with the folders of system programs at its end."""
    parts = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join([*parts, *(x for x in SYSTEM_FOLDERS if x not in parts)])


def have(program: str) -> bool:
    """Whether the program is installed, be it in a folder for system programs."""
    return shutil.which(program, path=path_with_system_folders()) is not None


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of every command here: this one, messages in the C locale."""
    return {**os.environ, "PATH": path_with_system_folders(), "LC_ALL": "C", **(extra or {})}


def attempt(
    argv: Sequence[str | Path], *, timeout_s: float = 60, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command whose failure is an answer; a timeout or a missing program is one, too."""
    vector = [str(x) for x in argv]
    try:
        return subprocess.run(
            vector,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            cwd=cwd,
            env=environment(),
            check=False,
        )
    except subprocess.TimeoutExpired:
        complaint = f"no answer within {timeout_s:.0f} s"
    except OSError as error:
        complaint = str(error)
    return subprocess.CompletedProcess(vector, 127, "", complaint)


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    """The last line of what a failed command had to say."""
    lines = (done.stderr or done.stdout or "").strip().splitlines()
    return lines[-1].strip()[:300] if lines else f"exit code {done.returncode}"


def require(
    argv: Sequence[str | Path], *, hint: str, timeout_s: float = 600, cwd: Path | None = None
) -> str:
    """Run a command that has to work; its standard output.  Raises `SetupError`."""
    done = attempt(argv, timeout_s=timeout_s, cwd=cwd)
    if done.returncode != 0:
        raise SetupError(f"`{' '.join(map(str, argv[:3]))}` failed: {last_line(done)}", hint)
    return done.stdout


def as_root() -> list[str]:
    """What to put in front of a command that needs root: nothing, or sudo.

    Raises `SetupError` where neither works.  A sudo that asks for a password may do so only on
    a terminal: without one it would wait for ever.
    """
    if os.geteuid() == 0:
        return []
    if have("sudo"):
        if attempt(["sudo", "-n", "true"]).returncode == 0:
            return ["sudo", "-n"]
        if sys.stdin.isatty() and subprocess.run(["sudo", "-v"], check=False).returncode == 0:
            return ["sudo", "-n"]
    raise SetupError(
        "something has to be installed or started, which needs root",
        "run as root, or as a user with sudo",
    )


def apt_install(packages: Sequence[str], why: str) -> None:
    """Install Debian packages with the sources this machine has.  Raises `SetupError`."""
    names = " ".join(packages)
    if not have("apt-get"):
        raise SetupError(f"{why}: missing, and there is no apt here", f"install {names} yourself")
    prefix = [*as_root(), "env", "DEBIAN_FRONTEND=noninteractive"]
    hint = f"install {names} yourself, then run this again"
    say(f"{why}: installing {names} (apt)")
    # Stale package lists are harmless when the packages can be had; the install has the last word.
    attempt([*prefix, "apt-get", "-q", "update"], timeout_s=300)
    install = ["apt-get", "-qy", "install", "--no-install-recommends", *packages]
    require([*prefix, *install], hint=hint, timeout_s=1200)
