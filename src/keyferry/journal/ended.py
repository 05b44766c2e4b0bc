"""Journals of migrations that have ended: kept beside the living ones, so that their reports can be made again.

The name is free for a new migration from then on. A kept journal is written whole under a draft's name first, and the
living one is removed after it: a kill in between leaves both, and the same command keeps it again.
"""

from __future__ import annotations

import os
import re
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

KEPT_MAX = 10
"""Of one name; the oldest go."""
_STAMP = "%Y%m%dT%H%M%SZ"
_ENDED = re.compile(r"\.ended-(\d{8}T\d{6}Z)\.sqlite")


class EndedJournal(NamedTuple):
    """One that is kept. ``at``: when it was, to the second, in UTC."""

    path: Path
    at: datetime


def file_stem(name: str) -> str:
    """A migration's name as a part of file names, still readable."""
    return quote(name, safe="")


def ended_journals(directory: Path, name: str) -> list[EndedJournal]:
    """Those of a migration, the newest first. Empty also when the directory cannot be read."""
    head = f"migrate-{file_stem(name)}"
    found = []
    for path in directory.glob("migrate-*.sqlite"):
        if not path.name.startswith(head) or path.with_suffix(".lock").exists():
            continue  # Of another migration, whose name may look like one of ours.
        match = _ENDED.fullmatch(path.name, len(head))
        if match is not None:
            found.append(EndedJournal(path, datetime.strptime(match[1], _STAMP).replace(tzinfo=UTC)))
    return sorted(found, key=lambda one: one.at, reverse=True)


def keep_ended(database: sqlite3.Connection, directory: Path, name: str, at_ms: int) -> Path:
    """Keeps all that ``database`` holds, and lets the oldest of this name go.

    Args:
        at_ms: When, in ms since 1970; the newest is never called older than another one.

    Returns:
        Where it is.

    Raises:
        sqlite3.Error: It cannot be written.
    """
    at = datetime.fromtimestamp(at_ms // 1000, UTC)
    for newest in ended_journals(directory, name)[:1]:
        at = max(at, newest.at + timedelta(seconds=1))
    path = directory / f"migrate-{file_stem(name)}.ended-{at.strftime(_STAMP)}.sqlite"
    draft = path.with_suffix(".draft")
    try:
        draft.unlink(missing_ok=True)
        os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        # Into one file without a log beside it, whoever reads the living one meanwhile.
        database.execute("VACUUM INTO ?", (os.fspath(draft),))
        _sync(draft)
        draft.replace(path)
    except OSError as error:
        raise sqlite3.OperationalError(str(error.strerror)) from error
    for old in ended_journals(directory, name)[KEPT_MAX:]:
        old.path.unlink(missing_ok=True)
    return path


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
