"""From looks at a run to the events of its log: what has changed between two of them, and how it stands now.

Decides only; when a look is worth a line of progress is log_screen.py's matter. Names of keys are said as ``KeyNames``
says them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, TypeVar

from keyferry.app.display_migrate import switch_sentence, verified_words
from keyferry.app.display_sync import in_pass, told_stage
from keyferry.app.log import Level, LogEvent
from keyferry.app.log_lines import Value, steps_text
from keyferry.model.keynames import KeyNames
from keyferry.model.words import count, counted, share
from keyferry.telemetry.comparing import VerifyProgress
from keyferry.telemetry.following import SyncProgress
from keyferry.telemetry.glance import Glance, Health, MigrationGlances, SyncGlances
from keyferry.telemetry.migrating import MigrationProgress, SwitchReport, Verified, in_migration_words
from keyferry.telemetry.progress import Progress

P_contra = TypeVar("P_contra", contravariant=True)


class Looks(Protocol[P_contra]):
    """How one kind of run is logged."""

    def changes(self, before: P_contra | None, now: P_contra, now_s: float) -> Iterator[LogEvent]:
        """What has happened since the last look, at ``now_s`` (monotonic); ``before`` is None at the first."""

    def concerns(self, before: P_contra | None, now: P_contra) -> Iterator[LogEvent]:
        """What somebody should hear of, but not ten times a second. ``before``: when they were asked for last."""

    def standing(self, now: P_contra) -> LogEvent:
        """How it gets on."""

    def waits(self, now: P_contra) -> bool:
        """Nothing is gone over: it may stay so for weeks."""


class CopyLooks:
    """Of ``keyferry copy``."""

    def changes(self, before: Progress | None, now: Progress, _now_s: float) -> Iterator[LogEvent]:
        yield from _stage_changed(before.stage if before else "", now.stage)

    def concerns(self, before: Progress | None, now: Progress) -> Iterator[LogEvent]:
        yield from _failed(before.failed if before else 0, now.failed)

    def standing(self, now: Progress) -> LogEvent:
        return _progress(
            _pass_words(now.stage, now.keys_done, now.keys_total),
            stage=now.stage,
            database=now.database,
            keys_done=now.keys_done,
            keys_total=now.keys_total,
            keys_per_second=now.keys_per_second,
            bytes_per_second=now.bytes_per_second,
            seconds_left=now.seconds_left,
            skipped=now.skipped,
            vanished=now.vanished,
            failed=now.failed,
            source_latency_ms=now.source_latency_ms,
            target_latency_ms=now.target_latency_ms,
            throttle=now.throttle,
        )

    def waits(self, _now: Progress) -> bool:
        return False


class VerifyLooks:
    """Of ``keyferry verify``."""

    def changes(
        self, before: VerifyProgress | None, now: VerifyProgress, _now_s: float
    ) -> Iterator[LogEvent]:
        yield from _stage_changed(before.stage if before else "", now.stage)

    def concerns(self, before: VerifyProgress | None, now: VerifyProgress) -> Iterator[LogEvent]:
        if now.differences > (before.differences if before else 0):
            words = f"{counted(now.differences, 'key')} differ until now."
            yield LogEvent("keys_differ", Level.WARNING, words, {"differences": now.differences})

    def standing(self, now: VerifyProgress) -> LogEvent:
        return _progress(
            _pass_words(now.stage, now.keys_done, now.keys_total),
            stage=now.stage,
            database=now.database,
            keys_done=now.keys_done,
            keys_total=now.keys_total,
            keys_per_second=now.keys_per_second,
            seconds_left=now.seconds_left,
            suspects=now.suspects,
            round=now.round,
            differences=now.differences,
            source_latency_ms=now.source_latency_ms,
            target_latency_ms=now.target_latency_ms,
            throttle=now.throttle,
        )

    def waits(self, _now: VerifyProgress) -> bool:
        return False


class SyncLooks:
    """Of ``keyferry sync``."""

    def __init__(self, names: KeyNames, glances: SyncGlances) -> None:
        self._names, self._glances = names, glances
        self._glance = NO_GLANCE

    def changes(self, before: SyncProgress | None, now: SyncProgress, now_s: float) -> Iterator[LogEvent]:
        yield from _stage_changed(told_stage(before) if before else "", told_stage(now))
        known, self._glance = self._glance, self._glances.look(now, now_s)
        yield from _health_changed(known, self._glance)

    def concerns(self, before: SyncProgress | None, now: SyncProgress) -> Iterator[LogEvent]:
        yield from _failed(before.failed if before else 0, now.failed)

    def standing(self, now: SyncProgress) -> LogEvent:
        fields = {"stage": told_stage(now), "health": self._glance.health}
        return _progress(_words(self._glance), **fields, **_sync_fields(now, self._names))

    def waits(self, now: SyncProgress) -> bool:
        return not in_pass(now)


class MigrationLooks:
    """Of ``keyferry migrate``."""

    def __init__(self, names: KeyNames, glances: MigrationGlances) -> None:
        self._names, self._glances = names, glances
        self._glance = NO_GLANCE

    def changes(
        self, before: MigrationProgress | None, now: MigrationProgress, now_s: float
    ) -> Iterator[LogEvent]:
        yield from _stage_changed(_stage(before) if before else "", _stage(now))
        if now.step and (before is None or before.step != now.step):
            yield LogEvent("switch_step", Level.DEBUG, "", {"step": now.step})
        if now.phase and (before is None or before.phase != now.phase):
            yield _phase_changed(before, now)
        if now.verified is not None and (before is None or before.verified != now.verified):
            yield _verification(now.verified)
        # What an earlier process has switched stands in its own log.
        before_ms = _switched_ms(before) if before else _switched_ms(now)
        if now.last_switch is not None and _switched_ms(now) != before_ms:
            yield _switch_ended(now.last_switch)
        known, self._glance = self._glance, self._glances.look(now, now_s)
        yield from _health_changed(known, self._glance)

    def concerns(self, before: MigrationProgress | None, now: MigrationProgress) -> Iterator[LogEvent]:
        if now.sync is not None:
            yield from _failed(before.sync.failed if before and before.sync else 0, now.sync.failed)

    def standing(self, now: MigrationProgress) -> LogEvent:
        fields: dict[str, Value] = {
            "stage": _stage(now),
            "health": self._glance.health,
            "phase": now.phase or None,
            "authority": str(now.authority),
            "writers": now.writers,
            "ready": now.ready,
            "paused": now.paused,
        }
        if (sync := in_migration_words(now)) is not None:
            fields |= _sync_fields(sync, self._names)
        return _progress(_words(self._glance), **fields)

    def waits(self, now: MigrationProgress) -> bool:
        return now.sync is None or not in_pass(now.sync)


NO_GLANCE = Glance("", "good", "", "", "")
_HEALTH: dict[Health, Level] = {"good": Level.INFO, "attention": Level.WARNING, "trouble": Level.ERROR}


def _health_changed(before: Glance, now: Glance) -> Iterator[LogEvent]:
    if now.health != before.health:
        fields: dict[str, Value] = {"health": now.health, "before": before.health}
        yield LogEvent("health_changed", _HEALTH[now.health], now.why or "All is well again.", fields)


def _words(glance: Glance) -> str:
    return " ".join(part for part in (glance.doing, glance.why) if part)


def _progress(words: str, /, **fields: Value) -> LogEvent:
    return LogEvent("progress", Level.INFO, words, fields)


def _stage_changed(before: str, now: str) -> Iterator[LogEvent]:
    if now != before:
        yield LogEvent("stage_changed", Level.INFO, f"Now {now}.", {"stage": now, "before": before or None})


def _failed(before: int, now: int) -> Iterator[LogEvent]:
    if now > before:
        words = f"{counted(now, 'key')} could not be carried until now."
        yield LogEvent("keys_failed", Level.WARNING, words, {"failed": now})


def _pass_words(stage: str, done: int, total: int) -> str:
    percent = share(done, total)
    return f"{stage}: {count(done)} of {count(total)} keys" + ("" if percent is None else f" ({percent} %)")


def _sync_fields(sync: SyncProgress, names: KeyNames) -> dict[str, Value]:
    fields: dict[str, Value] = {"feed": sync.feed or None, "generation": sync.generation}
    if in_pass(sync):
        fields |= {
            "keys_done": sync.keys_done,
            "keys_total": sync.keys_total,
            "keys_per_second": sync.keys_per_second,
            "seconds_left": sync.seconds_left,
        }
    fields |= {
        "changes_per_second": sync.changes_per_second,
        "dirty_keys": sync.dirty_keys,
        "lag_s": sync.lag_s,
        "settled_keys": sync.settled_keys,
        "settled_per_second": sync.settled_per_second,
        "cutover_s": sync.cutover_s,
        "failed": sync.failed,
        "foreign_keys": sync.foreign_keys,
        "source_latency_ms": sync.source_latency_ms,
        "target_latency_ms": sync.target_latency_ms,
        "throttle": sync.throttle,
    }
    if sync.hottest:
        hot = sync.hottest[0]
        fields |= {"hottest_key": names.name(hot.key), "hottest_per_second": hot.per_second}
    return fields


def _stage(progress: MigrationProgress) -> str:
    """Sweeps come and go: no event for each."""
    sync = progress.sync
    if sync is not None and progress.stage in ("comparing", "following"):
        return told_stage(sync)
    return progress.stage


def _switched_ms(progress: MigrationProgress) -> int:
    """When the last switch began; 0 before the first."""
    return progress.last_switch.at_ms if progress.last_switch else 0


def _phase_changed(before: MigrationProgress | None, now: MigrationProgress) -> LogEvent:
    fields: dict[str, Value] = {
        "phase": now.phase,
        "before": before.phase or None if before else None,
        "epoch": now.epoch,
        "authority": str(now.authority),
    }
    return LogEvent("phase_changed", Level.INFO, f"The phase is {now.phase}.", fields)


def _verification(verified: Verified) -> LogEvent:
    fields: dict[str, Value] = {
        "compared": verified.compared,
        "differences": verified.differences,
        "seconds": verified.seconds,
        "direction": verified.direction,
    }
    level = Level.WARNING if verified.differences else Level.INFO
    return LogEvent("verification", level, verified_words(verified), fields)


def _switch_ended(switch: SwitchReport) -> LogEvent:
    """Whole, with the seconds of each step: a switch is over before anybody could look at it twice."""
    fields: dict[str, Value] = {
        "direction": switch.direction,
        "outcome": switch.outcome,
        "gate": switch.gate,
        "gate_ms": switch.gate_ms,
        "phase": switch.phase,
        "epoch": switch.epoch,
        "writers": switch.writers,
        "settled": switch.settled,
        "compared": switch.compared,
        "differences": switch.differences,
        "hook_failed": switch.hook_failed if switch.hook else None,
        "steps": steps_text(switch.steps),
    }
    well = switch.outcome == "done" and not switch.hook_failed
    return LogEvent("switch_ended", Level.INFO if well else Level.WARNING, switch_sentence(switch), fields)
