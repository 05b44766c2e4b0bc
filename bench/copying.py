"""One ``keyferry copy`` in an arena: what the sections about sync and verify are measured against."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.arena import Arena, cpu_seconds, key_count
from bench.samples import BenchError, Sample
from bench.tools import Errand, run_keyferry

TOOL_TIMEOUT_S = 60.0
SLOWEST_KEYS_PER_S = 1_000
GUARDED, UNGUARDED = "guarded", "unguarded"
GUARDS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    GUARDED: ("default guard", ()),
    UNGUARDED: ("guard off", ("--max-latency", "0")),
}
"""Of the guard against latency: name -> title, the tool's arguments."""


def errand(arena: Arena, keys: int, directory: Path) -> Errand:
    return Errand(arena.source, arena.target, keys, directory, TOOL_TIMEOUT_S + keys / SLOWEST_KEYS_PER_S)


def copy_once(arena: Arena, arguments: Sequence[str], keys: int) -> Sample:
    """``keyferry copy`` to the arena's target, which is empty, and what the servers used.

    Raises:
        BenchError: It fails, or leaves another number of keys there.
    """
    source_s, target_s = cpu_seconds(arena.source), cpu_seconds(arena.target)
    with tempfile.TemporaryDirectory(prefix="keyferry-bench-") as directory:
        work = run_keyferry(errand(arena, keys, Path(directory)), "auto", arguments)
    sample = Sample(work, cpu_seconds(arena.source) - source_s, cpu_seconds(arena.target) - target_s)
    if (arrived := key_count(arena.target)) != keys:
        raise BenchError(f"the target holds {arrived:,} keys instead of {keys:,}")
    return sample
