"""The checkpoint of one copy, or comparison: where it is, how much it did, what was foreign, and who is working on it.

What a power cut may lose of it (file.py) does no harm: an older checkpoint only repeats some keys.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from keyferry.journal.file import JournalFile
from keyferry.model.errors import UsageError

FORMAT = 2

Body = TypeVar("Body")


@dataclass(slots=True)
class Position:
    """Where one database of one shard is: the cursor from which SCAN goes on; done when it has none.

    ``scanned`` counts the keys before it.
    """

    cursor: str = "0"
    done: bool = False
    scanned: int = 0


@dataclass(slots=True)
class Checkpoint:
    """What a later run needs to go on.

    Attributes:
        source_run_ids, target_run_ids: The processes that it belongs to, by shard id.
        positions: By shard id and database, such as ``0/3``.
        slots: Of a source that is a cluster, which slots are to be gone over again (``SlotLedger.as_dict``).
        counts: ``Counts.as_dict()``'s numbers, of all runs.
        on_conflict: What the first run was told to do with keys that the target holds.
        evicted_keys: The target's count when we last met it.
        failures_file, failures_bytes: Where failed keys are listed, and how much of it the counts know of.
        comparing: The keys are gone over by comparison, because a server was another process than before.
        seconds: Of all runs.
        more: What only a comparison keeps.
    """

    source_run_ids: dict[str, str] = field(default_factory=dict)
    target_run_ids: dict[str, str] = field(default_factory=dict)
    slots: dict[str, Any] = field(default_factory=dict)
    on_conflict: Literal["replace", "skip", "fail"] | None = None
    evicted_keys: int | None = None
    positions: dict[str, Position] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    methods: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    notes: dict[str, int] = field(default_factory=dict)
    failures_file: str = ""
    failures_bytes: int = 0
    comparing: bool = False
    seconds: float = 0.0
    more: dict[str, Any] = field(default_factory=dict)


class State(JournalFile):
    """The checkpoint file of one copy, held by one process at a time."""

    TABLES = (
        "CREATE TABLE IF NOT EXISTS checkpoint (id INTEGER PRIMARY KEY CHECK (id = 1), format INTEGER, body TEXT)",
        "CREATE TABLE IF NOT EXISTS foreign_keys (digest BLOB PRIMARY KEY) WITHOUT ROWID",
        "CREATE TABLE IF NOT EXISTS noted_keys (place INTEGER, key BLOB, PRIMARY KEY (place, key)) WITHOUT ROWID",
    )
    KEPT = "checkpoint"

    def __init__(self, directory: Path, name: str, *, restart: bool = False, kind: str = "copy") -> None:
        """Opens or makes it.

        Args:
            name: Tells this copy from others: made of both locations and the selection.
            restart: Discards what an earlier run left, unread.
            kind: Of run; the files' names begin with it.

        Raises:
            RefusedError: Another process works on it.
            UsageError: The directory or the file cannot be used.
        """
        super().__init__(directory, name, kind=kind, restart=restart)

    def load(self) -> Checkpoint | None:
        """What an earlier, unfinished run left; None when there is none. Raises as ``load_as``."""
        return self.load_as(FORMAT, _checkpoint)

    def load_as(self, format_number: int, make: Callable[[dict[str, Any]], Body]) -> Body | None:
        """The same for another kind of run.

        Args:
            make: Makes it from what ``save_as`` was given; a TypeError, KeyError or ValueError means damaged.

        Raises:
            UsageError: It was written by another version of Keyferry, or is damaged.
        """
        try:
            row = self._database.execute("SELECT format, body FROM checkpoint").fetchone()
            if row is None:
                return None
            if row[0] != format_number:
                raise UsageError(
                    f"The checkpoint {self.path} was written by another version of Keyferry.",
                    "Finish with that version, or discard it with --restart.",
                )
            return make(json.loads(row[1]))
        except (sqlite3.DatabaseError, ValueError, TypeError, KeyError) as error:
            raise UsageError(
                f"The checkpoint {self.path} is damaged: {error}.", "Discard it with --restart."
            ) from None

    def save(
        self,
        checkpoint: Checkpoint,
        *,
        forget_noted: bool = False,
        foreign: Iterable[tuple[int, bytes]] = (),
    ) -> None:
        """Replaces what was saved before. Raises UsageError when the file cannot be written.

        Args:
            forget_noted: The noted keys have been looked at, and this checkpoint knows what came of them.
            foreign: As ``add_foreign``, in the same transaction.
        """
        body = json.dumps(asdict(checkpoint), separators=(",", ":"))
        with self._usable():
            self._database.execute("BEGIN")
            self._database.execute("INSERT OR REPLACE INTO checkpoint VALUES (1, ?, ?)", (FORMAT, body))
            if forget_noted:
                self._database.execute("DELETE FROM noted_keys")
            self._insert_foreign(foreign)
            self._database.execute("COMMIT")

    def save_as(self, format_number: int, body: dict[str, Any]) -> None:
        """The same for another kind of run; ``load_as`` gives it back. Raises as ``save``."""
        text = json.dumps(body, separators=(",", ":"))
        with self._usable():
            self._database.execute(
                "INSERT OR REPLACE INTO checkpoint VALUES (1, ?, ?)", (format_number, text)
            )

    def add_foreign(self, database: int, keys: Iterable[bytes]) -> None:
        """Remembers keys that the target held before this copy began. Raises as ``save``."""
        with self._usable():
            self._database.execute("BEGIN")
            self._insert_foreign((database, key) for key in keys)
            self._database.execute("COMMIT")

    def _insert_foreign(self, keys: Iterable[tuple[int, bytes]]) -> None:
        self._database.executemany(
            "INSERT OR IGNORE INTO foreign_keys VALUES (?)", ((_digest(*place),) for place in keys)
        )

    def forget_foreign(self, database: int, keys: Iterable[bytes]) -> None:
        """These are the source's now. Raises as ``save``."""
        with self._usable():
            self._database.execute("BEGIN")
            self._database.executemany(
                "DELETE FROM foreign_keys WHERE digest = ?", ((_digest(database, key),) for key in keys)
            )
            self._database.execute("COMMIT")

    def is_foreign(self, database: int, key: bytes) -> bool:
        """Whether the target held the key before this copy began. ``database``: the target's.

        Raises UsageError when the file cannot be read.
        """
        with self._usable():
            row = self._database.execute(
                "SELECT 1 FROM foreign_keys WHERE digest = ?", (_digest(database, key),)
            ).fetchone()
        return row is not None

    def note_keys(self, keys: Iterable[tuple[int, bytes]]) -> None:
        """Remembers keys by name, with a database, that are still to be looked at. Raises as ``save``."""
        with self._usable():
            self._database.execute("BEGIN")
            self._database.executemany("INSERT OR IGNORE INTO noted_keys VALUES (?, ?)", keys)
            self._database.execute("COMMIT")

    def noted_keys(self) -> list[tuple[int, bytes]]:
        """What was noted and not forgotten. Raises as ``is_foreign``."""
        with self._usable():
            return list(self._database.execute("SELECT place, key FROM noted_keys"))

    def discard(self) -> None:
        """Forgets everything: the copy is finished, or begins anew. Raises as ``save``."""
        with self._usable():
            self._database.execute("DELETE FROM checkpoint")
            self._database.execute("DELETE FROM foreign_keys")
            self._database.execute("DELETE FROM noted_keys")


def state_name(*parts: str) -> str:
    """A file name's part that is the same for the same copy and holds nothing readable."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _checkpoint(body: dict[str, Any]) -> Checkpoint:
    positions = {name: Position(**position) for name, position in body.pop("positions").items()}
    return Checkpoint(**body, positions=positions)


def _digest(database: int, key: bytes) -> bytes:
    return hashlib.blake2b(b"%d\0%b" % (database, key), digest_size=16).digest()
