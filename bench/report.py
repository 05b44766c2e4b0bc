"""From one data set's figures to its section of the page, without I/O, and how to read them all."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from bench.figures import goals, limit_shares, median_per_key_us, peak_bytes, percentile, rates, spread
from bench.markdown import NONE, table, us
from bench.page import Section
from bench.rows import SOURCE_LIMIT, TARGET_LIMIT
from bench.samples import DataResult, RowResult

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
- Big keys: a second client of each server, a process of its own, sends 1,000 PINGs per second with one in flight,
  from before the start of the tool's process until after its end; a wait counts from the sending of a PING to its
  reply. PINGs that were due during a wait are not made up for, so the worst wait is exact and the p99 is the least
  that it can be. `keyferry copy` runs with its defaults, and with `--on-conflict replace` over old values; the
  others are the redis-py loop with pages of one key, and of all of them. Keyferry's seconds count its own copying,
  the loops' theirs. Nobody is served faster than the machine allows: the first rows show the waits of the same
  client on idle servers, alone and beside three processes (as many as source, target and tool) that do nothing but
  keep the cores busy. A longer run meets more of the machine's own delays: their seconds stand beside. Every key's
  length is checked afterwards, and the last one's value.
- Ratios are between two runs of the same round; their median and their span are shown. 1.10 under *source CPU*
  means that the source worked a tenth more.
- The shards of a cluster share the cores of this one machine: with more servers than cores, keys/s is bound by the
  CPU of all of them; the tool's CPU per key is what its own work for several shards costs.
- Sync: *from write to target* is seen from outside: a key of its own is written on the source every 20 ms, and looked
  for on the target every few milliseconds; it counts from before its SET is sent until it is seen. *Oldest dirty
  key's age* is what the sync itself shows, ten times a second. The load generator is one process with its requests
  made in advance, sent every 10 ms as one pipeline; like the servers and the tool it needs CPU, which is shown. What
  a sync adds to the source is its CPU in seconds per second beside the load, minus that beside the same load
  without a sync. A backlog counts from the target's coming back until the sync shows no dirty key, so up to 0.1 s too
  long. Memory per dirty key is what the tool's resident memory has grown by when all are dirty, divided by them, minus
  the mean length of their names. The default guard is what users see; the guard off shows the tool's own limit.
- Verify: keys/s are the source's keys over all seconds that `keyferry verify` reports, both directions and the looks
  at suspects included.
- Clients: CPU is that of the whole process (`process_time`), per call, of a batch of calls one after the other on one
  connection; a short rest after each batch lets a background mirror finish, and what it needs counts.
- Switches: every call of every process is timed from its sending to its reply, on the machine's monotonic clock; a call
  is one command, or a pipeline of as many writes as make up the rate. The gate *as seen by the application* is the
  longest time around the switch in which writes were under way and none came back: from the first one that was held to
  the first one that returned. The *longest wait* is that of any call, read or write, that overlaps the gate or begins
  within 0.1 s after it; waits *without a switch* are those of calls at least 0.5 s away from any. On shared cores a
  process also waits for its turn. Writes are counted one by one at the end, on the server that has authority then; each
  process reads what it and others were acknowledged before. Keyferry is asked through its control socket, by the
  bench's own process, so that no command's start takes the cores. The script's application is as good as one can be: it
  hears of the switch from shared memory, without a round trip, and repeats what the old primary refuses, on the new one;
  a service that hears of it by DNS or configuration waits longer, or sees errors. The script needs two servers that
  replicate each other.
"""


def data_section(data: DataResult) -> Section:
    """One data set's section."""
    parts = [_speed(data), _cost(data), _latency(data), problems(data.rows)]
    return Section(data.name, f"{data.keys:,} {data.title}", goals(data), "\n\n".join(filter(None, parts)))


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
    return table(("speed", "keys/s", "min – max", "of the slower limit", "s", "process, s"), rows)


def _cost(data: DataResult) -> str:
    rows: list[tuple[str, ...]] = []
    for row in data.rows:
        if not row.samples:
            continue
        peak = peak_bytes(row)
        rows.append(
            (
                _title(row),
                us(median_per_key_us(row, "phase")),
                us(median_per_key_us(row, "tool")),
                us(median_per_key_us(row, "source")),
                us(median_per_key_us(row, "target")),
                f"{peak / 1e6:.0f}" if peak else NONE,
            )
        )
    head = ("CPU per key, us", "tool, copying", "tool, process", "source", "target", "tool's peak memory, MB")
    return table(head, rows)


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
    return table(head, rows)


def _latency_row(title: str, values: Sequence[int], share: str) -> tuple[str, ...]:
    shown = [percentile(values, 0.5), percentile(values, 0.99), percentile(values, 0.999), values[-1]]
    return (title, *(f"{value / 1e3:.2f}" for value in shown), f"{len(values):,}", share or NONE)


def problems(rows: Sequence[RowResult]) -> str:
    """What could not be measured, and why."""
    return "\n".join(f"- {row.title}: {row.problem}" for row in rows if row.problem)


def _title(row: RowResult) -> str:
    if row.name in (SOURCE_LIMIT, TARGET_LIMIT):
        return f"*{row.title}*"
    return (
        f"{row.title}, {row.samples[0].work.keys} keys" if row.name == "recipe" and row.samples else row.title
    )
