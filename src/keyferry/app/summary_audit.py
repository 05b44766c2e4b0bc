"""What an audit says to people at its end: the commands by their way, the worst first, then what to do."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from keyferry.capture.audit import AuditReport, CommandUse, Way
from keyferry.capture.tap import LIMIT_WORDS
from keyferry.model.keys import escape
from keyferry.model.words import count, counted, duration

SAFE_SHOWN = 12
KEY_SHOWN = 60
WAY_WIDTH = 10

_STYLES = {
    Way.REFUSED: "bold red",
    Way.UNKNOWN: "bold yellow",
    Way.REPORTED: "yellow",
    Way.REWRITTEN: "cyan",
    Way.SAFE: "green",
}


def of_audit(report: AuditReport) -> RenderableType:
    """The end of an audit."""
    return Group(Text(_title(report), style="bold"), *_commands(report), *_remarks(report), *_verdict(report))


def _title(report: AuditReport) -> str:
    servers = "" if report.servers == 1 else f" on {report.servers} primaries"
    ended = "Interrupted after" if report.interrupted else "Looked for"
    return f"{ended} {duration(report.seconds)}{servers}: {counted(report.calls, 'call')} of {counted(_in_use(report), 'command')}."


def _in_use(report: AuditReport) -> int:
    return sum(1 for use in report.uses if use.calls or use.sampled)


def _commands(report: AuditReport) -> Iterator[Text]:
    """A line for each command but the safe ones, of which the most called are named together."""
    shown = [
        use for use in report.uses if use.way is not Way.SAFE or (use.crossing and report.target_cluster)
    ]
    width = max((len(use.name) for use in shown), default=0)
    if shown:
        yield Text(
            f"  {'':<{WAY_WIDTH}} {'command':<{width}} {'calls/s':>9} {'since start':>14}", style="dim"
        )
    for use in shown:
        rate = use.calls / report.seconds if report.seconds else 0.0
        details = ", ".join(_details(use, bool(report.target_cluster)))
        yield Text.assemble(
            (f"  {use.way:<{WAY_WIDTH}}", _STYLES[use.way]),
            f" {use.name:<{width}} {_rate(rate):>9} {count(use.calls_total):>14}",
            (f"  {details}" if details else "", "dim"),
        )
    safe = [use for use in report.of(Way.SAFE) if use.calls or use.sampled]
    named = ", ".join(use.name for use in safe[:SAFE_SHOWN]) + (", ..." if len(safe) > SAFE_SHOWN else "")
    what = f"{counted(len(safe), 'command')}: {named}" if safe else "no other command"
    yield Text.assemble((f"  {Way.SAFE:<{WAY_WIDTH}}", _STYLES[Way.SAFE]), f" {what}")


def _rate(calls: float) -> str:
    return count(calls) if calls >= 9.95 else f"{calls:.1f}"


def _details(use: CommandUse, target_cluster: bool) -> Iterator[str]:
    if use.sampled:
        yield f"{count(use.sampled)} sampled"
    if use.crossing and target_cluster:
        yield f"{count(use.crossing)} across slots"
    if use.undeclared:
        yield f"{count(use.undeclared)} touched keys that they were not told"
    if use.keys:
        names = (escape(key) for key in use.keys)
        yield "keys " + " ".join(
            name if len(name) <= KEY_SHOWN else f"{name[:KEY_SHOWN]}..." for name in names
        )


def _remarks(report: AuditReport) -> Iterator[Text]:
    if report.uptime_seconds is not None:
        yield Text(
            f"Its start was {duration(report.uptime_seconds)} ago; CONFIG RESETSTAT sets the counters back.",
            style="dim",
        )
    if report.sample is not None:
        lines = counted(report.sample.lines, "line")
        yield Text(f"MONITOR: {lines} in {duration(report.sample.seconds)}.", style="dim")
        for server, why in report.sample.stopped.items():
            yield Text(f"MONITOR of {server} ended early: {LIMIT_WORDS.get(why, why)}.", style="yellow")
    for note in report.notes:
        yield Text(note, style="yellow")


def _verdict(report: AuditReport) -> Iterator[Text]:
    advice = report.advice
    must = [one for one in advice if one.must]
    for one in advice:
        mark, style = ("to change", "bold red") if one.must else ("to know", "yellow")
        yield Text.assemble((f"{mark}: ", style), one.sentence)
    if must:
        yield Text(
            f"Change {counted(len(must), 'thing')} in the application before the phase dual.",
            style="bold red",
        )
    elif report.sample is None:
        yield Text("Nothing seen has to be changed before the phase dual.", style="bold green")
    else:
        yield Text("Nothing seen, nor sampled, has to be changed before the phase dual.", style="bold green")
