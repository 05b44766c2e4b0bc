"""What it costs to know every key's size: copies with the guard against big keys and without it, in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from bench.arena import Arena
from bench.compare import ratios, speeds
from bench.datasets import DATA_SETS, load
from bench.options import Options
from bench.page import Section
from bench.prepare import NO_STREAMS
from bench.report import problems
from bench.rows import Context
from bench.samples import DataResult, RowResult
from bench.schedule import Runner
from bench.tool_rows import Keyferry
from keyferry.testing.servers import ServerBinary

FULL_SPEED = ("--max-latency", "0")
UNGUARDED = (*FULL_SPEED, "--big-key-bytes", "0")
_WORDS = {"compiled": "compiled", "pure": "pure Python"}
IMPLEMENTATIONS = {"strings": ("compiled", "pure"), "mix": ("compiled",)}
"""Data set -> what runs on it."""
INTRO = (
    "What it costs to ask every key's size (MEMORY USAGE), so that none above `--big-key-bytes` is dumped in one "
    "go: the same copy with the guard and with `--big-key-bytes 0`, in turn, both with `--max-latency 0`."
)


def measure_guard(binary: ServerBinary, options: Options, say: Callable[[str], None]) -> list[DataResult]:
    """With and without the guard, per data set.

    Raises:
        BenchError: The source cannot be loaded.
        KeyferryError: A server does not start, or is lost outside of a row.
    """
    results: list[DataResult] = []
    for name, implementations in IMPLEMENTATIONS.items():
        rows = {row.name: row for each in implementations for row in _rows(each)}
        found = [RowResult(row.name, row.title, problem=row.unavailable()) for row in rows.values()]
        with Arena(binary) as arena:
            say(f"{name}: loading {options.keys_of(name):,} keys")
            keys = load(arena.source, DATA_SETS[name], options.keys_of(name))
            context = Context(arena, NO_STREAMS, keys, options.sample_keys, Path())
            runner = Runner(arena, context, rows, f"guard, {name}")
            for number in range(options.rounds):
                runner.round(found, number, options.rounds, watched=False)
        results.append(DataResult(name, DATA_SETS[name].title, keys, options.sample_keys, found, []))
    return results


def guard_section(results: Sequence[DataResult]) -> Section:
    parts = [INTRO]
    for data in results:
        bases = {
            guarded(each): unguarded(each) for each in IMPLEMENTATIONS[data.name] if _measured(data, each)
        }
        parts += [
            f"{data.keys:,} {data.title}:",
            speeds(data.rows),
            ratios(data.rows, bases),
            problems(data.rows),
        ]
    return Section("guard", "What the guard against big keys costs", [], "\n\n".join(filter(None, parts)))


def guarded(implementation: str) -> str:
    """The row's name."""
    return f"{implementation}-guarded"


def unguarded(implementation: str) -> str:
    return f"{implementation}-unguarded"


def _rows(implementation: str) -> tuple[Keyferry, Keyferry]:
    words = _WORDS[implementation]
    return (
        Keyferry(guarded(implementation), f"{words}, with the guard", implementation, FULL_SPEED),
        Keyferry(unguarded(implementation), f"{words}, without", implementation, UNGUARDED),
    )


def _measured(data: DataResult, implementation: str) -> bool:
    names = {guarded(implementation), unguarded(implementation)}
    return all(row.samples for row in data.rows if row.name in names)
