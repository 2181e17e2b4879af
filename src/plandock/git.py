"""The user's git, called so that it can run none of the user's (or an agent's) code.

Every call goes without hooks, file-system monitor, pager, prompts, background maintenance and
optional locks (`git status` would rewrite the index), and with ``GIT_*`` of the environment
dropped.  Output that carries names is asked for with ``-z``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from plandock import proc
from plandock.errors import RepositoryError

SAFE_OPTIONS: tuple[str, ...] = (
    "--no-optional-locks",
    "--no-pager",
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "core.fsmonitor=false"),
    *("-c", "core.untrackedCache=keep"),
    *("-c", "gc.auto=0"),
    *("-c", "maintenance.auto=false"),
    *("-c", "commit.gpgSign=false"),
    *("-c", "tag.gpgSign=false"),
    *("-c", "submodule.recurse=false"),
    *("-c", "fetch.recurseSubmodules=false"),
    *("-c", "core.sshCommand=false"),
    *("-c", "credential.helper="),
    *("-c", "diff.external="),
)


# The hook asks these questions, and Claude Code lets a call through after a minute (seconds).
_QUICK_S = 15.0


def git(
    directory: str | os.PathLike[str],
    *args: str,
    stdin: bytes | IO[bytes] | None = None,
    stdout: IO[bytes] | None = None,
    env: Mapping[str, str] | None = None,
    options: Sequence[str] = (),
    check: bool = True,
    timeout_s: float | None = 600.0,
) -> proc.Finished:
    """Run ``git -C directory <safe options> <options> args…`` and return what it said.

    ``env`` is laid over the cleaned environment.  Raises :class:`plandock.proc.ProcessFailed`.
    """
    extra = {"GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1"}
    extra.update(env or {})
    return proc.run(
        ["git", "-C", os.fspath(directory), *SAFE_OPTIONS, *options, *args],
        stdin=stdin,
        stdout=stdout,
        env=proc.clean_environment(extra),
        check=check,
        timeout_s=timeout_s,
    )


def line(directory: str | os.PathLike[str], *args: str) -> str:
    """The first line that a git call prints, without its newline."""
    return git(directory, *args).text.split("\n", 1)[0]


def names(output: bytes) -> list[str]:
    """The entries of NUL-separated output, undecodable bytes kept as surrogates."""
    return [x.decode("utf-8", "surrogateescape") for x in output.split(b"\0") if x]


def top_level(directory: str | os.PathLike[str]) -> Path:
    """The root of the work tree that ``directory`` lies in.

    Raises :class:`RepositoryError` when there is none (a bare repository included).
    """
    if not os.path.isdir(directory):
        raise RepositoryError(f"{os.fspath(directory)!r} is not a folder")
    found = git(directory, "rev-parse", "--show-toplevel", check=False, timeout_s=_QUICK_S)
    top = found.text.rstrip("\n")
    if not found.ok or not top:
        raise RepositoryError(
            f"{os.fspath(directory)!r} is not in a git work tree: {found.complaint}"
            if b"dubious" in found.stderr
            else f"{os.fspath(directory)!r} is not in a git repository",
            hint="run `git init` there and make a first commit",
        )
    return Path(top)


def head_commit(repo: str | os.PathLike[str]) -> str:
    """The commit that HEAD stands on; raises :class:`RepositoryError` when there is none yet."""
    words = ("rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    found = git(repo, *words, check=False, timeout_s=_QUICK_S)
    if not found.ok:
        raise RepositoryError(
            "the repository has no commit yet",
            hint="make a first commit: git commit --allow-empty -m start",
        )
    return found.text.strip()


def identity(repo: str | os.PathLike[str]) -> tuple[str, str]:
    """The user's name and e-mail for commits; raises :class:`RepositoryError` without one."""
    found = git(
        repo,
        "config",
        "-z",
        "--get-regexp",
        r"^user\.(name|email)$",
        check=False,
        timeout_s=_QUICK_S,
    )
    known = dict(entry.partition("\n")[::2] for entry in names(found.stdout))
    name, mail = known.get("user.name", "").strip(), known.get("user.email", "").strip()
    if not name or not mail:
        raise RepositoryError(
            "git does not know who you are",
            hint="git config --global user.name 'Your Name'; git config --global user.email you@…",
        )
    return name, mail


def check_there(repo: str | os.PathLike[str]) -> None:
    """Raise :class:`RepositoryError` where a run's repository was moved or removed since."""
    if os.path.isdir(repo):
        # A bare repository, which has linked work trees alone, is its own git folder.
        for asked in ("--show-toplevel", "--absolute-git-dir"):
            found = git(repo, "rev-parse", asked, check=False)
            if found.ok and os.path.realpath(found.text.rstrip("\n")) == os.path.realpath(repo):
                return
    raise RepositoryError(
        f"the repository {os.fspath(repo)} is not there any more",
        hint="put it back, then: plandock resume {run}",
    )


def branches(repo: str | os.PathLike[str]) -> set[str]:
    """The names of all local branches."""
    found = git(repo, "for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads")
    return {x for x in found.text.split("\n") if x}
