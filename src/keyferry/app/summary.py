"""What a finished copy, and a plan of one, say to people. Short and true: no line for what did not happen."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from keyferry.app.words import count, counted, duration, size
from keyferry.model.methods import Method
from keyferry.telemetry.report import CARRYING_METHODS, CopyReport

if TYPE_CHECKING:
    from keyferry.copy.run import CopyPlan

METHOD_WORDS = {
    Method.RESTORE: "as they are",
    Method.RESIGNED: "re-signed",
    Method.TRANSCODED: "transcoded",
    Method.LOGICAL: "by commands",
}


def of_copy(report: CopyReport, failures_file: Path | None) -> Table:
    """The end of a copy."""
    run, total = report.run, report.total
    rate = f"{count(run.scanned / report.seconds)} keys/s, " if report.seconds > 0 else ""
    table = _table()
    table.add_row(
        Text(
            f"Copied {counted(run.copied, 'key')} in {duration(report.seconds)} ({rate}{size(run.bytes)}).",
            style="bold green" if not total.failed else "bold yellow",
        )
    )
    rows = [("carried", ", ".join(_carried(run.methods)))]
    if run.skipped:
        rows.append(("skipped", f"{count(run.skipped)}: on the target already"))
    if run.vanished:
        rows.append(("vanished", f"{count(run.vanished)}: expired or deleted while the copy ran"))
    if total.failed:
        where = f"reasons in {failures_file}" if failures_file else "reasons with --failures FILE"
        rows.append(("failed", f"{count(total.failed)}: {where}"))
    rows += [("not carried", f"{what} ({counted(keys, 'key')})") for what, keys in report.notes.items()]
    if report.functions:
        rows.append(("functions", f"{counted(report.functions, 'library').replace('librarys', 'libraries')}"))
    if report.throttled_seconds >= 0.1:
        rows.append(
            ("held back", f"{duration(report.throttled_seconds)}, by the latency guard or your limits")
        )
    if report.resumed:
        done = f"{counted(total.copied, 'key')} in {duration(report.total_seconds)}"
        rows.append(("all runs", f"{done}, this one included"))
    _add(table, rows)
    return table


def of_plan(plan: CopyPlan) -> Table:
    """What a copy would do."""
    table = _table()
    databases = ", ".join(f"{source} to {target}" for source, target in plan.databases)
    table.add_row(Text(f"Would copy about {counted(plan.keys, 'key')}. Nothing was written.", style="bold"))
    rows = [
        ("databases", databases or "none: no database that was chosen holds keys"),
        ("data", f"about {size(plan.estimated_bytes)}"),
        (
            "time",
            "not known" if plan.seconds_estimate is None else f"about {duration(plan.seconds_estimate)}",
        ),
    ]
    _add(table, rows + [(kind, method) for kind, method in plan.methods.items()])
    return table


def _carried(methods: list[int]) -> list[str]:
    return [
        f"{count(methods[method])} {METHOD_WORDS[method]}" for method in CARRYING_METHODS if methods[method]
    ]


def _table() -> Table:
    return Table.grid()


def _add(table: Table, rows: Iterable[tuple[str, str]]) -> None:
    inner = Table.grid(padding=(0, 2))
    for name, text in rows:
        if text:
            inner.add_row(Text(f"  {name}", style="dim"), Text(text))
    table.add_row(inner)
