"""A login kept in an engine's volume, placed there the way the CLI writes it; made up."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from plandock.box import keeper

BOX_ACCESS = "sk-ant-oat01-" + "boxs-own-access-token-" * 3
BOX_REFRESH = "sk-ant-ort01-" + "boxs-own-refresh-token-" * 3


@contextmanager
def to_itself(engine: str) -> Iterator[None]:
    """Have the one login volume of an engine for a test alone: other workers' tests wait.

    Fails where a login lies there already: it may be a developer's own.
    """
    lock = Path(tempfile.gettempdir()) / f"plandock-test-login-{os.getuid()}-{engine}.lock"
    with open(lock, "a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        words = [engine, "volume", "ls", "-q", "--filter", f"name={keeper.VOLUME}"]
        found = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
        if keeper.VOLUME in found:
            again = f"{engine} volume rm {keeper.VOLUME}"
            pytest.fail(f"{engine} has a volume {keeper.VOLUME}. If it is a test's: {again}")
        yield


def place(
    engine: str,
    image: str,
    *,
    expires_in_s: float = 8 * 3600.0,
    access: str = BOX_ACCESS,
    refresh: str = BOX_REFRESH,
) -> None:
    """Put a made-up login with a refresh token into the volume `plandock-login`."""
    login = {
        "accessToken": access,
        "refreshToken": refresh,
        "expiresAt": int((time.time() + expires_in_s) * 1000),
        "scopes": ["user:inference", "user:profile"],
        "subscriptionType": "max",
    }
    create = ["volume", "create", "--label", f"{keeper.LABEL}=1", keeper.VOLUME]
    subprocess.run([engine, *create], check=True, capture_output=True)
    script = (
        f"chown 1000:1000 {keeper.FOLDER}; umask 077; cat > {keeper.FILE}; "
        f"chown 1000:1000 {keeper.FILE}"
    )
    mount = f"type=volume,src={keeper.VOLUME},dst={keeper.FOLDER}"
    words = ["run", "--rm", "-i", "--network", "none", "--user", "0:0", "--mount", mount]
    # Podman's own defaults may be above what this process can give (shared facts, section 8).
    words += ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]
    subprocess.run(
        [engine, *words, "--entrypoint", "/bin/sh", image, "-c", script],
        input=json.dumps({"claudeAiOauth": login}).encode(),
        check=True,
        capture_output=True,
    )


def remains(engine: str) -> list[str]:
    """Containers and volumes of sign-ins and renewals that are still there, the login aside."""
    found = []
    for words in (["ps", "-aq"], ["volume", "ls", "-q"]):
        argv = [engine, *words, "--filter", f"label={keeper.LABEL}"]
        done = subprocess.run(argv, capture_output=True, text=True, check=True)
        found += [name for name in done.stdout.split() if name != keeper.VOLUME]
    return found
