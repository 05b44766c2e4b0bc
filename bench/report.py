"""The page: figures to Markdown, without I/O. Every figure on it comes from the run."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from bench.figures import (
    GOAL_DATA,
    GOAL_KEYS,
    goals,
    limit_shares,
    median_per_key_us,
    peak_bytes,
    percentile,
    rates,
    spread,
)
from bench.machine import Machine, Versions
from bench.rows import SOURCE_LIMIT, TARGET_LIMIT
from bench.samples import DataResult, RowResult

NONE = "–"
HOW_TO_READ = """\
## How to read this

- The two limits are no tools. The source's is every key read with SCAN, DUMP and its expiry from requests
  that were made in advance in pages of 100 keys, with the replies thrown away; the target's is every key
  written with RESTORE, made in advance too. No copy by SCAN can be faster than the slower of the two,
  except where it may leave out requests (expiries, when no key has one). The share of the limit is computed
  round by round; its median is shown.
- *keys/s* counts the copying itself, from the first request to the last reply, as the tool reports it; for
  tools that do not say, their whole process. *Process* is the time from the start of the tool to its end,
  with interpreter start, checks and reports, which weigh more on small data sets.
- Source, target and tool share the cores named above. With fewer than three, a tool's own CPU is taken from
  the servers, and even one that does nothing but forward bytes cannot reach 100 %.
- CPU per key: of a server, what its INFO counts from before the row to after it, children included
  (replication forks the source). Of a tool, its whole process divided by the keys, and the part in the
  copying phase where the tool tells it. Of the limits, the benchmark's own replay.
- Peak memory is the largest resident size of the tool's process (`ru_maxrss`), the largest of all rounds.
  That of a tool smaller than the 10 MB of the process that starts it shows as that.
- Latency is measured in rounds of its own, after the others: the light client is a process that needs CPU,
  so the speeds above are measured without it. It sends 1,000 requests per second (GET and SET in turn) over
  one connection to the source at fixed times, whether or not earlier replies have come, and counts from the
  time at which each was due. On busy cores it also waits for its own turn; the row *nothing else* shows its
  floor. Values of all rounds are pooled; they cover the whole run of the row, the start and the end of the
  tool's process included.
- After each run the target's DBSIZE must be the expected number, else the row is shown as failed. The
  target is a new process each time. The source is loaded once; after a row that forked it, it is read once
  more, unmeasured, so that the next row does not pay for the pages that it shared with its child.
- The recipe's loop starts four processes per key; it runs on a sample, and its speed does not depend on the
  rest.
"""


@dataclass(frozen=True, slots=True)
class Page:
    """Everything that the page says.

    Attributes:
        remark: What is out of the ordinary in this run, or empty.
    """

    machine: Machine
    versions: Versions
    command_line: str
    rounds: int
    latency_rounds: int
    results: list[DataResult]
    remark: str


def render(page: Page) -> str:
    parts = [
        "# Benchmark",
        f"Written by `{page.command_line}` on {page.versions.date}; every figure is of that run.",
    ]
    if page.remark:
        parts.append(f"**{page.remark}**")
    parts += [_conditions(page), _goals(page.results)]
    for data in page.results:
        parts += [_heading(data), _speed(data), _cost(data), _latency(data), _problems(data)]
    parts.append(HOW_TO_READ.rstrip())
    return "\n\n".join(part for part in parts if part) + "\n"


def _conditions(page: Page) -> str:
    machine, versions = page.machine, page.versions
    rows = [
        (
            "CPU",
            f"{machine.cpu}, {machine.cores} core{'s' if machine.cores > 1 else ''}, shared by everything",
        ),
        ("Memory", f"{machine.memory_gib:.0f} GiB"),
        ("System", machine.system),
        ("Servers", f"{versions.server} on both sides, over TCP on 127.0.0.1, nothing saved to disk"),
        ("Python", f"{versions.python}, redis-py {versions.redis_py}"),
        ("Keyferry", f"{versions.keyferry}; commit {versions.commit}"),
        (
            "Rounds",
            f"{page.rounds} for speed and cost, then {page.latency_rounds} for latency; rows interleaved",
        ),
    ]
    return "## Conditions\n\n" + _table(("what", "value"), rows)


def _goals(results: Sequence[DataResult]) -> str:
    data = next((data for data in results if data.name == GOAL_DATA), None)
    small = f", here with {data.keys:,} keys only" if data and data.keys < GOAL_KEYS else ""
    words = {True: "reached", False: "**not reached**", None: NONE}
    rows = [(goal.text, goal.measured, words[goal.reached]) for goal in goals(results)]
    intro = f"For {GOAL_KEYS:,} strings of 64 bytes between two local Redis 7.0 servers{small}:"
    return f"## Goals\n\n{intro}\n\n" + _table(("goal", "measured", ""), rows)


def _heading(data: DataResult) -> str:
    return f"## {data.keys:,} {data.title}"


def _speed(data: DataResult) -> str:
    rows: list[tuple[str, ...]] = []
    for row in data.rows:
        found = spread(rates(row))
        if found is None:
            continue
        seconds = statistics.median(sample.work.seconds for sample in row.samples)
        process = [sample.work.process_seconds for sample in row.samples]
        whole = [value for value in process if value is not None]
        shares = limit_shares(row, data)
        rows.append(
            (
                _title(row),
                f"{found.median:,.0f}",
                f"{found.low:,.0f} – {found.high:,.0f}",
                f"{statistics.median(shares):.1%}" if shares else NONE,
                f"{seconds:.2f}",
                f"{statistics.median(whole):.2f}" if whole else NONE,
            )
        )
    return _table(("speed", "keys/s", "min – max", "of the slower limit", "s", "process, s"), rows)


def _cost(data: DataResult) -> str:
    rows: list[tuple[str, ...]] = []
    for row in data.rows:
        if not row.samples:
            continue
        peak = peak_bytes(row)
        rows.append(
            (
                _title(row),
                _us(median_per_key_us(row, "phase")),
                _us(median_per_key_us(row, "tool")),
                _us(median_per_key_us(row, "source")),
                _us(median_per_key_us(row, "target")),
                f"{peak / 1e6:.0f}" if peak else NONE,
            )
        )
    head = ("CPU per key, us", "tool, copying", "tool, process", "source", "target", "tool's peak memory, MB")
    return _table(head, rows)


def _latency(data: DataResult) -> str:
    rows = [_latency_row("nothing else", data.idle_us, "")] if data.idle_us else []
    for row in data.rows:
        values = row.latency.pooled
        if values:
            shares = row.latency.client_cpu_shares
            rows.append(_latency_row(_title(row), values, f"{statistics.median(shares):.0%}"))
    head = (
        "light client on the source meanwhile, ms",
        "p50",
        "p99",
        "p99.9",
        "max",
        "requests",
        "its CPU, of a core",
    )
    return _table(head, rows) if rows else ""


def _latency_row(title: str, values: Sequence[int], share: str) -> tuple[str, ...]:
    shown = [percentile(values, 0.5), percentile(values, 0.99), percentile(values, 0.999), values[-1]]
    return (title, *(f"{value / 1e3:.2f}" for value in shown), f"{len(values):,}", share or NONE)


def _problems(data: DataResult) -> str:
    return "\n".join(f"- {row.title}: {row.problem}" for row in data.rows if row.problem)


def _title(row: RowResult) -> str:
    if row.name in (SOURCE_LIMIT, TARGET_LIMIT):
        return f"*{row.title}*"
    return (
        f"{row.title}, {row.samples[0].work.keys} keys" if row.name == "recipe" and row.samples else row.title
    )


def _us(value: float | None) -> str:
    return NONE if value is None else f"{value:,.2f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [
        _line(head),
        _line(["---"] + ["---:"] * (len(head) - 1)) if len(head) > 3 else _line(["---"] * len(head)),
    ]
    return "\n".join(lines + [_line(row) for row in rows])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
