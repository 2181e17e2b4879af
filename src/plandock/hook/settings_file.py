"""Claude Code's settings files: where they are, and changing them in one step or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from plandock import paths, proc
from plandock.errors import SettingsError
from plandock.hook import wiring
from plandock.hook.json_text import parse
from plandock.hook.launcher import HOOKS, Hook, hooks
from plandock.settings.files import read_bounded

# "managed" is root's to write, and has a module of its own: `cli/managed.py`.
Scope = Literal["user", "project", "local", "managed"]
SCOPES: tuple[Scope, ...] = ("user", "project", "local")

_LARGEST = 8 << 20


@dataclass(frozen=True)
class Change:
    """What ``init`` or ``uninit`` did to one file; ``note`` is a word of advice, or empty."""

    path: Path
    changed: bool
    created: bool = False
    deleted: bool = False
    note: str = ""


@dataclass(frozen=True)
class Wired:
    """A file in which our hooks stand (or, with ``problem``, one that cannot be read).

    ``complete`` is false when some are missing or of another version; ``disabled`` is true when
    the file turns all hooks off (``disableAllHooks``).
    """

    scope: Scope
    path: Path
    complete: bool
    disabled: bool = False
    problem: str = ""


def settings_path(
    scope: Scope, *, config_dir: Path, repo: Path | None, folder: Path | None = None
) -> Path:
    """The settings file of a scope; raises :class:`SettingsError` without a repository.

    It lies in ``folder``, a folder of the repository (default: its top).
    """
    if scope == "user":
        return config_dir / "settings.json"
    if repo is None:
        raise SettingsError(
            f"--scope {scope} needs a repository", hint="go into one, or use --scope user"
        )
    name = "settings.json" if scope == "project" else "settings.local.json"
    path = (folder or repo) / ".claude" / name
    if os.path.realpath(path) == os.path.realpath(config_dir / "settings.json"):
        raise SettingsError(f"{path} is your user settings file", hint="use --scope user")
    return path


def init_scope(
    scope: Scope, *, config_dir: Path, repo: Path | None, folder: Path | None = None
) -> Change:
    """Put our hooks into the settings file of a scope.

    Raises :class:`SettingsError` naming the file (and line) when it cannot be read, edited or
    written; then nothing was changed.
    """
    path = settings_path(scope, config_dir=config_dir, repo=repo, folder=folder)
    target = _target(scope, path, repo)
    before, after = _edit(path, target, lambda text: wiring.merge(text, _hooks_of(scope)))
    note = _advice(path, repo) if scope == "local" and repo is not None else ""
    return Change(path, before != after, created=before is None, note=note)


def uninit_scope(
    scope: Scope, *, config_dir: Path, repo: Path | None, folder: Path | None = None
) -> Change:
    """Take our hooks out again; a file (and folder) that only held them is removed.

    Raises as :func:`init_scope`.
    """
    path = settings_path(scope, config_dir=config_dir, repo=repo, folder=folder)
    target = _target(scope, path, repo)
    before, after = _edit(path, target, lambda text: text if text is None else wiring.unmerge(text))
    if before is not None and after is None and scope != "user":
        try:
            path.parent.rmdir()
        except OSError:
            pass  # something else is in it, or it is a link: it stays
    return Change(path, before != after, deleted=before is not None and after is None)


def wired(config_dir: Path, repo: Path | None) -> list[Wired]:
    """Every scope whose file holds hooks of ours, or cannot be read; for ``doctor``.

    ``repo`` is the folder whose ``.claude`` is looked at.
    """
    found = []
    for scope in SCOPES if repo is not None else SCOPES[:1]:
        try:
            path = settings_path(scope, config_dir=config_dir, repo=repo)
        except SettingsError:
            continue  # the user's own, seen already
        found += wired_file(scope, path)
    return found


def wired_file(scope: Scope, path: Path) -> list[Wired]:
    """What one file of a scope holds of ours; [] where it holds nothing."""
    try:
        text = _read(path, path)
        if text is None or not text.strip("\ufeff \t\r\n"):
            return []
        wiring.check(text)
        disabled = bool(parse(text).get("disableAllHooks"))
        if not wiring.mentioned(text):
            return []
        return [Wired(scope, path, wiring.complete(text, _hooks_of(scope)), disabled)]
    except SettingsError as error:
        return [Wired(scope, path, complete=False, problem=error.message)]


def _hooks_of(scope: Scope) -> tuple[Hook, ...]:
    """A shared file's commands fit every machine; in one user's own the state folder is frozen."""
    return HOOKS if scope == "project" else hooks(paths.state_dir())


def _target(scope: Scope, path: Path, repo: Path | None) -> Path:
    """The file behind any links: dotfiles managers link the real one into place."""
    target = Path(os.path.realpath(path))
    if scope != "user" and repo is not None:
        # A repository could link its settings to any file of the user's.
        top = Path(os.path.realpath(repo))
        if top not in target.parents:
            raise SettingsError(
                f"{path} leads out of the repository, to {target}",
                hint="make it a plain file, or use --scope user",
            )
    return target


def _edit(
    path: Path, target: Path, change: Callable[[str | None], str | None]
) -> tuple[str | None, str | None]:
    """Apply ``change`` to the text; again when somebody else wrote the file meanwhile."""
    for _ in range(5):
        before = _read(path, target)
        try:
            after = change(before)
        except SettingsError as error:
            raise SettingsError(f"{path}, {error.message}", hint=error.hint) from None
        if after == before:
            return before, after
        try:
            if _written(target, before, after):
                return before, after
        except OSError as error:
            raise SettingsError(
                f"{path} cannot be written: {error.strerror}", hint="check who owns it and its mode"
            ) from None
    raise SettingsError(f"{path} keeps changing", hint="close Claude Code and try again")


def _read(path: Path, target: Path) -> str | None:
    data = read_bounded(target, most=_LARGEST, follow=True)
    try:
        return None if data is None else data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1 if data else 1
        raise SettingsError(f"{path}, line {line}: not UTF-8 text", hint="mend it first") from None


def _written(target: Path, before: str | None, after: str | None) -> bool:
    """Write in one step, keeping mode and owner; False when the file is not ``before`` any more."""
    if before is None:
        target.parent.mkdir(parents=True, exist_ok=True)
    elif not os.access(target, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        # Its folder may be writable all the same, and a rename would go over the user's wish.
        raise PermissionError(13, "it is read-only")
    if after is None:
        if _read(target, target) != before:
            return False
        target.unlink()
        return True
    handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            if before is None:
                umask = os.umask(0o077)
                os.umask(umask)
                os.fchmod(handle, 0o666 & ~umask)
            else:
                old = os.stat(target)
                if (old.st_uid, old.st_gid) != (os.fstat(handle).st_uid, os.fstat(handle).st_gid):
                    os.fchown(handle, old.st_uid, old.st_gid)
                os.fchmod(handle, old.st_mode & 0o7777)
            file.write(after.encode())
            file.flush()
            os.fsync(handle)
        if _read(target, target) != before:
            return False
        os.replace(temporary, target)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return True


def _advice(path: Path, repo: Path) -> str:
    """A note when git would take the personal settings file into a commit."""
    relative = str(path.relative_to(repo))
    argv = ["git", "-C", str(repo), "-c", "core.fsmonitor=false", "check-ignore", "-q", relative]
    try:
        asked = proc.run(argv, check=False, timeout_s=20)
    except proc.ProcessFailed:
        return ""
    if asked.returncode != 1:
        return ""
    return f"git does not ignore {relative}: keep it out of your commits, or add it to .gitignore"
