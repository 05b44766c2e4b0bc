"""What a running sync shows: rates, lag, latencies; and evictions on the target, which end it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

from keyferry.capture.dirty_bigs import Hot
from keyferry.copy.connect import Sides
from keyferry.copy.info import info_number
from keyferry.copy.pace import Pace
from keyferry.copy.probe import Probe
from keyferry.follow.biggest import biggest_of
from keyferry.follow.shard_looks import ShardLooks
from keyferry.follow.source import Followed
from keyferry.follow.supply import DirtySupply
from keyferry.model.errors import ServerError, Side
from keyferry.telemetry.following import BigKey, FailedKey, HotKey, Stage, SyncObserver, SyncProgress
from keyferry.telemetry.meter import Meter

SHOW_EVERY_S = 0.1
KEEP_UP = 1.2
WORK_OFF_S = 2.0
FAILURES_SHOWN = 20
BACKLOG_KEYS = 500
"""With fewer dirty keys the rate of settling says how fast keys change, not how fast they can be settled."""


class FollowWatch:
    """Of one run. The stage and what it goes over are set from outside."""

    def __init__(
        self,
        pace: Pace,
        sources: dict[str, Followed],
        observe: SyncObserver,
        probes: Callable[[], list[Probe]],
        sides: Sides,
    ) -> None:
        self._looks = ShardLooks(sides, sources)
        self._pace, self._sources, self._observe, self._probes = pace, sources, observe, probes
        self.stage: Stage = "connecting"
        self.away: Literal["", "source", "target"] = ""
        """The side that is waited for."""
        self._earlier_bigs: tuple[BigKey, ...] = ()
        self.feed = ""
        self.generation = 1
        self.keys_total = self.keys_done = 0
        self.foreign_keys = self.failed = 0
        self.lag_max_s = 0.0
        self._began_s = time.monotonic()
        self._shown_s = 0.0
        self._keys, self._changes, self._settled = Meter(), Meter(), Meter()
        self._best = 0.0
        self._evicted: int | None = None

    @property
    def changes(self) -> int:
        return sum(source.changes for source in self._sources.values())

    @property
    def settled(self) -> int:
        return sum(source.settled for source in self._sources.values())

    @property
    def progress(self) -> tuple[int, int, int]:
        """Changes whenever something is settled, copied or compared."""
        return self.settled, self.keys_done, self.generation

    @property
    def dirty_keys(self) -> int:
        return sum(source.dirty_keys for source in self._sources.values())

    def lag_s(self, now_s: float, *, with_big: bool = True) -> float:
        """Age of the oldest dirty key. Args: with_big: Keys that are too big for one DUMP count, too."""
        since = [
            source.oldest_s() if with_big else source.small_oldest_s() for source in self._sources.values()
        ]
        found = [since_s for since_s in since if since_s is not None]
        return max(0.0, now_s - min(found)) if found else 0.0

    def enter(self, stage: Stage, away: Literal["", "source", "target"] = "") -> None:
        """A stage begins; the bar begins anew. Args: away: The side that is waited for."""
        self.away = away
        if stage != self.stage:
            self.stage = stage
            self._keys = Meter()

    def needed_rate(self, *, scanning: bool) -> float:
        """Keys per second that must be allowed, so that dirty keys do not become more and more.

        Args: scanning: A copy or a comparison takes half of what is allowed.
        """
        now = time.monotonic()
        rate = KEEP_UP * self._changes.rate(now, self.changes) + self.dirty_keys / WORK_OFF_S
        return 2 * rate if scanning else rate

    def turn(self, *, force: bool = False) -> None:
        """Shows a snapshot when one is due.

        Raises:
            ServerError: The target has begun to evict keys.
        """
        now = time.monotonic()
        if not force and now - self._shown_s < SHOW_EVERY_S:
            return
        self._shown_s = now
        self._look_for_evictions()
        self._keys.mark(now, self.keys_done)
        self._changes.mark(now, self.changes)
        self._settled.mark(now, self.settled)
        self._observe(self._snapshot(now))

    def evictions(self, evicted: int | None) -> None:
        """The target's count of evicted keys, from which they are counted on."""
        self._evicted = evicted

    def _look_for_evictions(self) -> None:
        found = [
            info_number(probe.info, "stats", "evicted_keys")
            for probe in self._probes()
            if probe.side == "target"
        ]
        known = [count for count in found if count is not None]
        if not found or len(known) < len(found):
            return
        evicted = sum(known)
        if self._evicted is not None and evicted > self._evicted:
            raise ServerError(
                "target",
                f"The target has begun to evict keys ({evicted - self._evicted:,} since the sync began).",
                "Raise its maxmemory or make room, then give the same command again: it compares all keys and writes the lost ones anew.",
            )
        self._evicted = evicted

    def _snapshot(self, now: float) -> SyncProgress:
        lag_s = self.lag_s(now)
        self.lag_max_s = max(self.lag_max_s, lag_s)
        dirty = self.dirty_keys
        settled_rate = self._settled.rate(now, self.settled)
        if dirty > BACKLOG_KEYS:
            self._best = max(self._best, settled_rate)
        best = max(self._best, settled_rate)
        rate = self._keys.rate(now, self.keys_done)
        left = max(0, self.keys_total - self.keys_done)
        return SyncProgress(
            stage=self.stage,
            feed=self.feed,
            generation=self.generation,
            keys_total=max(self.keys_total, self.keys_done),
            keys_done=self.keys_done,
            keys_per_second=rate,
            seconds_left=left / rate if rate > 0 else None,
            changes_per_second=self._changes.rate(now, self.changes),
            dirty_keys=dirty,
            lag_s=lag_s,
            settled_keys=self.settled,
            settled_per_second=settled_rate,
            cutover_s=dirty / best if best > 0 else None,
            hottest=self._hottest(),
            foreign_keys=self.foreign_keys,
            failed=self.failed,
            elapsed_s=now - self._began_s,
            source_latency_ms=self._latency_ms("source", now),
            target_latency_ms=self._latency_ms("target", now),
            throttle=self._pace.state,
            shards=len(self._sources),
            biggest=self.biggest(),
            shard_looks=self._looks.look(self.feed, self._probes(), now, copying=self.stage == "copying"),
            failures=self._failures(),
            away=self.away,
        )

    def biggest(self) -> tuple[BigKey, ...]:
        """Of all that were met."""
        met = [big for supply in self._supplies for big in supply.biggest]
        return biggest_of((*self._earlier_bigs, *met))

    def remember(self, biggest: Iterable[BigKey]) -> None:
        """Keys that were met by the run in the other direction, by this one's databases."""
        self._earlier_bigs = tuple(biggest)

    def _failures(self) -> tuple[FailedKey, ...]:
        """Where each database has remembered more, its newest."""
        found: list[FailedKey] = []
        for source in self._sources.values():
            for database, supply in source.supplies.items():
                newest = itertools.islice(reversed(supply.failures.items()), FAILURES_SHOWN)
                found += [FailedKey(key, database, reason) for key, reason in newest][::-1]
        return tuple(found[-FAILURES_SHOWN:])

    @property
    def _supplies(self) -> Iterator[DirtySupply]:
        return (supply for source in self._sources.values() for supply in source.supplies.values())

    def _hottest(self) -> tuple[HotKey, ...]:
        found: list[tuple[int, Hot]] = [
            (database, hot)
            for source in self._sources.values()
            for database, supply in source.supplies.items()
            for hot in supply.dirty.hottest()
        ]
        found.sort(key=lambda one: -one[1].per_second * max(1, one[1].size_bytes))
        return tuple(
            HotKey(hot.key, database, hot.per_second, hot.size_bytes, hot.pause_s)
            for database, hot in found[:3]
        )

    def _latency_ms(self, side: Side, now: float) -> float | None:
        found = [probe.shown_ms(now) for probe in self._probes() if probe.side == side]
        return max((latency for latency in found if latency is not None), default=None)
