"""What a migration that is started again needs to know of itself, and what its report is made of.

Two kinds of memory: *facts*, of which only the newest value counts (which rights were taken away, which step of a switch
is under way), and *events*, which are only ever added. Whether a commit was made is never read from here: the records
on the servers say it (cutover/plan.py).

A step of a switch is noted while writes wait, so a note costs no disk sync. Where a power cut must not forget one (rights
that were taken away), it is made ``durable``, before the gate.

The journal of a migration that has ended is kept under another name (journal/ended.py).
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from keyferry.journal.ended import file_stem, keep_ended
from keyferry.journal.file import JournalFile, is_place
from keyferry.model.errors import UsageError

FORMAT = 1
EVENTS_MAX = 1000
"""Of one kind; the oldest go."""
BEAT_S = 5.0
CHECKPOINT_WRITES = 500
"""So many are left in the write-ahead log: a megabyte or two."""
CLAIM = "claim"
SEEN = "seen_ms"


class Event(NamedTuple):
    """Something that happened. ``at_ms``: by this machine's clock, since 1970."""

    at_ms: int
    kind: str
    facts: dict[str, Any]


class MigrationJournal(JournalFile):
    """The memory of one migration, held by one process at a time; for one thread."""

    WORD = "journal"
    HOW_TO_DISCARD = (
        "keyferry phase show says where the migration is; move the file away to begin a new journal."
    )
    TABLES = (
        "CREATE TABLE IF NOT EXISTS facts (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID",
        "CREATE TABLE IF NOT EXISTS events (id INTEGER PRIMARY KEY, at_ms INTEGER, kind TEXT, facts TEXT)",
        "CREATE INDEX IF NOT EXISTS events_by_kind ON events (kind, id)",
        # A checkpoint of the WAL syncs the disk: never in the middle of a switch, see beat().
        "PRAGMA wal_autocheckpoint=0",
    )
    KEPT = "facts"

    def __init__(
        self, directory: Path, name: str, *, clock_ms: Callable[[], int] = lambda: round(time.time() * 1000)
    ) -> None:
        """Opens or makes it.

        Args:
            name: Of the migration.

        Raises:
            RefusedError: Another process leads this migration.
            UsageError: The directory or the file cannot be used, or another version of Keyferry wrote it.
        """
        self.name = name
        self._clock_ms = clock_ms
        self._written = 0
        super().__init__(directory, file_stem(name), kind="migrate")
        self._beat_at_s = time.monotonic() - BEAT_S
        try:
            self._check_format()
        except BaseException:
            self.close()
            raise

    def _check_format(self) -> None:
        with self._usable():
            found = self._database.execute("PRAGMA user_version").fetchone()[0]
            if not found:
                self._database.execute(f"PRAGMA user_version={FORMAT}")
        if found not in (0, FORMAT):
            raise UsageError(
                f"The journal {self.path} was written by another version of Keyferry.",
                "Finish the migration with that version.",
            )

    def is_claimed(self, identity: str, source: str, target: str) -> bool:
        """Whether an earlier run has left it, for the same migration.

        Args:
            identity: The same for the same choice of keys.
            source, target: Their locations, for people.

        Raises:
            UsageError: It belongs to other servers, or to another choice of keys.
        """
        found = self.get(CLAIM)
        if found is None:
            return False
        if list(map(_nodes, (found["source"], found["target"]))) != list(map(_nodes, (source, target))):
            raise UsageError(
                f"The migration {self.name} in {self.path.parent} leads from {found['source']} to {found['target']}.",
                "Give the same addresses to go on with it, or another --name.",
            )
        if found["identity"] != identity:
            raise UsageError(
                f"The migration {self.name} was begun with another choice of keys or databases.",
                "Give the same command to go on with it, or another --name.",
            )
        return True

    def claim(self, identity: str, source: str, target: str) -> None:
        """Takes it for a migration between these two. Arguments as of ``is_claimed``; raises as ``set``."""
        self.set(CLAIM, {"identity": identity, "source": source, "target": target}, durable=True)

    def event(self, kind: str, /, **facts: Any) -> None:
        """Adds one. ``facts``: what JSON can say. Raises UsageError when it cannot be written."""
        text = json.dumps(facts, separators=(",", ":"))
        with self._transaction():
            cursor = self._database.execute(
                "INSERT INTO events (at_ms, kind, facts) VALUES (?, ?, ?)", (self._clock_ms(), kind, text)
            )
            if cursor.lastrowid and cursor.lastrowid % 64 == 0:
                self._forget_oldest()

    def _forget_oldest(self) -> None:
        kinds = [row[0] for row in self._database.execute("SELECT DISTINCT kind FROM events")]
        self._database.executemany(
            "DELETE FROM events WHERE kind = ? AND id <= "
            "(SELECT id FROM events WHERE kind = ? ORDER BY id DESC LIMIT 1 OFFSET ?)",
            ((kind, kind, EVENTS_MAX) for kind in kinds),
        )

    def events(self, kinds: Iterable[str] = (), last: int | None = None) -> list[Event]:
        """The oldest first.

        Args:
            kinds: Only these; all when empty.
            last: Only so many, the newest.

        Raises:
            UsageError: The file cannot be read.
        """
        chosen = tuple(kinds)
        where = f" WHERE kind IN ({','.join('?' * len(chosen))})" if chosen else ""
        with self._readable():
            rows = self._database.execute(
                f"SELECT at_ms, kind, facts FROM events{where} ORDER BY id DESC LIMIT ?",
                (*chosen, -1 if last is None else last),
            ).fetchall()
            return [Event(at_ms, kind, json.loads(text)) for at_ms, kind, text in reversed(rows)]

    def set(self, key: str, value: Any, *, durable: bool = False) -> None:
        """Remembers a fact in place of what was known under ``key``. Raises as ``event``.

        Args:
            value: What JSON can say; None forgets it.
            durable: It, and everything before it, survives a power cut: waits for the disk.
        """
        if durable:
            self._set_pragma("synchronous=FULL")
        try:
            with self._transaction():
                if value is None:
                    self._database.execute("DELETE FROM facts WHERE key = ?", (key,))
                else:
                    text = json.dumps(value, separators=(",", ":"))
                    self._database.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (key, text))
        finally:
            if durable:
                self._set_pragma("synchronous=NORMAL")

    def get(self, key: str) -> Any:
        """What was last set; None when nothing was. Raises as ``events``."""
        with self._readable():
            row = self._database.execute("SELECT value FROM facts WHERE key = ?", (key,)).fetchone()
            return None if row is None else json.loads(row[0])

    def facts(self) -> dict[str, Any]:
        """All of them. Raises as ``events``."""
        with self._readable():
            rows = self._database.execute("SELECT key, value FROM facts").fetchall()
            return {key: json.loads(text) for key, text in rows}

    def forget(self) -> None:
        """Forgets everything: the migration begins anew. Raises as ``event``."""
        with self._transaction():
            self._database.execute("DELETE FROM facts")
            self._database.execute("DELETE FROM events")

    def _retire(self) -> None:
        with self._usable():
            keep_ended(self._database, self.path.parent, self.name, self._clock_ms())

    def beat(self) -> bool:
        """Notes now and then that we are alive, and tidies up. To be called often, but not while writes wait.

        Returns:
            Whether it did, about every five seconds: the moment for whatever else is kept now and then.
        """
        now_s = time.monotonic()
        if now_s - self._beat_at_s < BEAT_S:
            return False
        self._beat_at_s = now_s
        self.set(SEEN, self._clock_ms())
        if self._written >= CHECKPOINT_WRITES:
            self._written = 0
            self._set_pragma("wal_checkpoint(PASSIVE)")
        return True

    def _set_pragma(self, text: str) -> None:
        with self._usable():
            self._database.execute(f"PRAGMA {text}").fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._usable():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._database.execute("COMMIT")
                self._written += 1
            except BaseException:
                # A full disk has rolled it back already.
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise

    @contextmanager
    def _readable(self) -> Iterator[None]:
        with self._usable():
            try:
                yield
            except (ValueError, sqlite3.DatabaseError) as error:
                if isinstance(error, sqlite3.DatabaseError) and is_place(error):
                    raise
                raise UsageError(
                    f"The journal {self.path} is damaged: {error}.", self.HOW_TO_DISCARD
                ) from None


def _nodes(location: str) -> list[str]:
    """The nodes of a cluster may be named in any order."""
    return sorted(location.split(","))
