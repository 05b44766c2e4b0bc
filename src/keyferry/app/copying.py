"""``keyferry copy``: look first, then copy, then say what happened."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from keyferry.app import summary
from keyferry.app.checking import precheck
from keyferry.app.delivery import deliver, errors_delivered
from keyferry.app.display import CopyView, Display
from keyferry.app.log import log_of
from keyferry.app.log_looks import CopyLooks
from keyferry.app.log_screen import logged_screen
from keyferry.app.output import check_writable, emit
from keyferry.app.settings import copy_settings
from keyferry.app.signals import stopping
from keyferry.copy.run import has_checkpoint
from keyferry.copy.settings import CopySettings
from keyferry.copy.stop import StopFlag
from keyferry.model.errors import ExitCode, InterruptedRun
from keyferry.model.words import count
from keyferry.telemetry.progress import Progress
from keyferry.telemetry.report import CopyReport

TOO_EARLY = "Interrupted before the copy began; nothing was written."


def copy_command(source: str, target: str, options: Mapping[str, Any]) -> int:
    """Runs the command; returns its exit status.

    Raises:
        KeyferryError: The copy did not come to its end.
    """
    check_writable("--report", options["report"])
    check_writable("--failures", options["failures"])
    settings = copy_settings(source, target, options, os.environ)
    log = log_of(options)
    log.started(settings.source.location, settings.target.location)
    title = f"keyferry copy {settings.source} to {settings.target}"
    display = logged_screen(log, title, CopyView(), CopyLooks())
    with errors_delivered(options, TOO_EARLY, lambda: _so_far(display.last)):
        precheck(settings, resuming=not options["dry_run"] or has_checkpoint(settings), log=log)
        if options["dry_run"]:
            return show_plan(settings, options)
        report = run_with_display(settings, display)
    if not options["as_json"]:
        emit(summary.of_copy(report, settings.failures_file))
    log.result(report.total.as_dict())
    deliver(report.as_dict(), options)
    return ExitCode.KEYS_FAILED if report.total.failed else ExitCode.DONE


def run_with_display(settings: CopySettings, display: Display) -> CopyReport:
    """Copies under ``display`` and under the signal handlers."""
    from keyferry.copy.run import run_copy

    stop = StopFlag()
    try:
        with stopping(stop), display:
            return run_copy(settings, observe=display.observe, tell=display.tell, stop=stop)
    except InterruptedRun as error:
        if display.last is None:
            raise
        done = f"{count(display.last.keys_done)} of {count(display.last.keys_total)} keys"
        raise InterruptedRun(f"Interrupted after {done}.", error.hint) from None


def show_plan(settings: CopySettings, options: Mapping[str, Any]) -> int:
    """``--dry-run``: says what would be copied; returns the exit status."""
    from keyferry.copy.run import plan_copy

    plan = plan_copy(settings)
    deliver(plan.as_dict(), options)
    if not options["as_json"]:
        emit(summary.of_plan(plan))
    return ExitCode.DONE


def _so_far(last: Progress | None) -> dict[str, Any]:
    if last is None:
        return {}
    return {
        "scanned": last.copied + last.skipped + last.vanished + last.failed,
        "copied": last.copied,
        "skipped": last.skipped,
        "vanished": last.vanished,
        "failed": last.failed,
        "bytes": last.bytes_done,
        "seconds": round(last.elapsed_s, 3),
        "total_scanned": last.keys_done,
    }
