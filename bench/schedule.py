"""Runs the rows round by round, so that what the machine does meanwhile hits all of them alike.

A round runs every row once, on a fresh target; each round begins with another row. The rounds with the light
client come after the ones without it: the client costs CPU, which on few cores the servers would miss.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from bench.arena import Arena, cpu_seconds, key_count
from bench.catalogue import all_rows
from bench.datasets import DATA_SETS, load
from bench.latency import Watcher
from bench.options import Options
from bench.prepare import record
from bench.rows import Context, Row
from bench.samples import BenchError, DataResult, RowResult, Sample
from bench.server_rows import read_source
from keyferry.model.errors import KeyferryError
from keyferry.testing.servers import ServerBinary

IDLE_S = 5.0
QUICK_IDLE_S = 1.0


def measure(name: str, binary: ServerBinary, options: Options, *, latency: bool) -> DataResult:
    """All rows on one data set; ``latency`` asks for the rounds with the light client too.

    Raises:
        BenchError: The source cannot be loaded or read.
        KeyferryError: A server does not start, or is lost outside of a row.
    """
    rows = all_rows()
    results = [RowResult(row, rows[row].title) for row in options.rows]
    asked = options.keys_of(name)
    with Arena(binary) as arena:
        _say(f"{name}: loading {asked:,} keys")
        keys = load(arena.source, DATA_SETS[name], asked)
        _say(f"{name}: recording requests")
        streams = record(arena)
        runner = Runner(arena, Context(arena, streams, keys, options.sample_keys, Path()), rows, name)
        for result in results:
            result.problem = rows[result.name].unavailable()
        for number in range(options.rounds):
            runner.round(results, number, options.rounds, watched=False)
        idle: list[int] = []
        if latency:
            idle = runner.idle(QUICK_IDLE_S if options.quick else IDLE_S)
            for number in range(options.latency_rounds):
                runner.round(results, number, options.latency_rounds, watched=True)
    return DataResult(name, DATA_SETS[name].title, keys, options.sample_keys, results, idle)


class Runner:
    """Runs rows in one arena. A row that fails says so in its result and is left out from then on."""

    def __init__(self, arena: Arena, context: Context, rows: Mapping[str, Row], label: str) -> None:
        self._arena = arena
        self._context = context
        self._rows = rows
        self._label = label

    def idle(self, seconds: float) -> list[int]:
        """What the light client sees while nothing else happens, in microseconds, sorted."""
        with Watcher(self._arena.source.port) as watcher:
            time.sleep(seconds)
        return sorted(watcher.seen.latencies_us)

    def round(self, results: list[RowResult], number: int, rounds: int, *, watched: bool) -> None:
        """Runs every row once, beginning with row ``number``; ``watched`` with the light client."""
        first = number % len(results)
        for result in results[first:] + results[:first]:
            if result.problem:
                continue
            try:
                said = self._watched(result) if watched else self._unwatched(result)
            except (BenchError, KeyferryError) as error:
                result.problem, result.failed = f"failed: {error}", True
                said = result.problem
            kind = "latency round" if watched else "round"
            _say(f"{self._label}: {kind} {number + 1}/{rounds}, {result.name}: {said}")

    def _unwatched(self, result: RowResult) -> str:
        sample = self._run(self._rows[result.name])
        result.samples.append(sample)
        return f"{sample.work.keys / sample.work.seconds:,.0f} keys/s"

    def _watched(self, result: RowResult) -> str:
        watcher = Watcher(self._arena.source.port)
        self._run(self._rows[result.name], watcher)
        seen = watcher.seen
        result.latency.rounds.append(seen.latencies_us)
        result.latency.client_cpu_shares.append(seen.cpu_share)
        return (
            f"{len(seen.latencies_us):,} requests, slowest {max(seen.latencies_us, default=0) / 1000:.1f} ms"
        )

    def _run(self, row: Row, watcher: Watcher | None = None) -> Sample:
        arena = self._arena
        arena.fresh_target()
        with tempfile.TemporaryDirectory(prefix="keyferry-bench-") as directory:
            found = self._context
            context = Context(arena, found.streams, found.keys, found.sample_keys, Path(directory))
            source_cpu, target_cpu = cpu_seconds(arena.source), cpu_seconds(arena.target)
            if watcher is None:
                work = row.run(context)
            else:
                with watcher:
                    work = row.run(context)
            sample = Sample(
                work, cpu_seconds(arena.source) - source_cpu, cpu_seconds(arena.target) - target_cpu
            )
        if row.forks_source:
            read_source(self._context)
        arrived, expected = key_count(arena.target), row.arriving(context)
        if arrived != expected:
            raise BenchError(f"the target holds {arrived:,} keys instead of {expected:,}")
        return sample


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
