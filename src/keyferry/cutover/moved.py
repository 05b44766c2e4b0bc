"""What the runs of both directions have carried, kept for the report also when a process is killed."""

from __future__ import annotations

from keyferry.journal.migration import MigrationJournal
from keyferry.model.phases import Side
from keyferry.telemetry.following import SyncReport
from keyferry.telemetry.migrating import EventKind, FactKey


class MovedBooks:
    """Of one migration. What an earlier process has kept, and not brought to its end, is brought there first."""

    def __init__(self, journal: MigrationJournal) -> None:
        self._journal = journal
        kept = journal.get(FactKey.MOVING)
        if kept is not None:
            journal.event(EventKind.MOVED, **kept)
            journal.set(FactKey.MOVING, None)

    def keep(self, authority: Side, report: SyncReport) -> None:
        """What a run has done until now; replaces what was kept of it."""
        self._journal.set(FactKey.MOVING, _named(authority, report))

    def end(self, authority: Side, report: SyncReport) -> None:
        """What it has done in all: it is over, however that came."""
        self._journal.event(EventKind.MOVED, **_named(authority, report))
        self._journal.set(FactKey.MOVING, None)


def _named(authority: Side, report: SyncReport) -> dict[str, object]:
    return {"direction": f"{authority} to {authority.other}", **report.as_dict()}
