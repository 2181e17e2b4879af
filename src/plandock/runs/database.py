"""The file below the store: opened, migrated, and mended where it is damaged.

A damaged database, or one that a newer plandock has written, is moved aside whole, and a new one
is filled from the runs' folders.  Whoever writes or opens holds a shared lock on a file beside it,
and whoever moves it aside an exclusive one; a process that had the old one open sees by the file's
number that it was replaced, and opens the new one.  Standard library only: the hook imports this.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import quote

from plandock.errors import Busy, StoreError

# Primary result codes (sqlite.org/rescode.html).
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_NOT_WRITABLE = frozenset(
    {
        sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
    }
)  # fmt: skip
_NOT_WRITABLE_FILES = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT}
)
# How long a writer waits for the others (seconds).
_PATIENCE_S = 20.0
_WAL_FILES = ("-wal", "-shm")

Migrations = Sequence[tuple[str, str]]
Fill = Callable[[sqlite3.Connection], None]


class Unfit(StoreError):
    """The database is damaged, or too new for this plandock; ``kind`` says which."""

    def __init__(self, kind: str, path: str) -> None:
        words = "is damaged" if kind == "damaged" else "was written by a newer plandock"
        super().__init__(f"the store of runs {words}", hint=f"`plandock recover` mends {path}")
        self.kind = kind


class StoreBusy(StoreError):
    """Another process has held the store for longer than one waits."""

    exit_code = Busy.exit_code


class FolderGone(StoreError):
    """The state folder was taken away under an open store."""


class Database:
    """One connection; every call sees the file that is at ``path`` now."""

    def __init__(self, path: str, migrations: Migrations, fill: Fill, *, mend: bool = True) -> None:
        """Open and where needed create it; ``fill`` is called, once, inside a new one.

        Without ``mend`` an unfit one raises :class:`Unfit` and is left as it is.  Raises
        :class:`StoreError`.
        """
        self.path = path
        self.cannot_write = ""  # why not, where it could be opened for reading alone
        self._migrations, self._fill, self._mend = migrations, fill, mend
        self._inside = False
        self._file = (0, 0)
        self._guard = -1
        try:
            self._connection = self._open()
        except BaseException:
            self._let_go()
            raise

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
        self._let_go()

    def _let_go(self) -> None:
        if self._guard >= 0:
            os.close(self._guard)
            self._guard = -1

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        """What a query gives; inside :meth:`write` also a statement that changes something."""
        if self._inside:
            return self._connection.execute(query, values).fetchall()
        self._refresh()
        try:
            return self._connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            if not self._heal(error):
                raise StoreError(f"the store of runs cannot be read: {error}") from error
        return self._connection.execute(query, values).fetchall()

    @contextlib.contextmanager
    def write(self) -> Iterator[None]:
        """One write transaction, begun as such so that it waits instead of failing half-way."""
        try:
            with self._held_still():
                self._connection.execute("BEGIN IMMEDIATE")
                self._inside = True
                try:
                    yield
                    self._connection.execute("COMMIT")
                finally:
                    self._inside = False
                    if self._connection.in_transaction:
                        with contextlib.suppress(sqlite3.Error):
                            self._connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            if self._heal(error):
                raise StoreError(
                    "the store of runs was damaged, and has been rebuilt", hint="do that once more"
                ) from error
            if _code(error) == sqlite3.SQLITE_BUSY:
                raise _busy(self.path) from error
            raise StoreError(f"the store of runs cannot be written: {error}") from error

    def faults(self) -> list[str]:
        """What SQLite finds wrong with the file, a line each; empty where it is sound."""
        return [str(row[0]) for row in self.rows("PRAGMA quick_check(5)") if row[0] != "ok"]

    @contextlib.contextmanager
    def _held_still(self) -> Iterator[None]:
        """The file at the path is the one that is open, and stays so."""
        while True:
            self._refresh()
            if self.cannot_write:
                self._reopen()  # perhaps there is room again
            if self.cannot_write:
                raise StoreError(
                    f"the store of runs cannot be written: {self.cannot_write}",
                    hint=f"make room, or set right who may write in {os.path.dirname(self.path)}",
                )
            with self._locked(fcntl.LOCK_SH):
                if self._file == _number(self.path):
                    yield
                    return

    def _refresh(self) -> None:
        """Open anew where another file has taken the place of the one that is open."""
        if self._file == _number(self.path):
            return
        if not os.path.isdir(os.path.dirname(self.path)):
            raise FolderGone(f"the folder {os.path.dirname(self.path)} has been taken away")
        self._reopen()

    def _reopen(self) -> None:
        # One whose file was moved leaves the new one's log alone (SQLite's HAS_MOVED).
        self._connection.close()
        self._let_go()
        self.cannot_write = ""
        self._connection = self._open()

    def _open(self) -> sqlite3.Connection:
        for _ in range(3):
            try:
                return self._open_once()
            except Unfit:
                if not self._mend:
                    raise
                self._set_aside()
        raise StoreError("the store of runs cannot be opened", hint=f"look at {self.path}")

    def _open_once(self) -> sqlite3.Connection:
        try:
            os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
            if os.path.isdir(self.path):
                raise Unfit("damaged", self.path)
            # To be made by one at a time: a change of the journal's mode waits for nobody.
            with self._locked(fcntl.LOCK_SH if _size(self.path) else fcntl.LOCK_EX):
                # Created by hand first: SQLite would use the umask, and prompts are private.  Only
                # where it is not there: closing any descriptor of the file drops the POSIX locks
                # of every connection in this process, and another process may then delete the log
                # that they write to (sqlite.org/howtocorrupt.html, 2.2; measured).
                with contextlib.suppress(FileExistsError):
                    os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
                connection = sqlite3.connect(self.path, timeout=_PATIENCE_S, isolation_level=None)
                try:
                    connection.execute("PRAGMA journal_mode = WAL")
                    connection.execute("PRAGMA synchronous = FULL")
                    self._migrate(connection)
                except BaseException:
                    connection.close()
                    raise
                self._file = _number(self.path)
                return connection
        except OSError as error:
            if error.errno in _NOT_WRITABLE_FILES:
                return self._open_for_reading(f"{error.strerror}: {error.filename or self.path}")
            raise _not_opened(error.strerror or str(error), self.path) from error
        except sqlite3.Error as error:
            if _code(error) in _DAMAGED:
                raise Unfit("damaged", self.path) from error
            if _code(error) in _NOT_WRITABLE:
                return self._open_for_reading(str(error))
            if _code(error) == sqlite3.SQLITE_BUSY:
                raise _busy(self.path) from error
            raise _not_opened(str(error), self.path) from error

    def _open_for_reading(self, why: str) -> sqlite3.Connection:
        """Open what is there for looking at it; ``why`` it cannot be written is kept."""
        ways = ["mode=ro"]
        if not _size(self.path + "-wal"):
            # Without the file that readers share, which cannot be made here.
            ways.append("mode=ro&immutable=1")
        for way in ways if _size(self.path) else []:
            connection = sqlite3.connect(
                f"file:{quote(self.path)}?{way}",
                uri=True,
                timeout=_PATIENCE_S,
                isolation_level=None,
            )
            try:
                connection.execute("SELECT count(*) FROM run").fetchone()
            except sqlite3.Error:
                connection.close()
                continue
            self.cannot_write, self._file = why, _number(self.path)
            return connection
        if (copied := self._open_copy()) is not None:
            self.cannot_write, self._file = why, _number(self.path)
            return copied
        raise _not_opened(why, self.path)

    def _open_copy(self) -> sqlite3.Connection | None:
        """A copy in the folder for temporary files, where there is room for what readers share.

        On a full disk the last connection to be closed leaves its log and takes that file away.
        """
        import shutil  # only where a disk is full
        import tempfile

        try:
            with tempfile.TemporaryDirectory(prefix="plandock-") as folder:
                place = os.path.join(folder, "plandock.db")
                for tail in ("", "-wal"):
                    with contextlib.suppress(FileNotFoundError):
                        shutil.copyfile(self.path + tail, place + tail)
                connection = sqlite3.connect(place, isolation_level=None)
                try:
                    connection.execute("PRAGMA query_only = 1")
                    connection.execute("SELECT count(*) FROM run").fetchone()
                except BaseException:
                    connection.close()
                    raise
                return connection  # it keeps its files open, which are gone by name
        except (OSError, sqlite3.Error):
            return None

    def _migrate(self, connection: sqlite3.Connection) -> None:
        names = [name for name, _ in self._migrations]
        if connection.execute("PRAGMA user_version").fetchone()[0] == len(names):
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.execute("CREATE TABLE IF NOT EXISTS migration (name TEXT PRIMARY KEY)")
            had = {row[0] for row in connection.execute("SELECT name FROM migration")}
            if had - set(names):
                raise Unfit("newer", self.path)
            for name, script in self._migrations:
                if name not in had:
                    for statement in filter(str.strip, script.split(";")):
                        connection.execute(statement)
                    connection.execute("INSERT INTO migration VALUES (?)", (name,))
            if not had:
                self._fill(connection)
            connection.execute(f"PRAGMA user_version = {len(names)}")
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def _heal(self, error: sqlite3.Error) -> bool:
        """Put a sound database in the place of a damaged one; whether that was done."""
        if _code(error) not in _DAMAGED or not self._mend:
            return False
        self._connection.close()
        self._set_aside()
        self._connection = self._open()
        return True

    def _set_aside(self) -> None:
        """Move an unfit database away, unless somebody else has done so already."""
        try:
            with self._locked(fcntl.LOCK_EX):
                kind = self._look()
                if not kind:
                    return
                aside = _free(
                    f"{self.path}.{kind}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
                )
                for suffix in (*_WAL_FILES, ""):
                    with contextlib.suppress(FileNotFoundError):
                        os.rename(self.path + suffix, aside + suffix)
        except OSError as error:
            raise _not_opened(error.strerror or str(error), self.path) from error
        what = "damaged" if kind == "damaged" else "written by a newer plandock"
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(
                f"plandock: the store of runs was {what}; it is now {aside}, and a new one was"
                " made from the runs' folders\n"
            )

    def _look(self) -> str:
        """What is wrong with the file that is there now: ``damaged``, ``newer`` or ""."""
        if os.path.isdir(self.path):
            return "damaged"
        if not _size(self.path):
            return ""
        try:
            connection = sqlite3.connect(self.path, timeout=_PATIENCE_S, isolation_level=None)
            try:
                if connection.execute("PRAGMA quick_check(1)").fetchall() != [("ok",)]:
                    return "damaged"
                if not connection.execute(
                    "SELECT 1 FROM sqlite_master WHERE name = 'migration'"
                ).fetchone():
                    return ""
                had = {row[0] for row in connection.execute("SELECT name FROM migration")}
                return "newer" if had - {name for name, _ in self._migrations} else ""
            finally:
                connection.close()
        except sqlite3.Error as error:
            if _code(error) in _DAMAGED:
                return "damaged"
            raise _not_opened(str(error), self.path) from error

    @contextlib.contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        if self._guard < 0:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._guard = os.open(f"{self.path}.lock", flags, 0o600)
        fcntl.flock(self._guard, how)
        try:
            yield
        finally:
            if self._guard >= 0:
                fcntl.flock(self._guard, fcntl.LOCK_UN)


def _not_opened(why: str, path: str) -> StoreError:
    return StoreError(f"the store of runs cannot be opened: {why}", hint=f"look at {path}")


def _busy(path: str) -> StoreBusy:
    return StoreBusy(
        "the store of runs is held by another process", hint=f"see who has {path} open; try again"
    )


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 where the error did not come from SQLite itself."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _number(path: str) -> tuple[int, int]:
    """Which file is at a path; by ``stat``, which touches no lock."""
    try:
        found = os.stat(path)
    except OSError:
        return (0, 0)
    return (found.st_dev, found.st_ino)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _free(name: str) -> str:
    number, found = 1, name
    while os.path.lexists(found):
        number += 1
        found = f"{name}-{number}"
    return found
