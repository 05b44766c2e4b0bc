"""What a running sync says of itself to other programs, and what both kinds of run say of the numbers.

Keys are called as ``KeyNames`` says, values are never in it, nor anything secret.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from keyferry import __version__
from keyferry.model.keynames import KeyNames
from keyferry.telemetry.following import BigKey, HotKey, ShardLook, SyncProgress
from keyferry.telemetry.glance import Glance, Lasting, glance_of_sync

SYNC_STATIONS = ("copy", "follow")
"""The way of a sync."""


def station_of_sync(progress: SyncProgress, before: int) -> int:
    """Where it is on its way, as an index into SYNC_STATIONS.

    Args:
        before: Where it was at the last look. A comparison after a gap, and one of many sweeps, is no step back.
    """
    if progress.stage in ("following", "verifying"):
        return SYNC_STATIONS.index("follow")
    return before


def sync_status_of(
    progress: SyncProgress,
    *,
    name: str,
    source: str,
    target: str,
    pid: int,
    started_ms: int,
    limits: Mapping[str, float | None],
    names: KeyNames,
    glance: Glance | None = None,
    at: int | None = None,
    warnings: Iterable[str] = (),
    events: Iterable[tuple[int, str]] = (),
) -> dict[str, Any]:
    """One look, in the shape of a migration's (``cutover.showing.status_of``): what a sync has not is empty.

    Args:
        name: Of the sync; empty where it was given none.
        source, target: Locations, without users and passwords.
        started_ms: When this process began, in ms since 1970.
        limits: ``max_rate`` in keys/s and ``max_latency_ms``.
        names: How keys are called.
        glance: In words; None: as if nothing had lasted.
        at: As ``station_of_sync`` says; None: by this look alone.
        events: When (ms since 1970), and a sentence.
    """
    glance = glance or glance_of_sync(progress, Lasting())
    place = station_of_sync(progress, 0) if at is None else at
    return {
        "kind": "sync",
        "version": __version__,
        "name": name,
        "source": source,
        "target": target,
        "pid": pid,
        "started_ms": started_ms,
        "show_keys": names.show,
        "stage": progress.stage,
        "step": "",
        "station": SYNC_STATIONS[place],
        "stations": list(SYNC_STATIONS),
        "glance": glance.as_dict(),
        "authority": "source",
        "phase": "",
        "epoch": 0,
        "paused": False,
        "limits": dict(limits),
        "elapsed_seconds": round(progress.elapsed_s, 3),
        "progress": progress_dict(progress, names),
        "failures": failures_dict(progress, names),
        "verification": None,
        "touched": 0,
        "ready": False,
        "not_ready": [],
        "writers": [],
        "switches": [],
        "barred": "",
        "warnings": list(warnings),
        "events": events_list(events),
    }


def progress_dict(sync: SyncProgress, names: KeyNames) -> dict[str, Any]:
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
        "source_latency_ms": _rounded(sync.source_latency_ms),
        "target_latency_ms": _rounded(sync.target_latency_ms),
        "throttle": sync.throttle,
        "shards": sync.shards,
        "hottest": [_hot_dict(hot, names) for hot in sync.hottest],
        "biggest": [_big_dict(big, names) for big in sync.biggest],
        "shard_looks": [_shard_dict(look) for look in sync.shard_looks],
    }


def failures_dict(sync: SyncProgress | None, names: KeyNames) -> dict[str, Any]:
    """Keys that could not be carried: how many, and the last of them."""
    if sync is None:
        return {"count": 0, "last": []}
    last = [
        {"key": names.name(failed.key), "database": failed.database, "reason": failed.reason}
        for failed in sync.failures
    ]
    return {"count": sync.failed, "last": last}


def events_list(events: Iterable[tuple[int, str]]) -> list[dict[str, Any]]:
    """Sentences with their time in ms since 1970."""
    return [{"at_ms": at_ms, "text": text} for at_ms, text in events]


def _hot_dict(hot: HotKey, names: KeyNames) -> dict[str, Any]:
    return {
        "key": names.name(hot.key),
        "database": hot.database,
        "per_second": round(hot.per_second, 2),
        "size_bytes": hot.size_bytes,
        "pause_s": round(hot.pause_s, 3),
    }


def _big_dict(big: BigKey, names: KeyNames) -> dict[str, Any]:
    return {
        "key": names.name(big.key),
        "database": big.database,
        "size_bytes": big.size_bytes,
        "members": big.members,
        "type": big.type,
    }


def _shard_dict(look: ShardLook) -> dict[str, Any]:
    return {
        "shard": look.shard,
        "dirty_keys": look.dirty_keys,
        "feed": look.feed,
        "keys_total": look.keys_total,
        "keys_done": look.keys_done,
        "latency_ms": _rounded(look.latency_ms),
    }


def _rounded(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else round(milliseconds, 3)
