"""What a finished copy, and a plan of one, say to people. Short and true: no line for what did not happen."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rich.text import Text

from keyferry.copy.plan import CopyPlan
from keyferry.model.methods import Method
from keyferry.model.words import count, counted, duration, size
from keyferry.telemetry.report import CARRYING_METHODS, CopyReport

METHOD_WORDS = {
    Method.RESTORE: "as they are",
    Method.RESIGNED: "re-signed",
    Method.TRANSCODED: "transcoded",
    Method.LOGICAL: "by commands",
    Method.IMPOSSIBLE: "not at all",
}


NOTE_WORDS = {
    "entries_added": "entries-added of streams",
    "max_deleted_id": "max-deleted-id of streams",
    "entries_read": "entries-read of stream groups",
    "consumer_active_time": "active times of stream consumers",
    "field_expiry": "expiry of hash fields",
    "consumer_times": "seen and active times of stream consumers",
    "consumers": "stream consumers without pending entries",
    "eviction_hint": "idle time or frequency of keys carried by commands",
    "changed_meanwhile": "keys that the target holds with another value since the copy began",
}
_NAME_WIDTH = 13


def of_copy(report: CopyReport, failures_file: Path | None) -> Text:
    """The end of a copy."""
    run, total = report.run, report.total
    rate = f"{count(run.scanned / report.seconds)} keys/s, " if report.seconds > 0 else ""
    rows = [("carried", ", ".join(_carried(run.methods)))]
    if run.skipped:
        rows.append(("skipped", f"{count(run.skipped)}: on the target already"))
    if run.vanished:
        rows.append(("vanished", f"{count(run.vanished)}: expired or deleted while the copy ran"))
    if total.failed:
        where = f"reasons in {failures_file}" if failures_file else "reasons with --failures FILE"
        rows.append(("failed", f"{count(total.failed)}: {where}"))
    rows += [
        ("not carried", f"{NOTE_WORDS.get(note, note)} ({counted(keys, 'key')})")
        for note, keys in report.notes.items()
    ]
    if report.functions:
        rows.append(
            ("functions", f"{report.functions} {'library' if report.functions == 1 else 'libraries'}")
        )
    if report.throttled_seconds >= 0.1:
        rows.append(
            ("held back", f"{duration(report.throttled_seconds)}, by the latency guard or your limits")
        )
    if report.resumed:
        done = f"{counted(total.copied, 'key')} in {duration(report.total_seconds)}"
        rows.append(("all runs", f"{done}, this one included"))
    title = f"Copied {counted(run.copied, 'key')} in {duration(report.seconds)} ({rate}{size(run.bytes)})."
    return lines(title, "bold yellow" if total.failed else "bold green", rows)


def of_plan(plan: CopyPlan) -> Text:
    """What a copy would do."""
    databases = ", ".join(_place(source, target) for source, target in plan.databases)
    seconds = plan.seconds_estimate
    rows = [
        ("databases", databases or "none that was chosen holds keys"),
        ("data", f"about {size(plan.estimated_bytes)} of payload"),
        ("time", "not known" if seconds is None else f"about {duration(seconds)}"),
        *((name, _method_words(methods)) for name, methods in plan.methods.items()),
    ]
    return lines(f"Would copy about {counted(plan.keys, 'key')}. Nothing was written.", "bold", rows)


def _carried(methods: list[int]) -> list[str]:
    return [
        f"{count(methods[method])} {METHOD_WORDS[method]}" for method in CARRYING_METHODS if methods[method]
    ]


def _method_words(methods: str) -> str:
    """ "restore, resigned" in words."""
    known = {method.name.lower(): words for method, words in METHOD_WORDS.items()}
    return ", ".join(known[name] for name in methods.split(", "))


def _place(source: int, target: int) -> str:
    return f"{source}" if source == target else f"{source} into {target}"


def lines(title: str, style: str, rows: Iterable[tuple[str, str]]) -> Text:
    """A title, and a line for each row that says something."""
    text = Text.assemble((title, style))
    for name, what in rows:
        if what:
            text.append_text(Text.assemble((f"\n  {name:<{_NAME_WIDTH}}", "dim"), what))
    return text
