"""Rows beside the ones that they are compared with: speed, CPU per key, and ratios round by round. No I/O."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence

from bench.figures import median_per_key_us, rate, rates, spread
from bench.markdown import NONE, table, us
from bench.samples import RowResult, Sample

Figure = Callable[[Sample], float | None]
FIGURES: dict[str, Figure] = {
    "keys/s": rate,
    "tool CPU, copying": lambda sample: sample.work.phase_cpu_s,
    "tool CPU, process": lambda sample: sample.work.tool_cpu_s,
    "source CPU": lambda sample: sample.source_cpu_s,
    "target CPU": lambda sample: sample.target_cpu_s,
}
"""What is compared; every row carries the same keys, so that CPU need not be divided by them."""
TOOL_CPU = "tool CPU, copying"
COPYING, WORKING = "copying", "copying or comparing"
"""What the tools' own phase is called."""


def speeds(rows: Sequence[RowResult], phase: str = COPYING) -> str:
    """Speed and CPU time per key of every row that was measured, as a table."""
    head = ("", "keys/s", "min – max", f"CPU per key, us: tool, {phase}", "tool, process", "source", "target")
    lines: list[tuple[str, ...]] = []
    for row in rows:
        found = spread(rates(row))
        if found is not None:
            costs = [us(median_per_key_us(row, which)) for which in ("phase", "tool", "source", "target")]
            lines.append((row.title, f"{found.median:,.0f}", f"{found.low:,.0f} – {found.high:,.0f}", *costs))
    return table(head, lines)


def ratios(rows: Sequence[RowResult], bases: Mapping[str, str], phase: str = COPYING) -> str:
    """Every figure as a multiple of another row's in the same round, as a table: the median and its span.

    Args:
        bases: Row -> the row that it is compared with, by name.
    """
    by_name = {row.name: row for row in rows}
    lines: list[tuple[str, ...]] = []
    for name, base in bases.items():
        row, other = by_name[name], by_name[base]
        cells = [_spread(of_rounds(row, other, figure)) for figure in FIGURES]
        if any(cell != NONE for cell in cells):
            lines.append((f"{row.title} : {other.title}", *cells))
    heads = [f"tool CPU, {phase}" if figure == TOOL_CPU else figure for figure in FIGURES]
    return table(("ratios, round by round", *heads), lines)


def of_rounds(row: RowResult, base: RowResult, figure: str) -> list[float]:
    """One ratio per round in which both rows have the figure."""
    read = FIGURES[figure]
    # Not strict: a row that failed in a later round has fewer.
    pairs = [(read(mine), read(other)) for mine, other in zip(row.samples, base.samples, strict=False)]
    return [mine / other for mine, other in pairs if mine is not None and other]


def _spread(values: Sequence[float]) -> str:
    if not values:
        return NONE
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{statistics.median(values):.2f} ({min(values):.2f} – {max(values):.2f})"
