"""Throwaway git repositories: real git, an identity of their own, nothing of the user's."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.journal import note

NAME, EMAIL = "Ada Lovelace", "ada@example.invalid"

SAMPLE_FILES: Mapping[str, str] = {
    "README.md": "# Sample\n\nA small project.\n",
    ".gitignore": "*.log\n/build/\n",
    "src/greeting.py": 'def greet(name: str) -> str:\n    return f"Hello, {name}"\n',
}


def write_git_config(home: Path) -> Path:
    """A global git configuration with an identity, for `GIT_CONFIG_GLOBAL`."""
    path = home / ".gitconfig"
    path.write_text(
        f"[user]\n\tname = {NAME}\n\temail = {EMAIL}\n"
        "[init]\n\tdefaultBranch = main\n[commit]\n\tgpgSign = false\n"
        # So that a commit starts no second process.
        "[maintenance]\n\tauto = false\n"
    )
    return path


@dataclass(frozen=True)
class Repository:
    """A repository with a work tree at `root`."""

    root: Path

    def git(self, *arguments: str) -> str:
        """Run git here; what it prints, without the line end.  Raises when git complains."""
        done = subprocess.run(
            ["git", "-C", str(self.root), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            env={**os.environ, "LC_ALL": "C"},
            check=False,
        )
        assert done.returncode == 0, f"git {' '.join(arguments)}: {done.stderr.strip()}"
        return done.stdout.rstrip("\n")

    def write(self, files: Mapping[str, str | bytes]) -> None:
        """Write files into the work tree, folders included."""
        for name, content in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)

    def commit(self, files: Mapping[str, str | bytes] | None = None, message: str = "Work") -> str:
        """Write files, commit everything; the commit's id."""
        self.write(files or {})
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.head()

    def head(self) -> str:
        """The id of the commit that is checked out."""
        return self.git("rev-parse", "HEAD")


def make_repository(root: Path, files: Mapping[str, str | bytes] = SAMPLE_FILES) -> Repository:
    """A new repository at `root` whose first commit holds `files`; empty means no commit.

    Git makes the first of its kind in this process.  The others are copies of it.
    """
    note("repository", root)
    root.mkdir(parents=True)
    made = Repository(root)
    key = (tuple(sorted(files.items())), _configuration())
    if key in _copies:
        for name, content, mode in _copies[key]:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is not None:
                path.write_bytes(content)
            else:
                path.mkdir(exist_ok=True)
            path.chmod(mode)
        # The index tells a file by its time and number.
        made.git("update-index", "-q", "--refresh")
        return made
    made.git("init", "--quiet")
    if files:
        made.commit(files, "First")
    _copies[key] = [
        (str(path.relative_to(root)), path.read_bytes() if path.is_file() else None, mode)
        for path in sorted(root.rglob("*"))
        for mode in (path.stat().st_mode & 0o777,)
    ]
    return made


_copies: dict[object, list[tuple[str, bytes | None, int]]] = {}


def _configuration() -> object:
    """What git goes by here: the user's configuration and the variables of the environment."""
    path = Path(os.environ.get("GIT_CONFIG_GLOBAL", ""))
    variables = {k: v for k, v in os.environ.items() if k.startswith("GIT_")}
    variables.pop("GIT_CONFIG_GLOBAL", None)
    return (path.read_bytes() if path.is_file() else None, tuple(sorted(variables.items())))
