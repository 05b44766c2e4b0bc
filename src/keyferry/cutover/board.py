"""Where everybody sees how a migration goes: what the desk answers with, and what the report's charts are made of.

Writes nothing to the journal while a switch is under way: what has come in meanwhile is noted after it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable

from keyferry.cutover.desk import QueueDesk
from keyferry.cutover.settings import MigrationSettings
from keyferry.cutover.showing import status_of, writers_late
from keyferry.cutover.tools import Tools
from keyferry.cutover.voice import Voice
from keyferry.follow.follower import Follower
from keyferry.journal.migration import MigrationJournal
from keyferry.model.keynames import KeyNames
from keyferry.model.phases import Side
from keyferry.telemetry.glance import MigrationGlances
from keyferry.telemetry.migrating import (
    EventKind,
    FactKey,
    MigrationProgress,
    StageTimes,
    SwitchReport,
    station,
)
from keyferry.telemetry.samples import Samples

KEEP_EVERY_S = 5.0


class Board:
    """Of one process.

    Attributes:
        stages: How long each stage has taken.
    """

    def __init__(
        self,
        settings: MigrationSettings,
        journal: MigrationJournal,
        desk: QueueDesk,
        tools: Tools,
        voice: Voice,
    ) -> None:
        self._settings, self._journal, self._desk = settings, journal, desk
        self._tools, self._voice = tools, voice
        self.stages = StageTimes(journal.get(FactKey.STAGES))
        self._samples = Samples(journal.get(FactKey.SAMPLES))
        self._entered: list[tuple[str, int]] = []
        self._kept_s = time.monotonic()
        self._began_ms = _now_ms()
        sync = settings.sync
        self._names = KeyNames(sync.copy.show_keys)
        self._glances = MigrationGlances(sync.lag_target_s, cutover_when_ready=settings.cutover_when_ready)
        self._station = 0

    def show(
        self,
        look: MigrationProgress,
        now: float,
        *,
        follower: Follower | None,
        switches: Iterable[SwitchReport],
        switching: bool,
    ) -> None:
        """Shows one look.

        Args:
            now: Monotonic seconds.
            follower: Of the direction that is followed.
            switching: A switch is under way.
        """
        at_ms = _now_ms()
        if self.stages.enter(look.stage, now):
            self._entered.append((look.stage, at_ms))
        if self._samples.add(at_ms, look.stage, look.sync, look.authority):
            self._desk.publish_history(self._samples.as_dict())
        if not switching and (self._entered or now - self._kept_s >= KEEP_EVERY_S):
            self.keep(now)
        self._station = station(look, self._station)
        self._publish(look, now, follower, switches, switching)

    def keep(self, now: float) -> None:
        """In the journal, everything up to now."""
        self._kept_s = now
        for stage, at_ms in self._entered:
            self._journal.event(EventKind.STAGE, stage=stage, at_ms=at_ms)
        self._entered.clear()
        self._journal.set(FactKey.STAGES, self.stages.as_dict(now))
        self._journal.set(FactKey.SAMPLES, self._samples.as_dict())

    def _publish(
        self,
        look: MigrationProgress,
        now: float,
        follower: Follower | None,
        switches: Iterable[SwitchReport],
        switching: bool,
    ) -> None:
        endpoints = self._tools.endpoints
        writers = self._tools.watch.writers(look.authority)
        live = self._tools.watch.live(look.authority)
        self._desk.publish(
            status_of(
                look,
                name=self._settings.name,
                source=endpoints[Side.SOURCE].location,
                target=endpoints[Side.TARGET].location,
                pid=os.getpid(),
                limits=limits_of(follower),
                touched=follower.touched if follower else 0,
                writers=writers,
                switches=switches,
                barred="" if switching else self._journal.get(FactKey.BARRED) or "",
                warnings=self._voice.warnings,
                events=self._voice.events,
                started_ms=self._began_ms,
                names=self._names,
                glance=self._glances.look(look, now, writers_late=writers_late(live, look.epoch)),
                at=self._station,
            )
        )


def limits_of(follower: Follower | None) -> dict[str, float | None]:
    """How fast it may go: ``max_rate`` in keys/s and ``max_latency_ms``; None: no limit."""
    if follower is None:
        return {}
    rate, latency = follower.limits
    return {"max_rate": rate or None, "max_latency_ms": latency or None}


def _now_ms() -> int:
    return round(time.time() * 1000)
