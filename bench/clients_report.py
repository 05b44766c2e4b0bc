"""From pairs of batches to the clients' section of the page, without I/O."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from bench.clients import PIPELINE_COMMANDS, Batch, PairRow
from bench.figures import Goal, percentile
from bench.markdown import table
from bench.page import Section

PLAIN_MAX, INLINE_MAX, BACKGROUND_MAX, PIPELINE_MAX = 1.05, 1.0, 1.25, 1.15
INTRO = (
    "Each row: batches of redis-py and of Keyferry's client in turn, over and over, in one process; the ratio is the "
    "median over the pairs of the whole process's CPU, a background mirror's worker included. *redis-py twice* is the "
    f"same call to both servers, one after the other. A pipeline is {PIPELINE_COMMANDS} SETs of 64 bytes, without MULTI. "
    "*Caller* is the CPU of the calling thread alone."
)


def clients_section(rows: Sequence[PairRow]) -> Section:
    """The section of the page."""
    head = (
        "client", "phase", "call", "beside", "CPU ratio", "span", "caller's ratio", "CPU us", "redis-py us",
        "calls/s", "p50 us", "p99 us", "redis-py p50", "p99",
    )  # fmt: skip
    lines = [_line(row) for row in rows]
    text = "\n\n".join([INTRO, table(head, lines)])
    return Section("clients", "Drop-in clients beside redis-py", goals(rows), text)


def _line(row: PairRow) -> tuple[str, ...]:
    found, caller = ratios(row), statistics.median(_thread_ratios(row))
    base, ours = [pair[0] for pair in row.pairs], [pair[1] for pair in row.pairs]
    waits, base_waits = _waits(ours), _waits(base)
    return (
        row.kind,
        row.phase,
        row.call,
        row.base,
        f"{statistics.median(found):.2f}",
        f"{min(found):.2f}-{max(found):.2f}",
        f"{caller:.2f}",
        f"{_cpu_us(ours):.1f}",
        f"{_cpu_us(base):.1f}",
        f"{1e9 * len(waits) / sum(waits):,.0f}",
        f"{percentile(waits, 0.5) / 1e3:.0f}",
        f"{percentile(waits, 0.99) / 1e3:.0f}",
        f"{percentile(base_waits, 0.5) / 1e3:.0f}",
        f"{percentile(base_waits, 0.99) / 1e3:.0f}",
    )


def ratios(row: PairRow) -> list[float]:
    """Of each pair: our CPU per call over redis-py's."""
    return [(ours.process_s / ours.calls) / (base.process_s / base.calls) for base, ours in row.pairs]


def _thread_ratios(row: PairRow) -> list[float]:
    return [(ours.thread_s / ours.calls) / (base.thread_s / base.calls) for base, ours in row.pairs]


def _cpu_us(batches: Sequence[Batch]) -> float:
    return statistics.median(batch.process_s / batch.calls for batch in batches) * 1e6


def _waits(batches: Sequence[Batch]) -> list[int]:
    return sorted(wait for batch in batches for wait in batch.latency_ns)


def goals(rows: Sequence[PairRow]) -> list[Goal]:
    """What the clients set out to reach, against what this run measured."""
    return [goal for row in rows if (goal := _goal(row)) is not None]


def _goal(row: PairRow) -> Goal | None:
    if row.call == "pipeline":
        most, beside = PIPELINE_MAX, "redis-py on both sides together"
        if row.base != "redis-py twice":
            return None
    elif row.phase in {"source", "target"}:
        most, beside = PLAIN_MAX, "redis-py"
    elif row.call == "SET" and row.phase == "dual":
        most, beside = INLINE_MAX, "two sequential redis-py calls"
    elif row.call == "SET" and row.phase == "dual, background":
        most, beside = BACKGROUND_MAX, "redis-py"
    else:
        return None
    text = f"{row.kind}, {row.phase}: {row.call} at most {most:.2f} of {beside} (CPU)"
    found = ratios(row)
    if not found:
        return Goal(text, "not measured", None)
    median = statistics.median(found)
    return Goal(text, f"{median:.2f} (pairs: {min(found):.2f} to {max(found):.2f})", median <= most)
