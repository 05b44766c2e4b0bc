"""From what a sync was measured to do to its section of the page, without I/O."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence

from bench.figures import Goal, Spread, percentile, rate, spread
from bench.markdown import table
from bench.page import Section
from bench.sync_data import HOT, LOADS, UNIFORM, Backlog, Followed, SyncResult, SyncRow

LAG_P99_S_MAX = 1.0
SETTLE_SHARE_MIN = 0.6
BYTES_PER_KEY_MAX = 200
STABLE_GROWTH_MAX = 1.5
"""Dirty keys of a load's second half, as a multiple of the first half's."""


def sync_section(result: SyncResult) -> Section:
    size = result.size
    parts = [
        f"Beside {size.rate:,} writes/s for {size.seconds:g} s: SETs of 64 bytes to all keys uniformly, then 90 % of "
        f"them to {size.hot_keys:,} keys. Each load runs without a sync, too, on the same source. "
        "Then a backlog: the target is stopped (SIGSTOP) while "
        f"{size.backlog:,} other keys change on the source, and goes on when the sync knows them all.",
        _lags(result),
        _costs(result),
        _backlogs(result),
        "\n".join(f"- {row.title}: {row.problem}" for row in result.rows if row.problem),
    ]
    title = f"Following {size.keys:,} strings of 64 bytes"
    return Section("sync", title, sync_goals(result), "\n\n".join(filter(None, parts)))


def sync_goals(result: SyncResult) -> list[Goal]:
    """Lag and dirty keys with the default guard, as users see them; the rest with each."""
    guarded = result.rows[0]
    goals = [make(result, guarded, load) for make in (_lag_goal, _stable_goal) for load in LOADS]
    return [*goals, *map(_settle_goal, result.rows), *map(_memory_goal, result.rows)]


def settle_shares(row: SyncRow) -> list[float]:
    """Of each round: the rate at which a backlog was settled over that of the copy before."""
    # Not strict: a round that failed half-way has a copy only.
    pairs = zip(row.backlogs, row.copies, strict=False)
    return [backlog.per_second / rate(copied) for backlog, copied in pairs]


def dirty_growth(one: Followed) -> float:
    """The median of dirty keys in the second half of a load over that of the first; 1.0 without any."""
    middle = len(one.snapshots) // 2
    halves = one.snapshots[:middle], one.snapshots[middle:]
    first, second = (statistics.median(shot.dirty_keys for shot in half) for half in halves)
    return second / first if first else float(second or 1)


def _lag_goal(result: SyncResult, row: SyncRow, load: str) -> Goal:
    text = f"{row.title}, {_load(result, load)}: lag under {LAG_P99_S_MAX:g} s at p99"
    rounds = row.loads[load]
    if row.failed or not rounds:
        return Goal(text, "not measured", None)
    outside_s = percentile(_stamps(rounds), 0.99) / 1e6
    inside_s = percentile(_ages(rounds), 0.99) / 1e6
    shown = f"{outside_s:.3f} s from write to target; oldest dirty key {inside_s:.3f} s"
    return Goal(text, shown, max(outside_s, inside_s) < LAG_P99_S_MAX)


def _stable_goal(result: SyncResult, row: SyncRow, load: str) -> Goal:
    """Small: no more than a second's writes; stable: not growing."""
    rate_max = result.size.rate
    text = (
        f"{row.title}, {_load(result, load)}: dirty keys stable "
        f"(second half at most {STABLE_GROWTH_MAX:g} times the first) and below a second's writes ({rate_max:,})"
    )
    rounds = row.loads[load]
    if row.failed or not rounds:
        return Goal(text, "not measured", None)
    growth = statistics.median(dirty_growth(one) for one in rounds)
    most = max(shot.dirty_keys for one in rounds for shot in one.snapshots)
    return Goal(text, f"{growth:.2f} times, most {most:,}", growth <= STABLE_GROWTH_MAX and most < rate_max)


def _settle_goal(row: SyncRow) -> Goal:
    text = f"{row.title}: a backlog is settled at no less than {SETTLE_SHARE_MIN:.0%} of the copy's rate"
    found = spread(settle_shares(row))
    if row.failed or found is None:
        return Goal(text, "not measured", None)
    return Goal(text, _share(found), found.median >= SETTLE_SHARE_MIN)


def _memory_goal(row: SyncRow) -> Goal:
    text = f"{row.title}: at most {BYTES_PER_KEY_MAX} bytes per dirty key, besides its name"
    found = spread([one.bytes_per_key for one in row.backlogs])
    if row.failed or found is None:
        return Goal(text, "not measured", None)
    shown = f"{found.median:.0f} (rounds: {found.low:.0f} to {found.high:.0f})"
    return Goal(text, shown, found.high <= BYTES_PER_KEY_MAX)


def _lags(result: SyncResult) -> str:
    rows: list[tuple[str, ...]] = []
    for row, load, rounds in _measured(result):
        dirty = [shot.dirty_keys for one in rounds for shot in one.snapshots]
        rows.append(
            (
                f"{row.title}, {_load(result, load)}",
                *_three(_stamps(rounds)),
                *_three(_ages(rounds)),
                f"{statistics.median(dirty):,.0f}",
                f"{max(dirty):,}",
                f"{statistics.median(dirty_growth(one) for one in rounds):.2f}",
            )
        )
    head = (
        "lag, ms",
        "from write to target: p50",
        "p99",
        "max",
        "oldest dirty key's age: p50",
        "p99",
        "max",
        "dirty keys, median",
        "most",
        "second half : first",
    )
    return table(head, rows)


def _costs(result: SyncResult) -> str:
    rows: list[tuple[str, ...]] = []
    for load in LOADS:
        plains = result.plain[load]
        if not plains:
            continue
        source = statistics.median(one.source_cpu for one in plains)
        generator = statistics.median(one.written.cpu_share for one in plains)
        writes = statistics.median(one.written.per_second for one in plains)
        rows.append(
            (
                f"no sync, {_load(result, load)}",
                f"{writes:,.0f}",
                *("–",) * 3,
                f"{source:.2f}",
                *("–",) * 2,
                f"{generator:.2f}",
            )
        )
    for row, load, rounds in _measured(result):
        plain = result.plain[load]
        # Not strict: a row that failed has fewer rounds.
        added = [with_it.source_cpu - no.source_cpu for with_it, no in zip(rounds, plain, strict=False)]
        rows.append(
            (
                f"{row.title}, {_load(result, load)}",
                f"{_median(rounds, lambda one: one.written.per_second):,.0f}",
                f"{_median(rounds, lambda one: one.settled_keys / one.seconds):,.0f}",
                f"{_median(rounds, lambda one: one.tool_cpu):.2f}",
                f"{_median(rounds, lambda one: one.settling_cpu_us):.2f}",
                f"{_median(rounds, lambda one: one.source_cpu):.2f}",
                f"{statistics.median(added):.2f}",
                f"{_median(rounds, lambda one: one.target_cpu):.2f}",
                f"{_median(rounds, lambda one: one.written.cpu_share):.2f}",
            )
        )
    head = (
        "CPU, in cores",
        "writes/s",
        "settled keys/s",
        "tool",
        "tool, us per settled key",
        "source",
        "source, added by the sync",
        "target",
        "load generator",
    )
    return table(head, rows)


def _backlogs(result: SyncResult) -> str:
    rows: list[tuple[str, ...]] = []
    for row in result.rows:
        found, shares = row.backlogs, spread(settle_shares(row))
        settled, copied = spread([one.per_second for one in found]), spread([rate(one) for one in row.copies])
        if settled is None or copied is None or shares is None:
            continue
        rows.append(
            (
                row.title,
                f"{statistics.median(one.seconds for one in found):.2f}",
                f"{settled.median:,.0f}",
                f"{settled.low:,.0f} – {settled.high:,.0f}",
                f"{copied.median:,.0f}",
                _share(shares),
                f"{statistics.median(_cpu_us(one) for one in found):.2f}",
                f"{statistics.median(one.bytes_per_key for one in found):.0f}",
            )
        )
    head = (
        f"backlog of {result.size.backlog:,}",
        "s",
        "settled keys/s",
        "min – max",
        "copy, keys/s",
        "of the copy",
        "tool CPU per key, us",
        "memory per dirty key besides its name, bytes",
    )
    return table(head, rows)


def _measured(result: SyncResult) -> Iterator[tuple[SyncRow, str, list[Followed]]]:
    for row in result.rows:
        for load in LOADS:
            if row.loads[load]:
                yield row, load, row.loads[load]


def _load(result: SyncResult, load: str) -> str:
    return {UNIFORM: "to all keys", HOT: f"90 % to {result.size.hot_keys:,} keys"}[load]


def _stamps(rounds: Sequence[Followed]) -> list[int]:
    """Of all rounds, in microseconds, sorted."""
    return sorted(lag_us for one in rounds for lag_us in one.stamps_us)


def _ages(rounds: Sequence[Followed]) -> list[int]:
    """The oldest dirty key's, as the sync showed it; in microseconds, sorted."""
    return sorted(int(shot.lag_s * 1e6) for one in rounds for shot in one.snapshots)


def _three(ordered_us: Sequence[int]) -> tuple[str, str, str]:
    p50, p99 = percentile(ordered_us, 0.5), percentile(ordered_us, 0.99)
    return f"{p50 / 1e3:.0f}", f"{p99 / 1e3:.0f}", f"{ordered_us[-1] / 1e3:.0f}"


def _median(rounds: Sequence[Followed], read: Callable[[Followed], float]) -> float:
    return statistics.median(map(read, rounds))


def _cpu_us(backlog: Backlog) -> float:
    return 1e6 * backlog.cpu_s / backlog.keys


def _share(found: Spread) -> str:
    return f"{found.median:.0%} (rounds: {found.low:.0%} to {found.high:.0%})"
