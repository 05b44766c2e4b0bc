"""The rows of the table, in their order, and what every row is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.arena import Arena
from bench.prepare import Streams
from bench.samples import Work

REDIS_PY = "redis-py"
SOURCE_LIMIT = "source-limit"
TARGET_LIMIT = "target-limit"
KEYFERRY = "keyferry"
KEYFERRY_PURE = "keyferry-pure"
KEYFERRY_GUARDED = "keyferry-guarded"
ROW_NAMES = (
    "recipe",
    REDIS_PY,
    "redisshake",
    "replication",
    "replication-no-delay",
    SOURCE_LIMIT,
    TARGET_LIMIT,
    KEYFERRY,
    KEYFERRY_GUARDED,
    KEYFERRY_PURE,
)
REDISSHAKE_VARIABLE = "KEYFERRY_REDISSHAKE"
TOOL_TIMEOUT_S = 60.0
SLOWEST_KEYS_PER_S = 1_000
"""A tool that is slower than this on the whole data set is given up."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a row finds when it runs: a loaded source, an empty target, an empty directory.

    Attributes:
        keys: DBSIZE of the source.
        sample_keys: Keys for a row that would take hours with all of them.
    """

    arena: Arena
    streams: Streams
    keys: int
    sample_keys: int
    directory: Path

    @property
    def timeout_s(self) -> float:
        return TOOL_TIMEOUT_S + self.keys / SLOWEST_KEYS_PER_S


class Row(Protocol):
    """One way to move the data, or one limit."""

    @property
    def name(self) -> str: ...

    @property
    def title(self) -> str: ...

    @property
    def forks_source(self) -> bool:
        """The source forks for it, and pays for the pages that it shared with its child afterwards."""
        ...

    def unavailable(self) -> str:
        """Why it cannot run on this machine; empty when it can."""

    def arriving(self, context: Context) -> int:
        """Keys that the target holds afterwards."""

    def run(self, context: Context) -> Work:
        """Runs it once.

        Raises:
            BenchError: It did not do what it should.
        """
