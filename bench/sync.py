"""How far a sync is behind, what it costs, how fast it catches up, and what a dirty key takes of its memory.

One sync after the other, with the default guard against latency and without: the copy of the same keys before each,
then the two loads, then a backlog. The target is stopped (SIGSTOP) while the backlog's keys are written, so that
none of them can be settled before all are dirty.
"""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.arena import Arena, cpu_seconds, key_count
from bench.aside import Aside
from bench.copying import GUARDS, copy_once
from bench.figures import rate
from bench.following import Following, Snapshot
from bench.load import Load, key_name, loading, written
from bench.samples import BenchError
from bench.sync_data import LOADS, Backlog, Followed, Plain, SyncResult, SyncRow, SyncSize
from keyferry.model.errors import KeyferryError
from keyferry.testing.dataset import fill_strings
from keyferry.testing.servers import ServerBinary

STAMPS_TIMEOUT_S = 60.0
FULL_TIMEOUT_S = 60.0
REST_S = 0.5
"""Between the end of a load and the look at the memory that the backlog's is compared with."""
SNAPSHOTS_MIN = 4


def measure_sync(binary: ServerBinary, size: SyncSize, rounds: int, say: Callable[[str], None]) -> SyncResult:
    """Every load without a sync, then with each setting; ``say`` hears of each step.

    Raises:
        BenchError: The source cannot be loaded, or a load fails without a sync.
        KeyferryError: A server does not start, or is lost outside of a row.
    """
    rows = [SyncRow(name, title, arguments) for name, (title, arguments) in GUARDS.items()]
    result = SyncResult(size, {name: [] for name in LOADS}, rows)
    with Arena(binary) as arena:
        say(f"loading {size.keys:,} keys")
        with arena.session(arena.source) as session:
            fill_strings(session, size.keys, expiring=0.0)
        for number in range(rounds):
            prefix = f"round {number + 1}/{rounds}"
            for name, load in size.loads(number).items():
                plain = _plain(arena, load)
                result.plain[name].append(plain)
                say(f"{prefix}, {name}, no sync: {plain.source_cpu:.0%} of a core")
            first = number % len(rows)
            for row in rows[first:] + rows[:first]:
                if not row.problem:
                    _attempt(arena, row, size, number, functools.partial(_say_of, say, prefix, row.title))
    return result


def _say_of(say: Callable[[str], None], prefix: str, title: str, line: str) -> None:
    say(f"{prefix}, {title}, {line}")


def _attempt(arena: Arena, row: SyncRow, size: SyncSize, number: int, say: Callable[[str], None]) -> None:
    try:
        _round(arena, row, size, number, say)
    except (BenchError, KeyferryError) as error:
        row.problem, row.failed = f"failed: {error}", True
        say(row.problem)


def _plain(arena: Arena, load: Load) -> Plain:
    with loading(arena.source.port, load) as aside:
        cpu_s = cpu_seconds(arena.source)
    found = written(aside)
    return Plain(found, (cpu_seconds(arena.source) - cpu_s) / found.seconds)


def _round(arena: Arena, row: SyncRow, size: SyncSize, number: int, say: Callable[[str], None]) -> None:
    arena.fresh_target()
    copied = copy_once(arena, row.arguments, key_count(arena.source))
    row.copies.append(copied)
    say(f"copy: {rate(copied):,.0f} keys/s")
    arena.fresh_target()
    with (
        tempfile.TemporaryDirectory(prefix="keyferry-bench-") as directory,
        Following(arena.source.url, arena.target.url, Path(directory), row.arguments) as sync,
    ):
        _wait_until_level(sync, size)
        for name, load in size.loads(number).items():
            followed = _follow(arena, sync, load)
            _wait_until_level(sync, size)
            row.loads[name].append(followed)
            say(f"{name}: slowest stamp {max(followed.stamps_us) / 1e3:.0f} ms")
        backlog = _backlog(arena, sync, size, number)
        row.backlogs.append(backlog)
        say(f"backlog: {backlog.per_second:,.0f} keys/s, {backlog.bytes_per_key:.0f} bytes per key")
    counts = [key_count(server) for server in (arena.source, arena.target)]
    if counts[0] != counts[1]:
        raise BenchError(f"the source holds {counts[0]:,} keys, the target {counts[1]:,}")


def _wait_until_level(sync: Following, size: SyncSize) -> Snapshot:
    """Everything is copied, and nothing dirty."""
    return sync.wait(
        "nothing dirty", lambda one: one.stage == "following" and not one.dirty_keys, size.timeout_s
    )


def _follow(arena: Arena, sync: Following, load: Load) -> Followed:
    ports = [str(arena.source.port), str(arena.target.port)]
    stamps = Aside("bench.stamps", ports, end_timeout_s=STAMPS_TIMEOUT_S)
    with stamps:
        with loading(arena.source.port, load) as aside:
            source_s, target_s = cpu_seconds(arena.source), cpu_seconds(arena.target)
        source_s, target_s = cpu_seconds(arena.source) - source_s, cpu_seconds(arena.target) - target_s
    came = written(aside)
    snapshots = sync.between(came.begun_s, came.ended_s)
    lags_us = sorted(stamps.found["lags_us"])
    if len(snapshots) < SNAPSHOTS_MIN or not lags_us:
        raise BenchError(f"{len(snapshots)} snapshots and {len(lags_us)} stamps in {came.seconds:.1f} s")
    return Followed(came, lags_us, snapshots, source_s / came.seconds, target_s / came.seconds)


def _backlog(arena: Arena, sync: Following, size: SyncSize, number: int) -> Backlog:
    load = Load(size.backlog, size.backlog_rate, size.keys, distinct=True, seed=10 * number + 2)
    time.sleep(REST_S)
    before = sync.last
    with loading(arena.source.port, load):
        # The generator's start takes its time, in which the target still answers.
        arena.target.pause()
    try:
        full = sync.wait("all dirty", lambda one: one.dirty_keys >= load.writes, FULL_TIMEOUT_S)
        resumed_s = time.monotonic()
    finally:
        arena.target.resume()
    level = _wait_until_level(sync, size)
    waiting = sync.between(resumed_s, level.at_s)
    cpu_s = level.cpu_s - max(full.cpu_s, waiting[0].cpu_s)
    names = sum(len(key_name(at)) for at in range(size.keys)) * load.writes // size.keys
    grown = full.resident_bytes - before.resident_bytes
    return Backlog(load.writes, level.at_s - resumed_s, cpu_s, grown, names)
