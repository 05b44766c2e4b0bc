"""A migration's journal as it is now, for whoever only reads: beside the process that writes it, after its end, or
after a kill. Takes no lock and changes nothing in it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from keyferry.journal.ended import file_stem
from keyferry.journal.migration import FORMAT, Event
from keyferry.model.errors import UsageError

READ_S = 5.0
"""So long it waits for a writer that is in the way."""


class JournalLook(NamedTuple):
    """All that a journal holds, at one moment: newest values of facts, and events, the oldest first."""

    facts: dict[str, Any]
    events: list[Event]


def living_journal(directory: Path, name: str) -> Path:
    """Where the journal of a migration is that has not ended. There may be none."""
    return directory / f"migrate-{file_stem(name)}.sqlite"


def read_journal(path: Path, kinds: Iterable[str] = ()) -> JournalLook:
    """Reads it.

    Args:
        kinds: Only events of these; all when empty.

    Raises:
        UsageError: There is none, it cannot be read, or another version of Keyferry wrote it.
    """
    with _opened(path) as database:
        return _read(database, tuple(kinds))


def read_fact(path: Path, key: str) -> Any:
    """The newest value of one fact; None when there is none. Raises as ``read_journal``."""
    with _opened(path) as database:
        row = database.execute("SELECT value FROM facts WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    uri = f"file:{quote(str(path.absolute()))}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=READ_S)) as database:
            database.execute("BEGIN")
            if database.execute("PRAGMA user_version").fetchone()[0] != FORMAT:
                raise UsageError(
                    f"The journal {path} was written by another version of Keyferry.",
                    "Read it with that version.",
                )
            yield database
    except sqlite3.DatabaseError as error:
        raise UsageError(f"The journal {path} cannot be read: {error}.") from None
    except ValueError as error:
        raise UsageError(f"The journal {path} is damaged: {error}.") from None


def _read(database: sqlite3.Connection, kinds: tuple[str, ...]) -> JournalLook:
    facts = database.execute("SELECT key, value FROM facts").fetchall()
    where = f"WHERE kind IN ({','.join('?' * len(kinds))})" if kinds else ""
    events = database.execute(f"SELECT at_ms, kind, facts FROM events {where} ORDER BY id", kinds).fetchall()
    return JournalLook(
        {key: json.loads(text) for key, text in facts},
        [Event(at_ms, kind, json.loads(text)) for at_ms, kind, text in events],
    )
