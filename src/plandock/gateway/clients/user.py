"""The user's own package clients: how they are asked, and how their files are read.

Never in the repository's folder and never with its variables: a repository's `.npmrc`, or the
`env` block of its `.claude/settings.json`, would choose for itself which hosts the box may reach.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from plandock import proc
from plandock.errors import SettingsError
from plandock.settings.files import read_bounded

_ANSWER_S = 60.0
_MOST = 1 << 20


@dataclass(frozen=True)
class User:
    """Whose clients are read; ``environ`` holds the user's own variables alone."""

    environ: Mapping[str, str]

    @property
    def home(self) -> Path:
        """The user's home folder."""
        named = self.environ.get("HOME", "")
        return Path(named if named.startswith("/") else pwd.getpwuid(os.getuid()).pw_dir)

    def config_home(self) -> Path:
        """``$XDG_CONFIG_HOME``, by default ``~/.config``."""
        named = self.environ.get("XDG_CONFIG_HOME", "")
        return Path(named) if named.startswith("/") else self.home / ".config"

    def ask(self, *argv: str, env: Mapping[str, str] | None = None) -> str | None:
        """What a client says, run in the home folder; ``None`` where it is missing or fails."""
        cleaned = proc.clean_environment()
        own = {n: cleaned[n] for n in cleaned if n in self.environ}
        own |= {"HOME": str(self.home), "PATH": self.environ.get("PATH", os.defpath), "LC_ALL": "C"}
        try:
            done = proc.run(argv, cwd=self.home, env={**own, **(env or {})}, timeout_s=_ANSWER_S)
        except proc.ProcessFailed:
            return None
        return done.stdout[:_MOST].decode("utf-8", "replace")

    def text(self, path: str | os.PathLike[str]) -> str:
        """A file's text; empty where there is none, or nothing that can be read as such."""
        try:
            data = read_bounded(Path(path), most=_MOST, follow=True)
        except (SettingsError, ValueError):
            return ""
        return (data or b"").decode("utf-8", "replace")
