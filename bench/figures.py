"""From samples to the figures of the page, without I/O."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from bench.rows import KEYFERRY, KEYFERRY_GUARDED, KEYFERRY_PURE, SOURCE_LIMIT, TARGET_LIMIT
from bench.samples import DataResult, RowResult, Sample

GOAL_DATA = "strings"
LIMIT_SHARE_MIN = 0.85
TOOL_CPU_US_MAX = 0.6
PEAK_BYTES_MAX = 150_000_000
PURE_KEYS_PER_S_MIN = 100_000
GUARDED_P99_US_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Spread:
    """Of several rounds."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Goal:
    """``reached`` is None where the run did not measure it."""

    text: str
    measured: str
    reached: bool | None


def spread(values: Sequence[float]) -> Spread | None:
    return Spread(statistics.median(values), min(values), max(values)) if values else None


def rate(sample: Sample) -> float:
    """Keys per second of the copying itself."""
    return sample.work.keys / sample.work.seconds


def rates(row: RowResult) -> list[float]:
    return [rate(sample) for sample in row.samples]


def median_per_key_us(row: RowResult, which: str) -> float | None:
    """The median of one kind of CPU time per key, in microseconds; None where a round lacks it.

    Args:
        which: ``tool``, ``phase`` (the tool's copying phase), ``source`` or ``target``.
    """
    values: list[float] = []
    for sample in row.samples:
        work = sample.work
        seconds = {
            "tool": work.tool_cpu_s,
            "phase": work.phase_cpu_s,
            "source": sample.source_cpu_s,
            "target": sample.target_cpu_s,
        }[which]
        if seconds is None:
            return None
        values.append(seconds / work.keys * 1e6)
    return statistics.median(values) if values else None


def peak_bytes(row: RowResult) -> int | None:
    """The largest of all rounds."""
    return max((sample.work.tool_peak_bytes or 0 for sample in row.samples), default=0) or None


def limit_shares(row: RowResult, data: DataResult) -> list[float]:
    """Per round: the row's speed as a share of the slower server's own limit in the same round."""
    source, target = find(data, SOURCE_LIMIT), find(data, TARGET_LIMIT)
    if source is None or target is None:
        return []
    # Not strict: a row that failed in a later round has fewer.
    limits = [min(pair) for pair in zip(rates(source), rates(target), strict=False)]
    return [mine / limit for mine, limit in zip(rates(row), limits, strict=False)]


def percentile(ordered: Sequence[int], share: float) -> int:
    """Nearest rank; ``ordered`` is sorted and not empty."""
    return ordered[max(0, min(len(ordered) - 1, -int(-share * len(ordered) // 1) - 1))]


def find(data: DataResult, name: str) -> RowResult | None:
    return next((row for row in data.rows if row.name == name), None)


def goals(data: DataResult) -> list[Goal]:
    """What Keyferry set out to reach on this data set, against what this run measured."""
    if data.name != GOAL_DATA:
        return [_memory_goal(data)]
    return [_limit_goal(data), _cpu_goal(data), _memory_goal(data), _pure_goal(data), _latency_goal(data)]


def _row(data: DataResult, name: str) -> RowResult | None:
    row = find(data, name)
    return row if row and not row.problem and row.samples else None


def _limit_goal(data: DataResult) -> Goal:
    text = f"compiled: at least {LIMIT_SHARE_MIN:.0%} of the slower server's own limit"
    row = _row(data, KEYFERRY)
    found = spread(limit_shares(row, data)) if row else None
    if found is None:
        return Goal(text, "not measured", None)
    shown = f"{found.median:.1%} (rounds: {found.low:.1%} to {found.high:.1%})"
    return Goal(text, shown, found.median >= LIMIT_SHARE_MIN)


def _cpu_goal(data: DataResult) -> Goal:
    text = f"compiled: at most {TOOL_CPU_US_MAX} us of the tool's CPU per key in the copying phase"
    row = _row(data, KEYFERRY)
    if row is None:
        return Goal(text, "not measured", None)
    phase, whole = median_per_key_us(row, "phase"), median_per_key_us(row, "tool")
    if phase is not None:
        return Goal(text, f"{phase:.2f} us", phase <= TOOL_CPU_US_MAX)
    if whole is not None:
        return Goal(text, f"{whole:.2f} us, start and end of the process included", whole <= TOOL_CPU_US_MAX)
    return Goal(text, "not measured", None)


def _memory_goal(data: DataResult) -> Goal:
    text = f"peak memory under {PEAK_BYTES_MAX // 10**6} MB"
    names = (KEYFERRY, KEYFERRY_GUARDED, KEYFERRY_PURE)
    rows = [row for name in names if (row := _row(data, name))]
    peaks = [peak for row in rows if (peak := peak_bytes(row))]
    if not peaks:
        return Goal(text, "not measured", None)
    return Goal(
        text, f"{max(peaks) / 1e6:.0f} MB, the largest of {len(peaks)} rows", max(peaks) < PEAK_BYTES_MAX
    )


def _pure_goal(data: DataResult) -> Goal:
    text = f"pure Python: at least {PURE_KEYS_PER_S_MIN:,} keys/s"
    row = _row(data, KEYFERRY_PURE)
    found = spread(rates(row)) if row else None
    if found is None:
        return Goal(text, "not measured", None)
    shown = f"{found.median:,.0f} keys/s (rounds: {found.low:,.0f} to {found.high:,.0f})"
    return Goal(text, shown, found.median >= PURE_KEYS_PER_S_MIN)


def _latency_goal(data: DataResult) -> Goal:
    text = f"guard on its default: the light client's p99 on the source under {GUARDED_P99_US_MAX // 1000} ms"
    row = _row(data, KEYFERRY_GUARDED)
    values = row.latency.pooled if row else []
    if row is None or not values:
        return Goal(text, "not measured", None)
    p99 = percentile(values, 0.99)
    worst = max(percentile(sorted(one), 0.99) for one in row.latency.rounds if one)
    return Goal(text, f"{p99 / 1e3:.2f} ms (worst round {worst / 1e3:.2f} ms)", p99 < GUARDED_P99_US_MAX)
