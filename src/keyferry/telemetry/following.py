"""What a running sync shows, and says at its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from keyferry.telemetry.progress import ThrottleState
from keyferry.telemetry.report import Counts

Stage = Literal[
    "connecting", "copying", "comparing", "following", "verifying", "waiting for a server", "stopping"
]


@dataclass(frozen=True, slots=True)
class HotKey:
    """A key that changes often.

    Attributes:
        per_second: How often it is settled.
        size_bytes: Of its value as it was last carried.
        pause_s: It is carried at most every so often.
    """

    key: bytes
    database: int
    per_second: float
    size_bytes: int
    pause_s: float


@dataclass(frozen=True, slots=True)
class BigKey:
    """A key that is too big for one DUMP, so it is carried in pieces.

    Attributes:
        size_bytes: As MEMORY USAGE or STRLEN said; 0 where it is not known.
        members: Members, fields or entries; None where they were not counted.
        type: As TYPE says; empty where it was not asked.
    """

    key: bytes
    database: int
    size_bytes: int
    members: int | None = None
    type: str = ""


@dataclass(frozen=True, slots=True)
class FailedKey:
    """A key that could not be carried, and why, as a sentence."""

    key: bytes
    database: int
    reason: str


@dataclass(frozen=True, slots=True)
class ShardLook:
    """One server of the side that is followed.

    Attributes:
        shard: Its address.
        feed: Which feed names what changes there; empty while none is attached.
        keys_total: That it held when it was met last; None where it does not say.
        keys_done: That the first copy has gone over; None when that is done.
        latency_ms: Of a small request of ours; None while it is not known.
    """

    shard: str
    dirty_keys: int
    feed: str
    keys_total: int | None = None
    keys_done: int | None = None
    latency_ms: float | None = None


@dataclass(frozen=True, slots=True)
class SyncProgress:
    """One look at a running sync.

    Attributes:
        feed: Which feed is used: tracking, notifications, sweeps.
        generation: 1, and one more after each gap.
        keys_total: As in ``Progress``, of the pass that runs (copy, comparison); ``keys_done`` too.
        changes_per_second: Namings of keys by the feed.
        dirty_keys: Named and not settled.
        lag_s: Age of the oldest dirty key; 0.0 without one.
        settled_per_second: Dirty keys that became equal.
        cutover_s: Dirty keys over the best settle rate seen: what writers would wait now; None until measured.
        hottest: At most 3, the hottest first.
        foreign_keys: Keys that somebody else has written on the target.
        failed: Keys that could not be carried, and still differ.
        biggest: At most 5 of those that were met, the biggest first.
        shard_looks: At most 64.
        failures: At most 20 of those that failed, the newest last.
        away: The side of this run that is waited for; empty without one.
    """

    stage: Stage
    feed: str
    generation: int
    keys_total: int
    keys_done: int
    keys_per_second: float
    seconds_left: float | None
    changes_per_second: float
    dirty_keys: int
    lag_s: float
    settled_keys: int
    settled_per_second: float
    cutover_s: float | None
    hottest: tuple[HotKey, ...]
    foreign_keys: int
    failed: int
    elapsed_s: float
    source_latency_ms: float | None
    target_latency_ms: float | None
    throttle: ThrottleState
    shards: int = 1
    biggest: tuple[BigKey, ...] = ()
    shard_looks: tuple[ShardLook, ...] = ()
    failures: tuple[FailedKey, ...] = ()
    away: Literal["", "source", "target"] = ""


@dataclass(slots=True)
class SyncReport:
    """``copied``: of the copy and of later comparisons; ``settled``: dirty keys made equal, deletions too."""

    copied: Counts
    synced: bool = False
    """The copy was done, the lag small, and a verification pass left no suspect."""
    feed: str = ""
    generations: int = 1
    changes: int = 0
    settled: int = 0
    deleted: int = 0
    failed: int = 0
    extra_deleted: int = 0
    foreign_keys: int = 0
    verified: int = 0
    lag_s: float = 0.0
    lag_max_s: float = 0.0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    throttled_seconds: float = 0.0
    resumed: bool = False
    notes: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {
            "synced": self.synced,
            "feed": self.feed,
            "generations": self.generations,
            "copied": self.copied.as_dict(),
            "changes": self.changes,
            "settled": self.settled,
            "deleted": self.deleted,
            "failed": self.failed,
            "extra_deleted": self.extra_deleted,
            "foreign_keys": self.foreign_keys,
            "verified": self.verified,
            "lag_seconds": round(self.lag_s, 3),
            "lag_max_seconds": round(self.lag_max_s, 3),
            "seconds": round(self.seconds, 3),
            "cpu_seconds": round(self.cpu_seconds, 3),
            "throttled_seconds": round(self.throttled_seconds, 3),
            "resumed": self.resumed,
            "not_carried": self.notes,
        }


SyncObserver = Callable[[SyncProgress], None]
"""Called at most ten times a second."""
