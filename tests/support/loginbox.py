"""A login kept in an engine's volume, placed there the way the CLI writes it; made up.

Each laptop names a volume of its own for it, so the user's own login is neither read nor touched.
"""

from __future__ import annotations

import json
import subprocess
import time

from plandock.box import keeper
from tests.support.laptop import Laptop
from tests.support.machine import container_words

BOX_ACCESS = "sk-ant-oat01-" + "boxs-own-access-token-" * 3
BOX_REFRESH = "sk-ant-ort01-" + "boxs-own-refresh-token-" * 3


def volume_of(laptop: Laptop) -> str:
    """The name of the volume in which this laptop's user keeps a login."""
    return laptop.env["PLANDOCK_LOGIN_VOLUME"]


def place(
    laptop: Laptop,
    image: str,
    *,
    expires_in_s: float = 8 * 3600.0,
    access: str = BOX_ACCESS,
    refresh: str = BOX_REFRESH,
) -> None:
    """Put a made-up login with a refresh token into the laptop's volume."""
    login = {
        "accessToken": access,
        "refreshToken": refresh,
        "expiresAt": int((time.time() + expires_in_s) * 1000),
        "scopes": ["user:inference", "user:profile"],
        "subscriptionType": "max",
    }
    volume = volume_of(laptop)
    create = ["volume", "create", "--label", f"{keeper.LABEL}=1"]
    create += ["--label", f"{keeper.OWNER}={volume}", volume]
    subprocess.run([laptop.engine, *create], check=True, capture_output=True)
    script = (
        f"chown 1000:1000 {keeper.FOLDER}; umask 077; cat > {keeper.FILE}; "
        f"chown 1000:1000 {keeper.FILE}"
    )
    words = container_words(laptop.engine, "run", "--rm", "-i", "--user", "0:0")
    words += ["--mount", f"type=volume,src={volume},dst={keeper.FOLDER}"]
    subprocess.run(
        [*words, "--entrypoint", "/bin/sh", image, "-c", script],
        input=json.dumps({"claudeAiOauth": login}).encode(),
        check=True,
        capture_output=True,
    )


def remains(laptop: Laptop) -> list[str]:
    """Containers and volumes of the laptop's sign-ins and renewals that are there, its login
    aside."""
    volume = volume_of(laptop)
    found = []
    for words in (["ps", "-aq"], ["volume", "ls", "-q"]):
        argv = [laptop.engine, *words, "--filter", f"label={keeper.OWNER}={volume}"]
        done = subprocess.run(argv, capture_output=True, text=True, check=True)
        found += [name for name in done.stdout.split() if name != volume]
    return found
