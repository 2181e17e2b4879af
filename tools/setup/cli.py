"""The real Claude Code CLI at both ends of the tested range, from npm as this machine has it.

The native binary of the platform's package is unpacked into the set-up folder; nothing is
installed on the machine but npm itself, and no Node is needed to run it.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

from plandock.claude.binary import TESTED
from tools.setup.commands import SetupError, apt_install, attempt, have, last_line, require, say
from tools.setup.folder import record_env, setup_dir

PACKAGE = "@anthropic-ai/claude-code"
NPM_HINT = "see whether `npm ping` works; the CLI comes from npm"


def ensure() -> None:
    """Unpack both versions where they are missing and record where they are.

    What npm calls the newest plays no part: a release of the CLI must not change what a test of
    this commit says.  `make cli-matrix` looks at it.
    """
    older, newest = TESTED
    record_env(
        {
            f"PLANDOCK_TEST_CLI_{older.replace('.', '_')}": str(fetch(older)),
            "PLANDOCK_TEST_CLI_NEWEST": str(fetch(newest)),
            "PLANDOCK_TEST_CLI_NEWEST_VERSION": newest,
        }
    )
    say(f"Claude Code CLI: {older} and {newest}")


def newest() -> str:
    """The newest version that npm has; raises :class:`SetupError`."""
    _need_npm()
    told = attempt(["npm", "view", PACKAGE, "version"], timeout_s=60)
    version = told.stdout.strip()
    if told.returncode != 0 or not version:
        raise SetupError(f"npm does not know {PACKAGE}: {last_line(told)}", NPM_HINT)
    return version


def _folder() -> Path:
    folder = setup_dir() / "cli"
    folder.mkdir(exist_ok=True)
    return folder


def _platform_package() -> str:
    system = {"linux": "linux", "darwin": "darwin"}.get(sys.platform)
    machine = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}.get(
        platform.machine().lower()
    )
    if not system or not machine:
        raise SetupError(
            f"no Claude Code CLI for {sys.platform} on {platform.machine()}",
            "use Linux or macOS on x64 or arm64",
        )
    return f"{PACKAGE}-{system}-{machine}"


def _need_npm() -> None:
    if not have("npm"):
        apt_install(["npm"], "npm")


def fetch(version: str) -> Path:
    """The binary of one version, fetched when it is not there.  npm checks its integrity.

    Raises :class:`SetupError` with the next step.
    """
    binary = _folder() / version / "claude"
    if binary.exists():
        return binary
    _need_npm()
    spec = f"{_platform_package()}@{version}"
    say(f"fetching {spec} (npm)")
    with tempfile.TemporaryDirectory(dir=_folder()) as scratch:
        # npm names the archive itself and prints the name in a form that differs by version.
        argv = ["npm", "pack", "--silent", "--pack-destination", scratch, spec]
        require(argv, hint=NPM_HINT, cwd=Path(scratch))
        (archive,) = Path(scratch).glob("*.tgz")
        draft = Path(scratch, version)
        draft.mkdir()
        with tarfile.open(archive) as packed:
            member = packed.extractfile("package/claude")
            assert member is not None, "package/claude is a regular file"
            with member, (draft / "claude").open("wb") as output:
                shutil.copyfileobj(member, output, 1 << 20)
        (draft / "claude").chmod(0o755)
        _says_its_version(draft / "claude", version)
        os.rename(draft, binary.parent)
    return binary


def _says_its_version(binary: Path, version: str) -> None:
    """Start the binary once, with nothing of this user's: does it run here at all?"""
    with tempfile.TemporaryDirectory() as home:
        bare = [f"HOME={home}", f"PATH={os.defpath}", "DISABLE_AUTOUPDATER=1"]
        bare.append("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1")
        told = attempt(["env", "-i", *bare, binary, "--version"])
    if told.returncode != 0 or version not in told.stdout:
        raise SetupError(
            f"Claude Code {version} does not start here: {last_line(told)}",
            "run it by hand; it needs a recent glibc or macOS",
        )
