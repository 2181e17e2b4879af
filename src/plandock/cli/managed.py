"""`init --scope managed`: our hooks in managed settings, which no repository can turn off.

Claude Code reads every file of ``managed-settings.d`` beside ``managed-settings.json`` (measured,
2.1.197 and 2.1.332), so each user gets a file of their own there and nothing else is edited.  Its
commands do nothing for anybody else: the first thing they test is who owns the user's home folder.
That folder's name stands in a folder of root's, so unlike the state folder below it, nobody can
put another one in its place and have root, or another user, run their launcher.
"""

from __future__ import annotations

import os
import pwd
import shlex
import stat
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from plandock import paths
from plandock.claude import jsonfile
from plandock.errors import PlandockError, SettingsError
from plandock.hook import mods, wiring
from plandock.hook.launcher import Hook, hooks
from plandock.hook.settings_file import Change, Wired


@dataclass(frozen=True)
class Owner:
    """The user whose plans are handed off: by sudo, the one who called it."""

    uid: int
    name: str
    home: Path  # as the password database has it, whatever the environment says
    state: Path

    @property
    def file(self) -> Path:
        """This user's file of managed settings."""
        return mods.managed_file(self.uid)

    @property
    def launcher(self) -> Path:
        """What the commands call."""
        return self.state / "hook"


def owner(environ: Mapping[str, str]) -> Owner:
    """Whose managed settings these are; raises :class:`PlandockError` for an unknown user."""
    uid, called_by = os.geteuid(), environ.get("SUDO_UID", "")
    by_sudo = uid == 0 and called_by.isascii() and called_by.isdecimal() and int(called_by) != 0
    try:
        entry = pwd.getpwuid(int(called_by) if by_sudo else uid)
    except (KeyError, OverflowError):
        raise PlandockError(
            "the user is not in the password database", hint="plandock init --scope user"
        ) from None
    home = Path(entry.pw_dir)
    # sudo passes no variable on that says otherwise, and root's own do not count for another.
    state = home / ".local" / "state" / "plandock" if by_sudo else paths.state_dir()
    return Owner(entry.pw_uid, entry.pw_name, home, state)


def hooks_of(who: Owner) -> tuple[Hook, ...]:
    """Our hooks, for this user alone.  Raises :class:`PlandockError` where that is not safe."""
    for path in (who.home, who.state):
        if not (str(path).startswith("/") and str(path).isprintable()):
            raise PlandockError(
                f"{path} is no plain path of a folder", hint="plandock init --scope user"
            )
    ours = f"[ -O {shlex.quote(str(who.home))} ] || exit 0; "
    return tuple(replace(hook, command=ours + hook.command) for hook in hooks(who.state))


def init(who: Owner) -> Change:
    """Write this user's file (0644, root's), in one step; raises :class:`PlandockError`."""
    _need_root(who, "init")
    _check_home(who)
    wanted = hooks_of(who)
    before = _read(who.file)
    try:
        after = wiring.merge(before, wanted)
    except SettingsError as error:
        raise SettingsError(f"{who.file}, {error.message}", hint=error.hint) from None
    if after != before or not _is_safe(who.file):
        _write(who.file, after)
        return Change(who.file, True, created=before is None)
    return Change(who.file, False)


def uninit(who: Owner) -> Change:
    """Take this user's file away again, and folders that it leaves empty."""
    _need_root(who, "uninit")
    before = _read(who.file)
    if before is None:
        return Change(who.file, False)
    try:
        after = wiring.unmerge(before)
    except SettingsError as error:
        raise SettingsError(f"{who.file}, {error.message}", hint=error.hint) from None
    if after is not None:
        if after != before:
            _write(who.file, after)
        return Change(who.file, after != before)
    try:
        who.file.unlink()
    except OSError as error:
        _cannot(who.file, error)
    for folder in (who.file.parent, who.file.parent.parent):
        try:
            folder.rmdir()
        except OSError:
            break  # something else is in it
    return Change(who.file, True, deleted=True)


def wired(environ: Mapping[str, str]) -> list[Wired]:
    """This user's managed file, if there is one; for `doctor` and `uninit`."""
    try:
        who = owner(environ)
    except PlandockError:
        return []  # nobody could have written one
    try:
        text = _read(who.file)
        if text is None:
            return []
        try:
            wiring.check(text)
        except SettingsError as error:
            return [Wired("managed", who.file, complete=False, problem=f"{who.file}, {error}")]
        complete = wiring.complete(text, hooks_of(who)) and _is_safe(who.file)
        return [Wired("managed", who.file, complete)] if wiring.mentioned(text) else []
    except PlandockError as error:
        return [Wired("managed", mods.managed_dir(), complete=False, problem=error.message)]


def _need_root(who: Owner, verb: str) -> None:
    if os.geteuid() == 0:
        return
    first = "" if who.launcher.exists() or verb != "init" else "plandock init; "
    program = Path(sys.argv[0])
    named = program.is_file() and os.access(program, os.X_OK)
    words = [str(program.resolve())] if named else [sys.executable, "-m", "plandock"]
    raise PlandockError(
        f"{who.file} belongs to root: --scope managed needs root's rights",
        hint=f"{first}sudo {shlex.join(words)} {verb} --scope managed",
    )


def _check_home(who: Owner) -> None:
    """What the commands' first test relies on; for another user the launcher must be there, too."""
    try:
        home, above = os.stat(who.home), os.stat(os.path.realpath(who.home.parent))
    except OSError as error:
        raise PlandockError(
            f"{who.home}, the home folder of {who.name}: {error.strerror}",
            hint="plandock init --scope user",
        ) from None
    shared = above.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not above.st_mode & stat.S_ISVTX
    if home.st_uid != who.uid or (who.uid and (above.st_uid == who.uid or shared)):
        raise PlandockError(
            f"{who.home} is not safely the home folder of {who.name}: somebody else owns it, or "
            "it can be replaced",
            hint="plandock init --scope user",
        )
    if who.uid != os.geteuid():
        try:
            there = os.lstat(who.launcher)
        except OSError:
            there = None
        if there is None or not stat.S_ISREG(there.st_mode) or there.st_uid != who.uid:
            raise PlandockError(
                f"{who.name} has no launcher of plandock at {who.launcher}",
                hint=f"plandock init (as {who.name}), then this command again",
            )


def _read(file: Path) -> str | None:
    try:
        opened = jsonfile.read_bytes(file)
        return None if opened is None else opened.data.decode()
    except jsonfile.Unreadable as error:
        raise PlandockError(f"{file} {error}", hint="look at who wrote it, and mend it") from None
    except UnicodeDecodeError:
        raise PlandockError(f"{file} is not UTF-8 text", hint="mend it first") from None


def _is_safe(file: Path) -> bool:
    """Whether everybody may read the file, and root alone write it."""
    try:
        found = os.stat(file)
    except OSError:
        return False
    return found.st_uid == 0 and stat.S_IMODE(found.st_mode) == 0o644


def _write(file: Path, text: str) -> None:
    try:
        for folder in (file.parent.parent, file.parent):
            if not folder.is_dir():
                folder.mkdir(parents=True)
                folder.chmod(0o755)
        # A name that does not end in .json: Claude Code must not read half of it.
        handle, temporary = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
        try:
            with os.fdopen(handle, "wb") as out:
                os.fchmod(handle, 0o644)
                out.write(text.encode())
                out.flush()
                os.fsync(handle)
            os.replace(temporary, file)
        finally:
            Path(temporary).unlink(missing_ok=True)
    except OSError as error:
        _cannot(file, error)


def _cannot(file: Path, error: OSError) -> NoReturn:
    raise PlandockError(
        f"{file} cannot be written: {error.strerror}", hint="check who owns it and its mode"
    ) from error
