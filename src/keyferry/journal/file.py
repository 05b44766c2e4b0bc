"""One SQLite file and one lock file in the state directory: what every kind of journal is kept in.

Every write is one transaction, so a kill at any moment leaves the last whole one. With WAL and synchronous=NORMAL a
power cut may lose the newest transactions, never half of one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, TypeVar

from keyferry.model.errors import RefusedError, UsageError

_RUNS = {"verify": "comparison", "migrate": "migration"}

Self = TypeVar("Self", bound="JournalFile")


class JournalFile:
    """A file of tables, held by one process at a time. Made for its subclasses."""

    WORD: ClassVar[str] = "checkpoint"
    """What it is called towards people."""
    HOW_TO_DISCARD: ClassVar[str] = "Discard it with --restart."
    TABLES: ClassVar[Sequence[str]] = ()
    """Statements that make what is missing."""
    KEPT: ClassVar[str] = ""
    """The table without whose rows there is nothing to go on from."""

    def __init__(self, directory: Path, name: str, *, kind: str, restart: bool = False) -> None:
        """Opens or makes it.

        Args:
            name: Tells it from others of its kind.
            kind: Of run; the files' names begin with it.
            restart: Discards what an earlier run left, unread.

        Raises:
            RefusedError: Another process works on it.
            UsageError: The directory or the file cannot be used.
        """
        self.kind = kind
        self.path = directory / f"{kind}-{name}.sqlite"
        self._lock_path = directory / f"{kind}-{name}.lock"
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = _lock(self._lock_path, kind)
        except OSError as error:
            raise UsageError(
                f"The state directory {directory} cannot be used: {error.strerror}.",
                "Name another with --state-dir.",
            ) from None
        try:
            if restart:
                self._remove()
            self._database = self._open()
        except BaseException:
            os.close(self._lock)
            raise

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> sqlite3.Connection:
        new = not self.path.exists()
        database = sqlite3.connect(self.path, isolation_level=None)
        try:
            if new:
                self.path.chmod(0o600)
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=NORMAL")
            for statement in self.TABLES:
                database.execute(statement)
        except sqlite3.DatabaseError as error:
            database.close()
            if is_place(error):
                raise UsageError(
                    f"The state directory {self.path.parent} cannot be used: {error}.",
                    "Make room or mend the disk, or name another with --state-dir.",
                ) from None
            raise UsageError(
                f"The {self.WORD} {self.path} cannot be read: {error}.", self.HOW_TO_DISCARD
            ) from None
        return database

    @contextlib.contextmanager
    def _usable(self) -> Iterator[None]:
        """Raises UsageError in place of SQLite's errors."""
        try:
            yield
        except sqlite3.Error as error:
            raise UsageError(
                f"The {self.WORD} {self.path} cannot be used: {error}.",
                "Make room or mend the disk, then give the same command again.",
            ) from None

    def close(self, finished: bool = False) -> None:
        """Lets go of it; ``finished`` removes its files. Harmless when called again.

        A run that was refused before it kept anything leaves no files either: there is nothing to go on from.

        Raises:
            UsageError: What is kept of a finished one cannot be written; its files are still there then.
        """
        if self._lock < 0:
            return
        try:
            if finished:
                self._retire()
            no_use = finished or self._is_empty()
            self._database.close()
            if no_use:
                self._remove()
                self._lock_path.unlink(missing_ok=True)
        finally:
            self._database.close()
            os.close(self._lock)
            self._lock = -1

    def _retire(self) -> None:
        """Keeps what is worth it of a finished one, before its files are removed."""

    def _is_empty(self) -> bool:
        try:
            return self._database.execute(f"SELECT 1 FROM {self.KEPT} LIMIT 1").fetchone() is None
        except sqlite3.DatabaseError:
            return False  # damaged: who reads it says so

    def _remove(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)


def is_place(error: sqlite3.DatabaseError) -> bool:
    """Whether the disk or the directory fails, and not the file's content."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
    )


def _lock(path: Path, kind: str) -> int:
    """A descriptor that holds the lock and has our process id written into it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            who = f" (process {holder})" if holder else ""
            raise RefusedError(
                f"Another run of this {_RUNS.get(kind, kind)} is alive{who}.",
                "Wait for it or stop it; two at once would undo each other.",
            ) from None
        same = False
        # The file that we locked may have been removed meanwhile by a run that finished.
        with contextlib.suppress(FileNotFoundError):
            same = os.fstat(descriptor).st_ino == path.stat().st_ino
        if same:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            return descriptor
        os.close(descriptor)
