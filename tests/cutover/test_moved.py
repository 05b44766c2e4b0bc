"""What was carried is in the report, whatever becomes of the process that carried it."""

from __future__ import annotations

from pathlib import Path

from keyferry.cutover.moved import MovedBooks
from keyferry.journal.migration import MigrationJournal
from keyferry.model.phases import Side
from keyferry.telemetry.following import SyncReport
from keyferry.telemetry.migrating import report_of
from keyferry.telemetry.report import Counts


def carried(keys: int) -> SyncReport:
    return SyncReport(Counts(scanned=keys, copied=keys))


def told(journal: MigrationJournal) -> list[tuple[str, int]]:
    report = report_of("shop", journal.facts(), journal.events())
    return [(run["direction"], run["copied"]["copied"]) for run in report.moved]


def test_a_run_counts_once_whether_it_goes_on_or_is_over(tmp_path: Path) -> None:
    with MigrationJournal(tmp_path, "shop") as journal:
        books = MovedBooks(journal)
        assert told(journal) == []
        books.keep(Side.SOURCE, carried(5))
        books.keep(Side.SOURCE, carried(7))
        assert told(journal) == [("source to target", 7)]
        books.end(Side.SOURCE, carried(9))
        assert told(journal) == [("source to target", 9)]


def test_what_a_killed_process_had_carried_counts_beside_what_the_next_one_does(tmp_path: Path) -> None:
    with MigrationJournal(tmp_path, "shop") as journal:
        journal.claim("id", "a:1", "b:1")
        MovedBooks(journal).keep(Side.SOURCE, carried(7))
    with MigrationJournal(tmp_path, "shop") as journal:
        books = MovedBooks(journal)
        assert told(journal) == [("source to target", 7)]
        books.keep(Side.TARGET, carried(1))
        assert told(journal) == [("source to target", 7), ("target to source", 1)]
        books.end(Side.TARGET, carried(2))
    with MigrationJournal(tmp_path, "shop") as journal:
        MovedBooks(journal)
        assert told(journal) == [("source to target", 7), ("target to source", 2)]
