"""``keyferry sync``: look first, then follow until stopped or synced, then say where it stands."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from keyferry.app.checking import precheck
from keyferry.app.copying import show_plan
from keyferry.app.delivery import deliver, errors_delivered
from keyferry.app.display_sync import SyncView
from keyferry.app.log import log_of
from keyferry.app.log_looks import SyncLooks
from keyferry.app.log_screen import logged_screen
from keyferry.app.output import check_writable, emit
from keyferry.app.screen import Screen
from keyferry.app.settings import sync_settings
from keyferry.app.signals import stopping
from keyferry.app.summary_sync import of_sync
from keyferry.app.words import counted, duration
from keyferry.copy.stop import StopFlag
from keyferry.follow.settings import SyncSettings
from keyferry.model.errors import ExitCode, InterruptedRun
from keyferry.model.keynames import KeyNames
from keyferry.telemetry.following import SyncProgress, SyncReport

TOO_EARLY = "Interrupted before the sync began; nothing was written."
HOW_TO_GO_ON = (
    "Give the same command again to go on: it compares both servers and carries what changed meanwhile."
)


def sync_command(source: str, target: str, options: Mapping[str, Any]) -> int:
    """Runs the command; returns its exit status.

    Raises:
        KeyferryError: The sync was stopped, or cannot go on.
    """
    check_writable("--report", options["report"])
    check_writable("--failures", options["failures"])
    settings = sync_settings(source, target, options, os.environ)
    log = log_of(options)
    log.started(settings.copy.source.location, settings.copy.target.location)
    title = f"keyferry sync {settings.copy.source} to {settings.copy.target}"
    screen = logged_screen(log, title, SyncView(), SyncLooks(KeyNames(options["show_keys"])))
    with errors_delivered(options, TOO_EARLY, lambda: _so_far(screen.last)):
        precheck(settings.copy, resuming=not options["dry_run"] or has_checkpoint(settings), log=log)
        if options["dry_run"]:
            return show_plan(settings.copy, options)
        report = _run(settings, screen)
    if not options["as_json"]:
        emit(of_sync(report, settings.copy.failures_file))
    log.result(report.as_dict())
    deliver(report.as_dict(), options)
    return ExitCode.DONE if report.synced and not report.failed else ExitCode.KEYS_FAILED


def _run(settings: SyncSettings, screen: Screen[SyncProgress]) -> SyncReport:
    """Follows under ``screen`` and under the signal handlers."""
    from keyferry.follow.run import run_sync

    stop = StopFlag()
    try:
        with stopping(stop), screen:
            return run_sync(settings, observe=screen.observe, tell=screen.tell, stop=stop)
    except InterruptedRun:
        if screen.last is None:
            raise
        raise InterruptedRun(_stopped(screen.last), HOW_TO_GO_ON) from None


def has_checkpoint(settings: SyncSettings) -> bool:
    """Whether an earlier run of this sync left one."""
    from keyferry.follow.run import sync_name

    copy = settings.copy
    return not copy.restart and (copy.state_dir / f"sync-{sync_name(settings)}.sqlite").exists()


def _stopped(last: SyncProgress) -> str:
    settled = counted(last.settled_keys, "change")
    dirty = f"; {counted(last.dirty_keys, 'dirty key')} left" if last.dirty_keys else ""
    return f"Stopped while {last.stage}, after {duration(last.elapsed_s)}: {settled} settled{dirty}."


def _so_far(last: SyncProgress | None) -> dict[str, Any]:
    if last is None:
        return {}
    return {
        "stage": last.stage,
        "feed": last.feed,
        "generations": last.generation,
        "keys_done": last.keys_done,
        "keys_total": last.keys_total,
        "settled": last.settled_keys,
        "dirty": last.dirty_keys,
        "lag_seconds": round(last.lag_s, 3),
        "failed": last.failed,
        "foreign_keys": last.foreign_keys,
        "seconds": round(last.elapsed_s, 3),
    }
