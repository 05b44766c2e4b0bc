"""What a running migration says of itself to other programs: ``keyferry status --json`` and everything made of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from keyferry import __version__
from keyferry.cutover.phase_report import writer_dict
from keyferry.cutover.words import swap_sides
from keyferry.follow.showing import events_list, failures_dict, progress_dict
from keyferry.model.keynames import MARKS, KeyNames
from keyferry.model.phases import Side
from keyferry.model.writers import WriterEntry
from keyferry.telemetry.glance import Glance, Lasting, glance_of_migration
from keyferry.telemetry.migrating import (
    STATIONS,
    MigrationProgress,
    SwitchReport,
    in_migration_words,
    station,
)


def writers_late(writers: Mapping[str, WriterEntry], epoch: int) -> int:
    """How many have not taken the phase of this epoch, or say that something is wrong."""
    return sum(entry.epoch < epoch or bool(entry.note) for entry in writers.values())


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
    started_ms: int = 0,
    names: KeyNames = MARKS,
    glance: Glance | None = None,
    at: int | None = None,
) -> dict[str, Any]:
    """One look, as JSON can say it. Values of keys are not in it, nor anything secret.

    Args:
        source, target: Locations, without users and passwords.
        limits: ``max_rate`` in keys/s and ``max_latency_ms``.
        touched: Keys that have changed since the last verification, and are compared again before a switch.
        events: When (ms since 1970), and a sentence.
        started_ms: When this process began, in ms since 1970.
        names: How keys are called.
        glance: In words; None: as if nothing had lasted.
        at: As ``telemetry.migrating.station`` says; None: by this look alone.
    """
    verified = progress.verified
    sync = in_migration_words(progress)
    glance = glance or glance_of_migration(progress, Lasting())
    place = station(progress, 0) if at is None else at
    return {
        "kind": "migrate",
        "version": __version__,
        "name": name,
        "source": source,
        "target": target,
        "pid": pid,
        "started_ms": started_ms,
        "show_keys": names.show,
        "stage": progress.stage,
        "step": progress.step,
        "station": STATIONS[place] if place < len(STATIONS) else "finished",
        "stations": list(STATIONS),
        "glance": glance.as_dict(),
        "authority": str(progress.authority),
        "phase": progress.phase,
        "epoch": progress.epoch,
        "paused": progress.paused,
        "limits": dict(limits),
        "elapsed_seconds": round(progress.elapsed_s, 3),
        "progress": progress_dict(sync, names) if sync else None,
        "failures": _failures(progress, names),
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
        "events": events_list(events),
    }


def _failures(progress: MigrationProgress, names: KeyNames) -> dict[str, Any]:
    found = failures_dict(progress.sync, names)
    if progress.authority is Side.TARGET:
        for failed in found["last"]:
            failed["reason"] = swap_sides(failed["reason"])
    return found
