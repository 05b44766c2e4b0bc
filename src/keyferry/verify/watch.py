"""What a running comparison shows: rates, latencies, how far it is."""

from __future__ import annotations

import time
from dataclasses import dataclass

from keyferry.copy.pace import Pace
from keyferry.copy.probe import Probe
from keyferry.copy.settings import CopySettings
from keyferry.model.errors import Side
from keyferry.telemetry.comparing import VerifyObserver, VerifyProgress
from keyferry.telemetry.meter import Meter

SHOW_EVERY_S = 0.1


@dataclass(slots=True)
class Standing:
    """What the watch is told of the run."""

    keys_total: int = 0
    keys_done: int = 0
    suspects: int = 0
    differences: int = 0


class VerifyWatch:
    """Lives as long as the run; the probes come and go with the passes."""

    def __init__(self, settings: CopySettings, rounds: int, observe: VerifyObserver) -> None:
        self.pace = Pace(settings.max_rate, settings.max_bandwidth, settings.max_latency_ms)
        self.stage = "connecting"
        self.database = 0
        self.round = 0
        self.standing = Standing()
        self.probes: list[Probe] = []
        self._rounds = rounds
        self._observe = observe
        self._began_s = time.monotonic()
        self._shown_s = 0.0
        self._keys = Meter()

    def turn(self) -> bool:
        """Whether a snapshot is due; then ``show`` it."""
        return time.monotonic() - self._shown_s >= SHOW_EVERY_S

    def show(self, standing: Standing) -> None:
        self.standing = standing
        now = self._shown_s = time.monotonic()
        self._keys.mark(now, standing.keys_done)
        rate = self._keys.rate(now, standing.keys_done)
        total = max(standing.keys_total, standing.keys_done)
        self._observe(
            VerifyProgress(
                stage=self.stage,
                database=self.database,
                keys_total=total,
                keys_done=standing.keys_done,
                suspects=standing.suspects,
                round=self.round,
                rounds=self._rounds,
                differences=standing.differences,
                elapsed_s=now - self._began_s,
                keys_per_second=rate,
                seconds_left=(total - standing.keys_done) / rate if rate > 0 else None,
                source_latency_ms=self._latency_ms("source"),
                target_latency_ms=self._latency_ms("target"),
                throttle=self.pace.state,
            )
        )

    def _latency_ms(self, side: Side) -> float | None:
        """Of the slowest server of a side."""
        found = [probe.latency_ms for probe in self.probes if probe.side == side]
        return max((latency for latency in found if latency is not None), default=None)
