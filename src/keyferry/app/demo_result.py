"""What the demo says: what was typed, what became of it, and what the service has seen, counted. Without I/O."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.text import Text

from keyferry.model.words import count, counted, duration
from keyferry.telemetry.migrating import MigrationReport
from keyferry.testing.service_crowd import Counted, Tally

NAME_WIDTH = 8
USUAL = 0.999


@dataclass(frozen=True, slots=True)
class Seen:
    """One switch.

    Attributes:
        gate_ms: As the migration says; None when nobody had to wait.
        longest_ms: The longest wait of a call of the service while it was made.
    """

    direction: str
    gate_ms: float | None
    longest_ms: float
    writers: int


@dataclass(frozen=True, slots=True)
class Result:
    """What the service has seen.

    Attributes:
        quiet_ns: Waits of calls while nobody switched; sorted.
    """

    counted: Counted
    tally: Tally
    switches: Sequence[Seen]
    quiet_ns: Sequence[int]

    @property
    def well(self) -> bool:
        counted, tally = self.counted, self.tally
        wrong = counted.missing or counted.doubled or counted.findings or tally.stale
        return not wrong and not tally.failed and not tally.unknown


def row(name: str, text: str) -> Text:
    return Text.assemble((f"{name:<{NAME_WIDTH}}", "dim"), text)


def typed(command: str) -> Text:
    return Text.assemble(("$ ", "dim"), (command, "bold"))


def said(sentence: str) -> Text:
    return Text(f"  {sentence}")


def result_lines(result: Result) -> Iterator[Text]:
    """The table of switches, then what was counted."""
    yield Text("\nWhat the service saw", style="bold")
    yield Text(f"  {'switch':<10}{'gate':>10}{'longest wait of a call':>26}", style="dim")
    for seen in result.switches:
        gate = "-" if seen.gate_ms is None else f"{seen.gate_ms:.1f} ms"
        yield Text(f"  {seen.direction:<10}{gate:>10}{f'{seen.longest_ms:.1f} ms':>26}")
    if result.quiet_ns:
        usual = result.quiet_ns[math.ceil(USUAL * len(result.quiet_ns)) - 1] / 1e6
        longest = result.quiet_ns[-1] / 1e6
        yield Text(
            f"  {'no switch':<10}{'':>10}{f'{longest:.1f} ms':>26}   (999 of 1,000 below {usual:.1f} ms)",
            style="dim",
        )
    style = "bold green" if result.well else "bold red"
    for sentence in verdict(result):
        yield Text(sentence, style=style)
    for finding in (*result.counted.findings, *result.counted.errors):
        yield Text(f"  {finding}")


def verdict(result: Result) -> Iterator[str]:
    """What was counted, in two sentences."""
    tally, found = result.tally, result.counted
    yield (
        f"{counted(tally.writes, 'acknowledged write')}, counted one by one: "
        f"{count(found.missing)} lost, {count(found.doubled)} doubled."
    )
    errors = counted(tally.failed + tally.unknown, "error")
    yield f"{counted(tally.reads, 'read')}: {count(tally.stale)} stale. {errors}."


def migration_line(report: MigrationReport) -> Text:
    """Where the time went."""
    stages = ", ".join(f"{stage} {duration(s)}" for stage, s in report.stages.items() if s >= 0.05)
    return row("stages", stages)
