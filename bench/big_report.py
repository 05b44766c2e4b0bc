"""From the waits to the section of one type of big keys, without I/O."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from bench.big import BUSY_PROCESSES, KEYFERRY, BigResult, BigRow, Waits
from bench.figures import Goal, percentile
from bench.markdown import NONE, ms, table
from bench.page import Section

WORST_WAIT_US_MAX = 10_000
HEAD = (
    "ways, and another client's waits meanwhile, ms",
    "s",
    "members/s",
    "source: p99",
    "worst",
    "target: p99",
    "worst",
    "tool's peak memory, MB",
)


def big_section(result: BigResult) -> Section:
    size, kind = result.size, result.kind
    title = f"Big keys: {size.keys} {kind.title} of {size.members:,} members"
    rest = f"{result.rest_s:.2f}"
    rows = [
        _row("*nothing else, servers idle*", [result.idle], rest),
        _row(f"*nothing else, {BUSY_PROCESSES} processes keep the cores busy*", [result.busy], rest),
        *(_measured(row, result) for row in result.rows if row.works),
    ]
    problems = "\n".join(f"- {_title(row)}: {row.problem}" for row in result.rows if row.problem)
    body = "\n\n".join(filter(None, (table(HEAD, rows), problems)))
    return Section(f"big-{kind.name}", title, [worst_wait_goal(result)], body)


def worst_wait_goal(result: BigResult) -> Goal:
    """Of keyferry's runs, on both servers, with old values and without."""
    text = f"no other client waits longer than {WORST_WAIT_US_MAX // 1000} ms"
    rows = [row for row in result.rows if row.name == KEYFERRY]
    if any(row.failed or not row.waits for row in rows):
        return Goal(text, "not measured", None)
    worst_us = max(_worst_us(waits) for row in rows for waits in row.waits)
    shown = (
        f"{ms(worst_us)} ms (idle servers: {ms(_worst_us(result.idle))} ms, "
        f"on busy cores: {ms(_worst_us(result.busy))} ms)"
    )
    return Goal(text, shown, worst_us <= WORST_WAIT_US_MAX)


def _measured(row: BigRow, result: BigResult) -> tuple[str, ...]:
    seconds = statistics.median(work.seconds for work in row.works)
    members = result.size.keys * result.size.members
    peak = max(work.tool_peak_bytes or 0 for work in row.works)
    return _row(_title(row), row.waits, f"{seconds:.2f}", f"{members / seconds:,.0f}", f"{peak / 1e6:.0f}")


def _row(
    title: str, rounds: Sequence[Waits], seconds: str = NONE, rate: str = NONE, peak: str = NONE
) -> tuple[str, ...]:
    source, target = [waits.source_us for waits in rounds], [waits.target_us for waits in rounds]
    return (title, seconds, rate, _p99(source), _worst(source), _p99(target), _worst(target), peak)


def _title(row: BigRow) -> str:
    return f"{row.title}, over old values" if row.old else row.title


def _p99(rounds: Sequence[Sequence[int]]) -> str:
    return ms(percentile(sorted(value for values in rounds for value in values), 0.99))


def _worst(rounds: Sequence[Sequence[int]]) -> str:
    """Of each round; the smallest and the largest of them when there are several."""
    worst = sorted(max(values) for values in rounds)
    return ms(worst[0]) if len(worst) == 1 else f"{ms(worst[0])} – {ms(worst[-1])}"


def _worst_us(waits: Waits) -> int:
    return max(*waits.source_us, *waits.target_us)
