"""What both records and all writers say at a moment, as plain values for people and machines. Judges no lease: for
that one has to look for as long as a lease lasts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keyferry.cutover.phase_steps import Outcome, authority_of
from keyferry.cutover.record_store import RecordStore
from keyferry.model.errors import KeyferryError, ServerError
from keyferry.model.phases import Side
from keyferry.model.record import Kind, PhaseRecord, RecordError
from keyferry.model.record_trail import check_single
from keyferry.model.writers import WriterEntry


@dataclass(frozen=True, slots=True)
class SideReport:
    """One side.

    Attributes:
        problem: Why it does not say what it says; None when it does.
        record: None: it has none, or there is a problem.
        writers: Registered there, by id.
    """

    problem: KeyferryError | None
    record: PhaseRecord | None
    writers: Mapping[str, WriterEntry]


@dataclass(frozen=True, slots=True)
class PhaseReport:
    """Both sides.

    Attributes:
        problem: Why nobody knows which side has authority; None when it is known, or when there is no record at all.
    """

    name: str
    sides: Mapping[Side, SideReport]
    problem: KeyferryError | None

    @property
    def authority(self) -> Side | None:
        if self.problem is not None:
            return None
        return authority_of({side: report.record for side, report in self.sides.items()})

    @property
    def record(self) -> PhaseRecord | None:
        """The one that counts."""
        return self.sides[self.authority].record if self.authority else None

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        record = self.record
        return {
            "name": self.name,
            "phase": record.phase if record else None,
            "epoch": record.epoch if record else None,
            "authority": self.authority,
            "problem": str(self.problem) if self.problem else None,
            "records": {
                side: {
                    "problem": str(report.problem) if report.problem else None,
                    "record": record_dict(report.record) if report.record else None,
                    "writers": [writer_dict(name, entry) for name, entry in sorted(report.writers.items())],
                }
                for side, report in self.sides.items()
            },
        }


def report_on(store: RecordStore) -> PhaseReport:
    """Looks at both sides; what one does not say is in the report."""
    sides: dict[Side, SideReport] = {}
    for side in Side:
        try:
            look = store.look(side)
        except (ServerError, RecordError) as error:
            sides[side] = SideReport(error, None, {})
        else:
            sides[side] = SideReport(None, look.record, look.writers)
    return PhaseReport(store.name, sides, _problem(sides))


def _problem(sides: Mapping[Side, SideReport]) -> KeyferryError | None:
    records = {side: report.record for side, report in sides.items()}
    try:
        check_single(records)
    except RecordError as error:
        return error
    if authority_of(records) is not None:
        return None
    for report in sides.values():
        if report.problem is not None:
            return report.problem
    found = [record for record in records.values() if record is not None]
    if not found:
        return None
    if {record.kind for record in found} == {Kind.LOST, Kind.PENDING}:
        return RecordError(
            "A commit has been made and its mark is not complete yet.",
            "The first writer completes it, or: keyferry phase set NAME SOURCE TARGET PHASE.",
        )
    return RecordError(
        "Neither side has authority.", "Was a server flushed, replaced, or restored from a copy?"
    )


def record_dict(record: PhaseRecord) -> dict[str, Any]:
    """One record for --json."""
    return {
        "kind": record.kind,
        "epoch": record.epoch,
        "phase": record.phase,
        "back": record.back,
        "at_ms": record.stamp.at_ms,
        "by": record.stamp.by,
    }


def writer_dict(name: str, entry: WriterEntry) -> dict[str, Any]:
    """One writer for --json."""
    return {
        "id": name,
        "host": entry.facts.host,
        "pid": entry.facts.pid,
        "program": entry.facts.program,
        "client": entry.facts.client,
        "phase": entry.phase,
        "epoch": entry.epoch,
        "lease_ms": entry.lease_ms,
        "renewals": entry.renewals,
        "since_ms": entry.since_ms,
        "seen_ms": entry.seen_ms,
        "connections": {side: len(entry.connections.get(side, ())) for side in Side},
        "note": entry.note,
    }


def outcome_dict(name: str, outcome: Outcome) -> dict[str, Any]:
    """The end of a step for --json."""
    return {
        "name": name,
        "phase": outcome.record.phase,
        "epoch": outcome.record.epoch,
        "authority": outcome.side,
        "changed": outcome.changed,
        "waiting": [writer_dict(one, entry) for one, entry in sorted(outcome.waiting.items())],
        "gone": outcome.gone,
        "notes": list(outcome.notes),
    }
