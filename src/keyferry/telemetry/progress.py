"""What a running copy shows: one snapshot, made a few times a second, never kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

ThrottleState = Literal["off", "free", "slowed", "limited"]
"""``off``: no guard; ``free``: guard on, not slowing; ``slowed``: by latency; ``limited``: by --max-rate or
--max-bandwidth."""


@dataclass(frozen=True, slots=True)
class ShardProgress:
    """How far one shard of the source is. ``name`` is its address; ``keys_total`` as in ``Progress``."""

    name: str
    keys_total: int
    keys_done: int

    @property
    def keys_left(self) -> int:
        return max(0, self.keys_total - self.keys_done)


@dataclass(frozen=True, slots=True)
class Progress:
    """One look at a running copy.

    Rates are over the last few seconds. ``keys_total`` is the source's DBSIZE over the chosen databases, so an
    estimate while it lives. ``seconds_left`` is None until there is a rate.
    """

    stage: str
    database: int
    keys_total: int
    keys_done: int
    copied: int
    skipped: int
    vanished: int
    failed: int
    bytes_done: int
    elapsed_s: float
    keys_per_second: float
    bytes_per_second: float
    seconds_left: float | None
    source_latency_ms: float | None
    target_latency_ms: float | None
    throttle: ThrottleState
    shards: int = 1
    """Of the source."""
    slowest: ShardProgress | None = None
    """The shard with most left to do, where there are several; None when all were scanned once."""


Observer = Callable[[Progress], None]
"""Called from the copying thread, at most ten times a second."""

Teller = Callable[[str], None]
"""Takes one sentence about something that happened (retry, other process found, function copied)."""


class Alert(str):
    """A sentence that somebody should look at; told as any other, and the log gives it the level of a warning."""

    __slots__ = ()
