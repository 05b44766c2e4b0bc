"""What a run of the benchmark is asked to do."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from bench.big_data import BIG_KINDS, BigSize
from bench.cutover_data import CutoverSize
from bench.datasets import DATA_SETS
from bench.rows import REDISSHAKE_VARIABLE, ROW_NAMES
from bench.sync_data import SyncSize

DEFAULT_ROUNDS = 5
DEFAULT_BIG_ROUNDS = 1
LATENCY_ROUNDS_MAX = 3
DEFAULT_SAMPLE_KEYS = 300
QUICK_SAMPLE_KEYS = 40
QUICK_SHARE = 10
"""``--quick`` takes one key in so many."""
BIG_SECTIONS = tuple(f"big-{kind}" for kind in BIG_KINDS)
SECTIONS = (*DATA_SETS, "guard", *BIG_SECTIONS, "cluster", "sync", "verify", "clients", "cutover")
"""In the order of the page."""
GROUPS = {"big": BIG_SECTIONS}
BIG_SIZE = BigSize(keys=20, members=200_000)
SMALL_BIG_SIZE = BigSize(keys=3, members=30_000)
"""Of a small run: still above the size from which on keys travel in pieces."""
SYNC_SIZE = SyncSize(1_000_000, 30_000, 20.0, 1_000, 300_000, 75_000)
CLIENT_PAIRS, SMALL_CLIENT_PAIRS = 15, 3
"""Pairs of batches per row of the clients' section."""
CUTOVER_SIZE = CutoverSize(1_000_000, 20, 10_000, 20, 2.0, 15.0)
SMALL_CUTOVER_SIZE = CutoverSize(5_000, 3, 600, 1, 0.3, 1.5)
SMALL_SYNC_SIZE = SyncSize(2_000, 2_000, 2.0, 50, 1_500, 10_000)


@dataclass(frozen=True, slots=True)
class Options:
    """``--keys`` and ``--quick`` shrink the data sets; figures of such a run say that they are small.

    Attributes:
        rounds: Throughput rounds; every row runs once in each.
        big_rounds: Rounds of the sections about big keys.
        rows: Of the data sets' sections.
        sections: Names out of ``SECTIONS``, in its order.
        latency_rounds: Rounds with the light client, in a pass of their own.
        keys: Keys of every data set; None is each data set's own number.
        sample_keys: Keys that the recipe's loop carries.
    """

    rounds: int
    latency_rounds: int
    big_rounds: int
    rows: tuple[str, ...]
    sections: tuple[str, ...]
    keys: int | None
    sample_keys: int
    quick: bool
    output: Path
    command_line: str

    @property
    def small(self) -> bool:
        return self.quick or self.keys is not None

    @property
    def client_pairs(self) -> int:
        return SMALL_CLIENT_PAIRS if self.small else CLIENT_PAIRS

    @property
    def big_size(self) -> BigSize:
        return SMALL_BIG_SIZE if self.small else BIG_SIZE

    @property
    def sync_size(self) -> SyncSize:
        return SMALL_SYNC_SIZE if self.small else SYNC_SIZE

    @property
    def cutover_size(self) -> CutoverSize:
        return SMALL_CUTOVER_SIZE if self.small else CUTOVER_SIZE

    def keys_of(self, data: str) -> int:
        full = DATA_SETS[data].keys
        if self.keys is not None:
            return self.keys
        return full // QUICK_SHARE if self.quick else full


def parse_options(arguments: Sequence[str]) -> Options:
    """Reads the command line; argparse ends the process with 2 on a bad one."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measures, and writes a Markdown page section by section.",
        epilog=f"{REDISSHAKE_VARIABLE} may name a RedisShake 4 binary, which then joins the table.",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a tenth of the keys, a few big ones, one round, latency on one data set",
    )
    parser.add_argument("--rounds", type=_positive, help=f"throughput rounds (default {DEFAULT_ROUNDS})")
    parser.add_argument(
        "--big-rounds",
        type=_positive,
        default=DEFAULT_BIG_ROUNDS,
        help=f"rounds with big keys, each of which takes minutes (default {DEFAULT_BIG_ROUNDS})",
    )
    parser.add_argument(
        "--only",
        type=_names(SECTIONS, GROUPS),
        default=SECTIONS,
        help="sections of the page to measure; the others stay as they are. Of: "
        + ",".join([*SECTIONS, *GROUPS]),
    )
    parser.add_argument(
        "--rows",
        type=_names(ROW_NAMES),
        default=ROW_NAMES,
        help="rows of the data sets' sections, of: " + ",".join(ROW_NAMES),
    )
    parser.add_argument("--keys", type=_positive, help="keys per data set instead of the full number")
    parser.add_argument(
        "--output", type=Path, default=Path("docs/benchmarks.md"), help="default docs/benchmarks.md"
    )
    given = parser.parse_args(arguments)
    rounds = given.rounds or (1 if given.quick else DEFAULT_ROUNDS)
    small = given.quick or given.keys is not None
    return Options(
        rounds=rounds,
        latency_rounds=min(rounds, LATENCY_ROUNDS_MAX),
        big_rounds=given.big_rounds,
        rows=given.rows,
        sections=given.only,
        keys=given.keys,
        sample_keys=QUICK_SAMPLE_KEYS if small else DEFAULT_SAMPLE_KEYS,
        quick=given.quick,
        output=given.output,
        command_line=_shown(arguments),
    )


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("use a number from 1")
    return number


class _names:  # noqa: N801 (reads as a function, like argparse's own types)
    """Reads a comma-separated choice; keeps the order of ``known``. A name of a group stands for all in it."""

    def __init__(
        self, known: tuple[str, ...], groups: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    ) -> None:
        self._known = known
        self._groups = groups

    def __call__(self, text: str) -> tuple[str, ...]:
        wanted = {name for word in text.split(",") for name in self._groups.get(word, (word,))}
        unknown = wanted - set(self._known)
        if unknown:
            raise argparse.ArgumentTypeError(
                f"{', '.join(sorted(unknown))}: choose from {','.join(self._known)}"
            )
        return tuple(name for name in self._known if name in wanted)


def _shown(arguments: Sequence[str]) -> str:
    """The command line for the page: without the output's path, which is this machine's affair."""
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if skip:
            skip = False
        elif argument == "--output":
            skip = True
        elif not argument.startswith("--output="):
            kept.append(argument)
    return " ".join(["python -m bench", *kept])
