"""What a sync says to people at its end. Short and true: no line for what did not happen."""

from __future__ import annotations

from pathlib import Path

from rich.text import Text

from keyferry.app.summary import NOTE_WORDS, lines
from keyferry.model.words import count, counted, duration, moment, size
from keyferry.telemetry.following import SyncReport


def of_sync(report: SyncReport, failures_file: Path | None) -> Text:
    """The end of a sync that was to end by itself."""
    copied = report.copied
    rows = [
        ("copied", f"{counted(copied.copied, 'key')}, {size(copied.bytes)}"),
        (
            "changes",
            f"{count(report.changes)} named by the feed, {counted(report.settled, 'dirty key')} settled",
        ),
        ("feed", _feed(report)),
        ("lag", f"{moment(report.lag_max_s)} at most"),
    ]
    if report.verified:
        rows.append(("verified", f"{counted(report.verified, 'key')} of both servers"))
    if report.deleted:
        rows.append(("deleted", f"{counted(report.deleted, 'key')} that the source does not have"))
    if report.extra_deleted:
        rows.append(("extra", f"{counted(report.extra_deleted, 'key')} that only the target had: deleted"))
    if report.failed:
        where = f"reasons in {failures_file}" if failures_file else "reasons with --failures FILE"
        rows.append(("failed", f"{counted(report.failed, 'key')}: {where}"))
    if report.foreign_keys:
        rows.append(
            ("foreign", f"{counted(report.foreign_keys, 'key')} written on the target by somebody else")
        )
    rows += [
        ("not carried", f"{NOTE_WORDS.get(note, note)} ({counted(keys, 'key')})")
        for note, keys in report.notes.items()
    ]
    if report.throttled_seconds >= 0.1:
        rows.append(
            ("held back", f"{duration(report.throttled_seconds)}, by the latency guard or your limits")
        )
    return lines(_title(report), "bold green" if _well(report) else "bold yellow", rows)


def _title(report: SyncReport) -> str:
    after = f"after {duration(report.seconds)}"
    if _well(report):
        return f"Synced {after}: nothing differs, and the lag was {moment(report.lag_s)} at the end."
    if report.failed:
        return f"Not synced {after}: {counted(report.failed, 'key')} could not be carried."
    return f"Not synced {after}."


def _well(report: SyncReport) -> bool:
    return report.synced and not report.failed


def _feed(report: SyncReport) -> str:
    gaps = report.generations - 1
    return f"{report.feed}, {counted(gaps, 'gap')}" if gaps else f"{report.feed}, without a gap"
