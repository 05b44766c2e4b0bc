"""What a running copy watches: its rates, the probes' latencies, evictions on the target; and what it shows of them."""

from __future__ import annotations

import time
from dataclasses import replace

from keyferry.copy.info import info_number
from keyferry.copy.pace import Pace
from keyferry.copy.probe import Probe
from keyferry.copy.settings import CopySettings
from keyferry.model.errors import ServerError, Side
from keyferry.telemetry.meter import Meter
from keyferry.telemetry.progress import Observer, Progress, ShardProgress
from keyferry.telemetry.report import Counts

SHOW_EVERY_S = 0.1


class Watch:
    """Lives as long as the run; the probes come and go with the pipelines."""

    def __init__(self, settings: CopySettings, observe: Observer) -> None:
        self.pace = Pace(settings.max_rate, settings.max_bandwidth, settings.max_latency_ms)
        self.database = 0
        self.stage = "connecting"
        self._observe = observe
        self._counts = Counts()
        self._keys_total = 0
        self._keys_before = 0
        self._began_s = time.monotonic()
        self._shown_s = 0.0
        self._keys, self._bytes = Meter(), Meter()
        self._probes: list[Probe] = []
        self._evicted: int | None = None
        self._shards: dict[str, ShardProgress] = {}
        self._shard_count = 1

    def begin(
        self, keys_total: int, keys_before: int, shards: dict[str, ShardProgress], shard_count: int
    ) -> None:
        """
        Args:
            keys_total: DBSIZE over the chosen databases.
            keys_before: Scanned by earlier runs.
            shards: Those of the source that are still to be scanned, by id.
            shard_count: All of the source.
        """
        self._keys_total, self._keys_before = keys_total, keys_before
        self._shards, self._shard_count = shards, shard_count
        self.stage = "copying"

    def add(self, counts: Counts, shard: str) -> None:
        self._counts.add(counts)
        known = self._shards.get(shard)
        if known is not None:
            self._shards[shard] = replace(known, keys_done=known.keys_done + counts.scanned)

    def shard_done(self, shard: str) -> None:
        """It is not waited for any more, however many of its keys were there to be scanned."""
        self._shards.pop(shard, None)

    def use(self, probes: list[Probe]) -> None:
        self._probes = probes

    @property
    def probes(self) -> list[Probe]:
        """Those that run now."""
        return self._probes

    def turn(self) -> None:
        """Shows a snapshot when one is due. Raises as ``evictions``."""
        now = time.monotonic()
        if now - self._shown_s < SHOW_EVERY_S:
            return
        self._shown_s = now
        counts = [
            info_number(probe.info, "stats", "evicted_keys")
            for probe in self._probes
            if probe.side == "target"
        ]
        known = [count for count in counts if count is not None]
        if counts and len(known) == len(counts):
            self.evictions(sum(known))
        self._keys.mark(now, self._counts.scanned)
        self._bytes.mark(now, self._counts.bytes)
        self._observe(self._snapshot(now))

    def close(self) -> None:
        """Shows the last state."""
        self._observe(self._snapshot(time.monotonic()))

    def evictions(self, evicted: int | None) -> None:
        """Takes the target's count of evicted keys; None when it does not say.

        Raises:
            ServerError: It has begun to evict keys.
        """
        if evicted is None:
            return
        if self._evicted is not None and evicted > self._evicted:
            raise ServerError(
                "target",
                f"The target has begun to evict keys ({evicted - self._evicted:,} since the copy began).",
                "Raise its maxmemory or make room, then give the same command again: it compares all keys and writes the lost ones anew.",
            )
        self._evicted = evicted

    def forget_evictions(self) -> None:
        """All keys are compared again: the next count is where counting begins."""
        self._evicted = None

    def _snapshot(self, now: float) -> Progress:
        counts = self._counts
        done = self._keys_before + counts.scanned
        rate = self._keys.rate(now, counts.scanned)
        left = max(0, self._keys_total - done)
        return Progress(
            stage=self.stage,
            database=self.database,
            keys_total=max(self._keys_total, done),
            keys_done=done,
            copied=counts.copied,
            skipped=counts.skipped,
            vanished=counts.vanished,
            failed=counts.failed,
            bytes_done=counts.bytes,
            elapsed_s=now - self._began_s,
            keys_per_second=rate,
            bytes_per_second=self._bytes.rate(now, counts.bytes),
            seconds_left=left / rate if rate > 0 else None,
            source_latency_ms=self._latency_ms("source"),
            target_latency_ms=self._latency_ms("target"),
            throttle=self.pace.state,
            shards=self._shard_count,
            slowest=self._slowest(),
        )

    def _latency_ms(self, side: Side) -> float | None:
        """Of the slowest server of a side."""
        found = [probe.latency_ms for probe in self._probes if probe.side == side]
        return max((latency for latency in found if latency is not None), default=None)

    def _slowest(self) -> ShardProgress | None:
        """The shard with the largest part still to do; None with a single one, or when all are done."""
        if self._shard_count == 1 or not self._shards:
            return None
        return max(self._shards.values(), key=lambda shard: shard.keys_left)
