"""Big keys: how long another client of each server waits while they are carried, in each way that there is.

Two pingers, one per server, are processes of their own from before a tool starts until after it has ended. On few
cores they also wait for their turn behind servers and tool; what that alone can cost is measured with as many
processes that do nothing but keep the cores busy.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench.arena import Arena
from bench.big_data import BigKind, BigSize, fill_big, fill_old, look_at_big
from bench.latency import PINGER, Watcher
from bench.samples import BenchError, Work
from bench.tools import Errand, redisshake_missing, run_keyferry, run_redis_py, run_redisshake
from keyferry.model.errors import KeyferryError
from keyferry.testing.servers import ServerBinary

TOOL_TIMEOUT_S = 300.0
BUSY_CPU_S_MAX = 60
BUSY_PROCESSES = 3
"""Source, target and tool."""
PIPELINE_KEYS = 1_000


@dataclass(frozen=True, slots=True)
class Waits:
    """What the two pingers saw at the same time, in microseconds."""

    source_us: list[int]
    target_us: list[int]


@dataclass(slots=True)
class BigRow:
    """All runs of one way. ``old``: the target held other values under the same keys."""

    name: str
    title: str
    old: bool
    works: list[Work] = field(default_factory=list)
    waits: list[Waits] = field(default_factory=list)
    problem: str = ""
    failed: bool = False


@dataclass(frozen=True, slots=True)
class BigResult:
    """All ways on one type.

    Attributes:
        idle: While nothing else ran.
        busy: While ``BUSY_PROCESSES`` other processes kept the cores busy, and the servers had nothing to do.
        rest_s: How long each of the two was watched.
    """

    kind: BigKind
    size: BigSize
    idle: Waits
    busy: Waits
    rest_s: float
    rows: list[BigRow]


KEYFERRY, ONE_BY_ONE, PIPELINE, REDISSHAKE = "keyferry", "one-by-one", "pipeline", "redisshake"
TITLES = {
    KEYFERRY: "keyferry copy",
    ONE_BY_ONE: "DUMP and RESTORE, one key after the other",
    PIPELINE: "DUMP and RESTORE, all keys in one pipeline",
    REDISSHAKE: "RedisShake, scan reader",
}
OVER_OLD_VALUES = (KEYFERRY, ONE_BY_ONE)
"""What is measured with old values on the target too."""


def carry(name: str, errand: Errand, *, old: bool) -> Work:
    """Carries all keys in one of the ways. Raises ``BenchError`` when the tool fails."""
    if name == KEYFERRY:
        return run_keyferry(errand, "auto", ("--on-conflict", "replace") if old else ())
    if name == REDISSHAKE:
        return run_redisshake(errand)
    return run_redis_py(errand, PIPELINE_KEYS if name == PIPELINE else 1)


def measure_big(
    kind: BigKind,
    binary: ServerBinary,
    size: BigSize,
    rounds: int,
    rest_s: float,
    say: Callable[[str], None],
) -> BigResult:
    """Every way, with an empty target and with old values there; ``say`` hears of each run.

    Args:
        rest_s: How long the servers are watched without work, and again on busy cores.

    Raises:
        BenchError: The source cannot be loaded.
        KeyferryError: A server does not start, or is lost outside of a run.
    """
    rows = [BigRow(name, TITLES[name], old=False) for name in TITLES]
    rows += [BigRow(name, TITLES[name], old=True) for name in OVER_OLD_VALUES]
    for row in rows:
        row.problem = redisshake_missing() if row.name == REDISSHAKE else ""
    with Arena(binary) as arena:
        say("loading")
        fill_big(arena.source, kind, size)
        arena.fresh_target()
        with _pinging(arena) as idle:
            time.sleep(rest_s)
        with _busy_cores(), _pinging(arena) as busy:
            time.sleep(rest_s)
        for number in range(rounds):
            first = number % len(rows)
            for row in rows[first:] + rows[:first]:
                if row.problem:
                    continue
                try:
                    said = _run(row, arena, kind, size)
                except (BenchError, KeyferryError) as error:
                    row.problem, row.failed = f"failed: {error}", True
                    said = row.problem
                old = ", old values" if row.old else ""
                say(f"round {number + 1}/{rounds}, {row.name}{old}: {said}")
    return BigResult(kind, size, idle.waits, busy.waits, rest_s, rows)


def _run(row: BigRow, arena: Arena, kind: BigKind, size: BigSize) -> str:
    arena.fresh_target()
    if row.old:
        fill_old(arena.target, kind, size)
    with tempfile.TemporaryDirectory(prefix="keyferry-bench-") as directory:
        errand = Errand(arena.source, arena.target, size.keys, Path(directory), TOOL_TIMEOUT_S)
        with _pinging(arena) as seen:
            work = carry(row.name, errand, old=row.old)
    look_at_big(arena.source, arena.target, kind, size)
    row.works.append(work)
    row.waits.append(seen.waits)
    worst = (max(values) / 1e3 for values in (seen.waits.source_us, seen.waits.target_us))
    return f"{work.seconds:.2f} s, worst waits {' and '.join(f'{value:.1f} ms' for value in worst)}"


@dataclass(slots=True)
class _Seen:
    """Filled when the measurement ends."""

    waits: Waits = field(default_factory=lambda: Waits([], []))


@contextlib.contextmanager
def _pinging(arena: Arena) -> Iterator[_Seen]:
    """Both servers are pinged as long as the block runs.

    Raises:
        BenchError: A pinger fails, or gets no reply at all.
    """
    seen = _Seen()
    with Watcher(arena.source.port, PINGER) as source, Watcher(arena.target.port, PINGER) as target:
        yield seen
    seen.waits = Waits(source.seen.latencies_us, target.seen.latencies_us)
    if not (seen.waits.source_us and seen.waits.target_us):
        raise BenchError("a pinger got no reply")


@contextlib.contextmanager
def _busy_cores() -> Iterator[None]:
    """As long as the block runs; bounded, should we be killed meanwhile."""
    program = f"import time\nwhile time.process_time() < {BUSY_CPU_S_MAX}: pass"
    with contextlib.ExitStack() as stack:
        for _ in range(BUSY_PROCESSES):
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", program], stdin=subprocess.DEVNULL, start_new_session=True
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield
