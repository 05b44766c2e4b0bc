"""``keyferry sync``: look first, then follow until stopped or synced, then say where it stands."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Protocol

from keyferry.app.checking import precheck
from keyferry.app.copying import show_plan
from keyferry.app.dashboard_launch import Board, NoDashboard, board_for
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
from keyferry.copy.stop import StopFlag
from keyferry.follow.settings import SyncSettings
from keyferry.model.errors import ExitCode, InterruptedRun
from keyferry.model.keynames import KeyNames
from keyferry.model.words import counted, duration
from keyferry.telemetry.following import SyncProgress, SyncReport
from keyferry.telemetry.glance import SyncGlances

TOO_EARLY = "Interrupted before the sync began; nothing was written."
HOW_TO_GO_ON = (
    "Give the same command again to go on: it compares both servers and carries what changed meanwhile."
)


class Shown(Protocol):
    """What gets looks and sentences."""

    def observe(self, progress: SyncProgress) -> None: ...

    def tell(self, sentence: str) -> None: ...


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
    glances = SyncGlances(settings.lag_target_s, until_synced=settings.until_synced)
    names = KeyNames(options["show_keys"])
    screen = logged_screen(log, title, SyncView(names), SyncLooks(names, glances))
    with ExitStack() as opened:
        with errors_delivered(options, TOO_EARLY, lambda: _so_far(screen.last)):
            if options["dry_run"]:
                precheck(settings.copy, resuming=has_checkpoint(settings), log=log)
                return show_plan(settings.copy, options)
            shown, board = _shown(settings, options, screen, opened)
            precheck(settings.copy, resuming=True, log=log)
            report = _run(settings, screen, shown)
        if not options["as_json"]:
            emit(of_sync(report, settings.copy.failures_file))
        log.result(report.as_dict())
        deliver(report.as_dict(), options)
        status = ExitCode.DONE if report.synced and not report.failed else ExitCode.KEYS_FAILED
        board.ended(status, _ended(report), "", str(options["report"] or ""))
    return status


def _shown(
    settings: SyncSettings, options: Mapping[str, Any], screen: Screen[SyncProgress], opened: ExitStack
) -> tuple[Shown, Board]:
    """Where looks and sentences go: to the screen, and with ``--http`` to a dashboard."""
    if options["http"] is None:
        return screen, NoDashboard()
    from keyferry.app.sync_showing import SyncShowing

    shown = opened.enter_context(SyncShowing(settings, screen.observe, screen.tell))
    return shown, opened.enter_context(board_for(options, shown.watched, screen.tell))


def _run(settings: SyncSettings, screen: Screen[SyncProgress], shown: Shown) -> SyncReport:
    """Follows under ``screen`` and under the signal handlers; ``shown`` gets all looks and sentences."""
    from keyferry.follow.run import run_sync

    stop = StopFlag()
    try:
        with stopping(stop), screen:
            return run_sync(settings, observe=shown.observe, tell=shown.tell, stop=stop)
    except InterruptedRun:
        if screen.last is None:
            raise
        raise InterruptedRun(_stopped(screen.last), HOW_TO_GO_ON) from None


def has_checkpoint(settings: SyncSettings) -> bool:
    """Whether an earlier run of this sync left one."""
    from keyferry.follow.run import sync_name

    copy = settings.copy
    return not copy.restart and (copy.state_dir / f"sync-{sync_name(settings)}.sqlite").exists()


def _ended(report: SyncReport) -> str:
    if report.failed:
        return f"Synced, but {counted(report.failed, 'key')} could not be carried."
    return "Synced: both servers were equal." if report.synced else "Ended before both servers were equal."


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
