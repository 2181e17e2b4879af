"""How this machine's own package clients are set up, for a laptop with a throwaway home.

Read at run time, and of the settings that name registries and certificates alone: no login goes
along, and no name of a host stands in the tests.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import subprocess
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

CERTIFICATES = ("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def configure(home: Path) -> dict[str, str]:
    """Write what the real clients are set up with into ``home``; the variables that go with it."""
    said = json.loads(_ask("npm", "config", "list", "--json") or "{}")
    lines = [
        f"{key}={_without_login(value)}"
        for key, value in said.items()
        if isinstance(value, str)
        if key in ("registry", "cafile") or key.endswith(":registry")
    ]
    (home / ".npmrc").write_text("\n".join(lines) + "\n")
    kept = []
    for line in (_ask("pip", "config", "list") or "").splitlines():
        found = re.fullmatch(r"(?:global|install|:env:)\.(index-url|cert)='(.*)'", line)
        if found:
            kept.append(f"{found[1]} = {_without_login(found[2])}")
    (home / ".config/pip").mkdir(parents=True, exist_ok=True)
    text = "[global]\n" + "\n".join(dict.fromkeys(kept)) + "\n"
    (home / ".config/pip/pip.conf").write_text(text)
    return {name: os.environ[name] for name in CERTIFICATES if os.environ.get(name)}


def _ask(*argv: str) -> str | None:
    """What a client says in the real home folder, which the fixtures have taken from HOME."""
    real = pwd.getpwuid(os.getuid()).pw_dir
    try:
        done = subprocess.run(
            argv,
            cwd=real,
            env={n: v for n, v in os.environ.items() if not n.startswith("XDG_")} | {"HOME": real},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None


def _without_login(address: str) -> str:
    parts = urlsplit(address)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def put(home: Path, name: str, text: str) -> None:
    """Write a file of a home folder."""
    path = home / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
