"""What a running copy watches: its rates, the probes' latencies, evictions on the target; and what it shows of them."""

from __future__ import annotations

import time

from keyferry.copy.info import info_number
from keyferry.copy.pace import Pace
from keyferry.copy.probe import Probe
from keyferry.copy.settings import CopySettings
from keyferry.model.errors import ServerError, Side
from keyferry.telemetry.meter import Meter
from keyferry.telemetry.progress import Observer, Progress
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
        self._probes: dict[Side, Probe] = {}
        self._evicted: int | None = None

    def begin(self, keys_total: int, keys_before: int) -> None:
        """Args: keys_total: DBSIZE over the chosen databases. keys_before: Scanned by earlier runs."""
        self._keys_total, self._keys_before = keys_total, keys_before
        self.stage = "copying"

    def add(self, counts: Counts) -> None:
        self._counts.add(counts)

    def use(self, probes: list[Probe]) -> None:
        self._probes = {probe.side: probe for probe in probes}

    def turn(self) -> None:
        """Shows a snapshot when one is due. Raises as ``evictions``."""
        now = time.monotonic()
        if now - self._shown_s < SHOW_EVERY_S:
            return
        self._shown_s = now
        probe = self._probes.get("target")
        if probe is not None:
            self.evictions(info_number(probe.info, "stats", "evicted_keys"))
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
            source_latency_ms=self._probes["source"].latency_ms if "source" in self._probes else None,
            target_latency_ms=self._probes["target"].latency_ms if "target" in self._probes else None,
            throttle=self.pace.state,
        )
