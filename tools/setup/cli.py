"""The real Claude Code CLI in two versions, from npm as this machine has it configured.

The native binary of the platform's package is unpacked into the set-up folder; nothing is
installed on the machine but npm itself, and no Node is needed to run it.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from tools.setup.commands import SetupError, apt_install, attempt, have, last_line, require, say
from tools.setup.folder import record_env, setup_dir

PACKAGE = "@anthropic-ai/claude-code"
OLDER = "2.1.197"
"""The older of the two versions that the facts about the CLI were measured with."""
ASK_AGAIN_AFTER_S = 24 * 3600
NPM_HINT = "see whether `npm ping` works; the CLI comes from npm"


def ensure() -> None:
    """Unpack both versions where they are missing and record where they are."""
    newest = _newest()
    record_env(
        {
            f"PLANDOCK_TEST_CLI_{OLDER.replace('.', '_')}": str(_unpacked(OLDER)),
            "PLANDOCK_TEST_CLI_NEWEST": str(_unpacked(newest)),
            "PLANDOCK_TEST_CLI_NEWEST_VERSION": newest,
        }
    )
    say(f"Claude Code CLI: {OLDER} and {newest}")


def _folder() -> Path:
    folder = setup_dir() / "cli"
    folder.mkdir(exist_ok=True)
    return folder


def _newest() -> str:
    """The newest version; asked once a day, and what was known last where npm does not answer."""
    note = _folder() / "newest.json"
    known = json.loads(note.read_text()) if note.exists() else None
    if known and time.time() - known["asked"] < ASK_AGAIN_AFTER_S:
        return str(known["version"])
    _need_npm()
    told = attempt(["npm", "view", PACKAGE, "version"], timeout_s=60)
    version = told.stdout.strip()
    if told.returncode != 0 or not version:
        if known:
            say(f"npm does not answer; staying with {known['version']}")
            return str(known["version"])
        raise SetupError(f"npm does not know {PACKAGE}: {last_line(told)}", NPM_HINT)
    note.write_text(json.dumps({"version": version, "asked": time.time()}))
    return version


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


def _unpacked(version: str) -> Path:
    """The binary of one version, fetched when it is not there.  npm checks its integrity."""
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
