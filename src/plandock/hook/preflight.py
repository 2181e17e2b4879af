"""The quick look before a hand-off: can it start at all?  And why not, with the next step.

Only what can be told within a blink: the supervisor looks again, thoroughly.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from plandock import git, paths
from plandock.engines import quick
from plandock.errors import CredentialsError, EngineError, PlandockError, RepositoryError
from plandock.hook import caller


@dataclass(frozen=True)
class Ground:
    """What the hand-off stands on."""

    repo: Path
    base: str
    branches: frozenset[str]
    claude: str


# Variables that would have billed per token, had they been let into the box.
_PAYING = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "AWS_BEARER_TOKEN_BEDROCK")
_PROVIDER = "CLAUDE_CODE_USE_"


def look(
    cwd: str,
    *,
    engine: str,
    credentials: str,
    billing: str,
    environ: Mapping[str, str] | None = None,
) -> Ground:
    """Check repository, CLI, login and engine.

    ``environ`` is the environment as far as it is the user's word (default: all of it).  Raises
    the :class:`PlandockError` of the first that is missing.
    """
    environ = os.environ if environ is None else environ
    repo = git.top_level(cwd)
    if "\n" in str(repo):
        raise RepositoryError("the repository's path holds a line break", hint="rename the folder")
    base = git.head_commit(repo)
    git.identity(repo)
    claude = find_cli(environ)
    if billing != "api-key":
        _look_for_login(credentials, environ)
    why_not = quick.quick_check(engine)
    if why_not:
        absent = all(x.endswith("is not installed") for x in why_not.split(", and "))
        what = "install" if absent else "start"
        raise EngineError(why_not, hint=f"{what} it (`plandock doctor` looks closer)")
    return Ground(repo, base, frozenset(git.branches(repo)), claude)


def find_cli(environ: Mapping[str, str]) -> str:
    """The host's CLI binary; a hook's parent is one, which settles it where PATH does not."""
    named = environ.get("PLANDOCK_CLAUDE", "")
    if named:
        if os.path.isfile(named) and os.access(named, os.X_OK):
            return os.path.abspath(named)
        raise PlandockError(
            f"PLANDOCK_CLAUDE names {named!r}, which cannot be run",
            hint="name the claude program in it, or unset it",
        )
    parent = _program_of(caller.child_of())
    if parent and os.access(parent, os.X_OK):
        return parent
    home = paths.home()
    found = shutil.which("claude") or next(
        (str(p) for p in (home / x for x in _USUAL) if os.access(p, os.X_OK)), parent
    )
    if not found:
        raise PlandockError(
            "the claude command was not found",
            hint="put it on PATH, or name it in PLANDOCK_CLAUDE",
        )
    return found


_USUAL = (".local/bin/claude", ".claude/local/claude")


def _program_of(pid: int) -> str:
    """The program of a process where that is Claude Code, else "".

    An update, or its removal, takes the file away under the running process: the path is what
    counts then, and whatever lies there by now is asked for its version later.
    """
    try:
        program = os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)")
    except OSError:
        return ""
    # npm's package names it `claude.exe` on every system.
    is_cli = os.path.basename(program) in ("claude", "claude.exe") or "/claude/versions/" in program
    return program if is_cli else ""


def _look_for_login(credentials: str, environ: Mapping[str, str]) -> None:
    if sys.platform == "darwin" or environ.get("PLANDOCK_SECURITY") or credentials == "box":
        # The Keychain may have to ask the user, a login in a volume takes a container to be seen:
        return  # the supervisor's business
    token = (paths.config_dir() / "setup-token").is_file()
    login = (paths.claude_config_dir() / ".credentials.json").is_file()
    if not ((token and credentials != "host") or (login and credentials != "token")):
        raise CredentialsError(
            "no Claude login was found",
            hint="log in with: claude, then /login (Pro or Max) — or store a token of "
            "`claude setup-token` with: plandock login --token",
        )


def kept_out(environ: Mapping[str, str]) -> list[str]:
    """Names of variables of this environment that would bill per token; they stay outside."""
    return sorted(n for n, v in environ.items() if v and (n in _PAYING or n.startswith(_PROVIDER)))
