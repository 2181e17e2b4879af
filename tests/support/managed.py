"""A machine of a test's own as far as managed settings go: a copy of /etc, seen by what it starts.

There is no variable that moves `/etc/claude-code`, and another test's CLI must not read it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support import product
from tests.support.laptop import Laptop
from tests.support.machine import as_root

SCRIPT = 'mount --bind "$1" /etc && shift && exec "$@"'


class OwnEtc:
    """A folder in place of /etc, in a mount namespace of each command's own."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "etc"
        shutil.copytree("/etc", self.folder, symlinks=True, ignore_dangling_symlinks=True)
        self.managed = self.folder / "claude-code"

    def argv(self, *words: str | Path) -> list[str]:
        """The command that runs these words there."""
        front = [*as_root(), "unshare", "--mount", "sh", "-c", SCRIPT, "sh", str(self.folder)]
        return [*front, *map(str, words)]

    def plandock(
        self, laptop: Laptop, *words: str, env: Mapping[str, str] | None = None, user: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run the product there, as root or as this user."""
        own = ["setpriv", f"--reuid={user}", "--clear-groups"] if user else []
        return subprocess.run(
            self.argv(*own, *product.argv(*words)), cwd=laptop.repo.root, capture_output=True,
            env={**laptop.env, **(env or {})}, text=True, timeout=300, check=False,
        )  # fmt: skip

    def doctor(self, laptop: Laptop) -> list[dict[str, Any]]:
        """What `doctor` finds about hooks and the repository there."""
        done = self.plandock(laptop, "doctor", "--json")
        rows: list[dict[str, Any]] = json.loads(done.stdout)
        return [row for row in rows if row["check"] in ("hooks", "repository")]


def add_mod(place: Path, *events: str, name: str = "helper") -> Path:
    """Three files of a mod that answers these events with nothing, in a `.claude` folder."""
    folder = place / "skills" / name
    (folder / ".claude-plugin").mkdir(parents=True)
    (folder / "hooks").mkdir()
    manifest = {"name": name, "version": "1.0.0", "description": "Helps."}
    (folder / ".claude-plugin/plugin.json").write_text(json.dumps(manifest))
    (folder / "hooks/hooks.json").write_text('{"modules": ["./register.ts"]}')
    handlers = "".join(f"  on('{event}', () => ({{}}));\n" for event in events)
    (folder / "hooks/register.ts").write_text(f"export function register(on) {{\n{handlers}}}\n")
    return folder
