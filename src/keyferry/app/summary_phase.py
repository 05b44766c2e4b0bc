"""What the phase commands say to people: both records, the writers, how a step ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from keyferry.app.leases import is_silent
from keyferry.app.summary import lines
from keyferry.cutover.phase_report import PhaseReport, SideReport
from keyferry.cutover.phase_steps import Outcome
from keyferry.model.phases import RULES, Phase, Side
from keyferry.model.record import Kind, PhaseRecord
from keyferry.model.words import counted, duration
from keyferry.model.writers import WriterEntry

_KINDS = {
    Kind.AUTHORITY: "has authority",
    Kind.HOLD: "has authority, writes wait",
    Kind.PENDING: "would get authority by a commit",
    Kind.LOST: "has given authority away",
}
_MEANINGS = {
    Phase.SOURCE: "reads and writes on the source",
    Phase.DUAL: "reads on the source, writes on the source, then on the target",
    Phase.SHADOW: "as dual, and a sample of the reads is compared with the target",
    Phase.TARGET_DUAL: "reads on the target, writes on the target, then on the source",
    Phase.TARGET: "reads and writes on the target",
}


def of_report(report: PhaseReport, now_ms: float) -> RenderableType:
    """Both records, and the writers of the side with authority; those of the other side where there are any."""
    parts: list[RenderableType] = [_title(report), _records(report, now_ms)]
    for side in sorted(Side, key=lambda side: side is not report.authority):
        writers = report.sides[side].writers
        if writers or side is report.authority:
            parts.append(_heading(side, report, writers))
        if writers:
            parts.append(_writers(writers, report.record, now_ms))
    if report.problem is not None:
        parts += [
            Text(report.problem.message, style="bold red"),
            Text(report.problem.hint.replace("NAME", report.name)),
        ]
    elif report.record is None:
        parts.append(Text(f"Begin it with: keyferry phase set {report.name} SOURCE TARGET source"))
    return Group(*parts)


def _title(report: PhaseReport) -> Text:
    record = report.record
    if record is None:
        what = "nobody has authority" if report.problem else "there is no record yet"
        return Text(f"{report.name}: {what}.", style="bold yellow")
    meaning = _MEANINGS.get(record.phase) or f"reads on the {report.authority}, writes wait"
    return Text.assemble(
        (f"{report.name}: {record.phase}", "bold green"), f" (epoch {record.epoch}): {meaning}."
    )


def _records(report: PhaseReport, now_ms: float) -> Table:
    table = _table("side", "record", "epoch", "phase", "since", "by")
    for side, found in report.sides.items():
        table.add_row(side, *_record_cells(found, now_ms))
    return table


def _record_cells(found: SideReport, now_ms: float) -> tuple[str, ...]:
    record = found.record
    if found.problem is not None:
        return (found.problem.message, "", "", "", "")
    if record is None:
        return ("none", "", "", "", "")
    phase = f"{record.phase}, back to {record.back}" if record.back else record.phase
    return (_KINDS[record.kind], str(record.epoch), phase, _ago(record.stamp.at_ms, now_ms), record.stamp.by)


def _heading(side: Side, report: PhaseReport, writers: Mapping[str, WriterEntry]) -> Text:
    there = (
        f"{counted(len(writers), 'writer')} registered on the {side}"
        if writers
        else f"No writer on the {side}"
    )
    why = "" if side is report.authority else "; their leases do not count there"
    return Text(f"{there}{why}.")


def _writers(writers: Mapping[str, WriterEntry], record: PhaseRecord | None, now_ms: float) -> Table:
    table = _table(
        "host", "pid", "program", "client", "phase", "renewed", "lease", "mirror connections", "note"
    )
    for entry in sorted(writers.values(), key=lambda entry: (entry.facts.host, entry.facts.pid)):
        table.add_row(
            entry.facts.host,
            str(entry.facts.pid),
            entry.facts.program,
            entry.facts.client,
            _taken(entry, record),
            _renewed(entry, now_ms),
            duration(entry.lease_ms / 1000),
            ", ".join(f"{len(ids)} on the {side}" for side, ids in entry.connections.items() if ids),
            entry.note,
        )
    return table


def _taken(entry: WriterEntry, record: PhaseRecord | None) -> str:
    if entry.phase is None:
        return "none taken yet"
    if record is not None and entry.epoch < record.epoch:
        return f"still {entry.phase} (epoch {entry.epoch})"
    return entry.phase


def _renewed(entry: WriterEntry, now_ms: float) -> str:
    said = _ago(entry.seen_ms, now_ms)
    return f"{said}: silent" if is_silent(entry.seen_ms, entry.lease_ms, now_ms) else said


def _ago(at_ms: int, now_ms: float) -> str:
    """By two clocks: a hint, never a proof."""
    return f"{duration(max(0.0, now_ms - at_ms) / 1000)} ago" if at_ms else ""


def of_outcome(name: str, outcome: Outcome, now_ms: float) -> RenderableType:
    """How a step ended."""
    record = outcome.record
    verb = "is" if outcome.changed else "was already"
    rows = (
        [("writers gone", f"{counted(outcome.gone, 'entry').replace('entrys', 'entries')} taken off")]
        if outcome.gone
        else []
    )
    rows += [("note", note) for note in outcome.notes]
    title = f"{name} {verb} in {record.phase} (epoch {record.epoch}); the {outcome.side} has authority."
    parts: list[RenderableType] = [lines(title, "bold yellow" if outcome.waiting else "bold green", rows)]
    if outcome.waiting:
        parts.append(Text(f"{counted(len(outcome.waiting), 'writer')} did not take it in the time:"))
        parts.append(_writers(outcome.waiting, record, now_ms))
    parts += [Text(hint) for hint in _hints(name, outcome)]
    return Group(*parts)


def _hints(name: str, outcome: Outcome) -> Iterable[str]:
    record = outcome.record
    if outcome.waiting:
        yield "Give the same command again to go on waiting, or stop those processes: their leases then run out."
    if record.phase is Phase.HOLD:
        yield f"Writes wait now. Give it up with: keyferry phase set {name} SOURCE TARGET {record.back}"
    elif (
        RULES[record.phase].mirrors and not outcome.waiting and record.phase is Phase.DUAL and outcome.changed
    ):
        yield "Mirroring alone does not make the target equal: run keyferry sync beside it."


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(column)
    return table
