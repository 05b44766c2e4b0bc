"""What a running migration says of itself to other programs: ``keyferry status --json`` and everything made of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from keyferry.cutover.phase_report import writer_dict
from keyferry.model.writers import WriterEntry
from keyferry.telemetry.following import SyncProgress
from keyferry.telemetry.migrating import MigrationProgress, SwitchReport


def status_of(
    progress: MigrationProgress,
    *,
    name: str,
    source: str,
    target: str,
    pid: int,
    limits: Mapping[str, float | None],
    touched: int,
    writers: Mapping[str, WriterEntry],
    switches: Iterable[SwitchReport],
    barred: str,
    warnings: Iterable[str],
    events: Iterable[tuple[int, str]],
) -> dict[str, Any]:
    """One look, as JSON can say it. Names of keys are not in it, nor anything secret.

    Args:
        source, target: Locations.
        limits: ``max_rate`` in keys/s and ``max_latency_ms``.
        touched: Keys that have changed since the last verification, and are compared again before a switch.
        events: When (ms since 1970), and a sentence.
    """
    verified = progress.verified
    return {
        "name": name,
        "source": source,
        "target": target,
        "pid": pid,
        "stage": progress.stage,
        "step": progress.step,
        "authority": str(progress.authority),
        "phase": progress.phase,
        "epoch": progress.epoch,
        "paused": progress.paused,
        "limits": dict(limits),
        "elapsed_seconds": round(progress.elapsed_s, 3),
        "progress": progress_dict(progress.sync) if progress.sync else None,
        "verification": {
            "at_ms": verified.at_ms,
            "compared": verified.compared,
            "differences": verified.differences,
        }
        if verified
        else None,
        "touched": touched,
        "ready": progress.ready,
        "not_ready": list(progress.not_ready),
        "writers": [writer_dict(one, entry) for one, entry in sorted(writers.items())],
        "switches": [switch.as_dict() for switch in switches],
        "barred": barred,
        "warnings": list(warnings),
        "events": [{"at_ms": at_ms, "text": text} for at_ms, text in events],
    }


def progress_dict(sync: SyncProgress) -> dict[str, Any]:
    """The numbers of one look at the direction that is followed."""
    return {
        "keys_total": sync.keys_total,
        "keys_done": sync.keys_done,
        "keys_per_second": round(sync.keys_per_second, 1),
        "seconds_left": None if sync.seconds_left is None else round(sync.seconds_left, 1),
        "changes_per_second": round(sync.changes_per_second, 1),
        "dirty_keys": sync.dirty_keys,
        "lag_s": round(sync.lag_s, 3),
        "settled_keys": sync.settled_keys,
        "settled_per_second": round(sync.settled_per_second, 1),
        "cutover_s": None if sync.cutover_s is None else round(sync.cutover_s, 4),
        "foreign_keys": sync.foreign_keys,
        "failed": sync.failed,
        "generation": sync.generation,
        "feed": sync.feed,
        "source_latency_ms": sync.source_latency_ms,
        "target_latency_ms": sync.target_latency_ms,
        "throttle": sync.throttle,
        "shards": sync.shards,
    }
