"""What a sync has carried, and what it could not."""

from __future__ import annotations

from collections import Counter

from keyferry.copy.passes import Task
from keyferry.copy.settled import Failure, SettledPages
from keyferry.follow.source import Followed
from keyferry.telemetry.following import SyncReport
from keyferry.telemetry.report import Counts
from keyferry.transfer.config import Outcome


class Accounts:
    """Of one run. Args: sources: Of which each database counts its dirty keys by itself."""

    def __init__(self, sources: dict[str, Followed]) -> None:
        self._sources = sources
        self.copied = Counts()
        self._notes: Counter[str] = Counter()

    def scanned(self, task: Task, pages: SettledPages) -> None:
        """Pages of the first copy."""
        outcomes = pages.settled.outcomes
        self.copied.add(
            Counts(
                scanned=sum(outcomes[:4]),
                copied=outcomes[Outcome.COPIED],
                vanished=outcomes[Outcome.VANISHED],
                failed=outcomes[Outcome.FAILED],
                bytes=pages.settled.payload_bytes,
                methods=list(pages.settled.methods),
            )
        )
        self._sources[task.shard].scanned += sum(outcomes[:4])
        for failure in pages.failures:
            self._sources[task.shard].supplies[task.database].remember(failure.key, failure.reason)
        self._notes.update(pages.notes)

    @property
    def failed(self) -> int:
        """Keys that could not be carried, and have not been since."""
        return sum(
            len(supply.failures) for source in self._sources.values() for supply in source.supplies.values()
        )

    def failures(self) -> list[Failure]:
        """The same by name, as far as they are remembered."""
        return [
            Failure(key, database, reason)
            for source in self._sources.values()
            for database, supply in source.supplies.items()
            for key, reason in supply.failures.items()
        ]

    def report(self) -> SyncReport:
        """Its part of the report."""
        supplies = [supply for source in self._sources.values() for supply in source.supplies.values()]
        notes = Counter(self._notes)
        for supply in supplies:
            notes.update(supply.notes)
        return SyncReport(
            copied=self.copied,
            deleted=sum(supply.deleted for supply in supplies),
            failed=self.failed,
            notes=dict(notes),
        )
