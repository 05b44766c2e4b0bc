"""How fast two servers are compared: equal ones, and ones that differ in 1 % of the keys, beside copies of them."""

from __future__ import annotations

import functools
import itertools
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bench.arena import Arena, cpu_seconds
from bench.compare import WORKING, of_rounds, ratios, speeds
from bench.copying import GUARDS, copy_once, errand
from bench.datasets import DATA_SETS, load
from bench.figures import Goal
from bench.options import Options
from bench.page import Section
from bench.report import problems
from bench.samples import BenchError, DataResult, RowResult, Sample
from bench.tools import run_verify
from keyferry.model.errors import KeyferryError
from keyferry.testing.servers import Server, ServerBinary

COPY, EQUAL, DIFFERENT = "copy", "equal", "different"
TITLES = {COPY: "keyferry copy", EQUAL: "keyferry verify, equal", DIFFERENT: "keyferry verify, 1 % differ"}
RATE_SHARE_MIN = 0.7
ONE_IN = 100
"""So many keys share one that is made to differ."""
SCAN_COUNT = 1_000
INTRO = (
    "Both directions: every key of the source with its value, type and expiry, then every key of the target that the "
    "source does not have. Where 1 % differ, half of these hold another key's value of the same type, a quarter is "
    "missing, and a quarter is there on the target alone. What differs is looked at again, "
    "with growing pauses, before it counts: these pauses are part of the seconds."
)


def row_name(kind: str, guard: str) -> str:
    """Of ``COPY``, ``EQUAL``, ``DIFFERENT`` and one of ``GUARDS``."""
    return f"{kind}-{guard}"


def measure_verify(binary: ServerBinary, options: Options, say: Callable[[str], None]) -> list[DataResult]:
    """Copies and comparisons in turn, per data set.

    Raises:
        BenchError: The source cannot be loaded.
        KeyferryError: A server does not start, or is lost outside of a row.
    """
    results: list[DataResult] = []
    for name, data in DATA_SETS.items():
        rows = {
            row_name(kind, guard): RowResult(row_name(kind, guard), f"{TITLES[kind]}, {title}")
            for kind in TITLES
            for guard, (title, _) in GUARDS.items()
        }
        with Arena(binary) as arena:
            say(f"{name}: loading {options.keys_of(name):,} keys")
            keys = load(arena.source, data, options.keys_of(name))
            bench = _Round(arena, keys, rows, functools.partial(_say_of, say, name))
            for number in range(options.rounds):
                bench.run(number, options.rounds)
        results.append(DataResult(name, data.title, keys, 0, list(rows.values()), []))
    return results


def _say_of(say: Callable[[str], None], name: str, line: str) -> None:
    say(f"{name}: {line}")


class _Round:
    """Every row once: each guard's copy, then the comparisons of what the last copy has left."""

    def __init__(
        self, arena: Arena, keys: int, rows: Mapping[str, RowResult], say: Callable[[str], None]
    ) -> None:
        self._arena, self._keys, self._rows, self._say = arena, keys, rows, say

    def run(self, number: int, rounds: int) -> None:
        guards = list(GUARDS) if number % 2 == 0 else list(GUARDS)[::-1]
        steps: list[tuple[str, str]] = [(kind, guard) for kind in TITLES for guard in guards]
        different = 0
        for kind, guard in steps:
            row = self._rows[row_name(kind, guard)]
            if kind == COPY:
                self._arena.fresh_target()
            if kind == DIFFERENT and not different:
                different = make_different(self._arena.target)
            if row.problem:
                continue
            try:
                sample = self._sample(kind, GUARDS[guard][1], different)
                row.samples.append(sample)
                said = f"{self._keys / sample.work.seconds:,.0f} keys/s"
            except (BenchError, KeyferryError) as error:
                row.problem, row.failed = f"failed: {error}", True
                said = row.problem
            self._say(f"round {number + 1}/{rounds}, {row.title}: {said}")

    def _sample(self, kind: str, arguments: Sequence[str], different: int) -> Sample:
        arena = self._arena
        if kind == COPY:
            return copy_once(arena, arguments, self._keys)
        source_s, target_s = cpu_seconds(arena.source), cpu_seconds(arena.target)
        with tempfile.TemporaryDirectory(prefix="keyferry-bench-") as directory:
            work, found = run_verify(errand(arena, self._keys, Path(directory)), arguments)
        sample = Sample(work, cpu_seconds(arena.source) - source_s, cpu_seconds(arena.target) - target_s)
        if found != different:
            raise BenchError(f"it found {found:,} differences instead of {different:,}")
        return sample


def make_different(target: Server) -> int:
    """Makes one key in ``ONE_IN`` of a copy differ; returns how many.

    Half get the value of the next of them with the same type, a quarter is deleted, and for a quarter a key is added.

    Raises:
        BenchError: The server did not do it.
    """
    with target.session(side="target") as session:
        names: list[bytes] = []
        cursor = b"0"
        while True:
            match session.call("SCAN", cursor, "COUNT", SCAN_COUNT):
                case [bytes(cursor), list(page)]:
                    names += [name for name in page if isinstance(name, bytes)]
                case reply:
                    raise BenchError(f"SCAN says {reply!r}")
            if cursor == b"0":
                break
        chosen = sorted(set(names))[::ONE_IN]
        types = session.pipeline([("TYPE", name) for name in chosen])
        by_type: defaultdict[object, list[bytes]] = defaultdict(list)
        for name, kind in zip(chosen, types, strict=True):
            by_type[kind].append(name)
        replies = []
        for number, same in enumerate(by_type.values()):
            quarter = len(same) // 4
            gone, added, stale = same[:quarter], same[quarter : 2 * quarter], same[2 * quarter :]
            replies += session.pipeline([("DEL", name) for name in gone])
            replies += session.pipeline([("COPY", name, b"added:%d:%b" % (number, name)) for name in added])
            # The last would get the first's new value, which is another than both had.
            replies += session.pipeline(
                [("COPY", other, name, "REPLACE") for name, other in itertools.pairwise(stale)]
            )
    if any(reply != 1 for reply in replies):
        raise BenchError("the target could not be made to differ")
    return len(replies)


def verify_section(results: Sequence[DataResult]) -> Section:
    parts = [INTRO]
    goals: list[Goal] = []
    for data in results:
        bases = {
            row_name(kind, guard): row_name(COPY, guard) for kind in (EQUAL, DIFFERENT) for guard in GUARDS
        }
        parts += [
            f"{data.keys:,} {data.title}:",
            speeds(data.rows, WORKING),
            ratios(data.rows, bases, WORKING),
            problems(data.rows),
        ]
        goals += [_goal(data, kind, guard) for kind in (EQUAL, DIFFERENT) for guard in GUARDS]
    return Section("verify", "Comparing two servers", goals, "\n\n".join(filter(None, parts)))


def _goal(data: DataResult, kind: str, guard: str) -> Goal:
    rows = {row.name: row for row in data.rows}
    row, base = rows[row_name(kind, guard)], rows[row_name(COPY, guard)]
    text = f"{data.name}: {row.title}: at least {RATE_SHARE_MIN:.0%} of the copy's rate"
    found = of_rounds(row, base, "keys/s")
    if row.failed or base.failed or not found:
        return Goal(text, "not measured", None)
    median = statistics.median(found)
    return Goal(
        text, f"{median:.0%} (rounds: {min(found):.0%} to {max(found):.0%})", median >= RATE_SHARE_MIN
    )
