"""``keyferry verify``: compare, settle what is to be settled, say what differs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from keyferry.app.delivery import deliver, errors_delivered
from keyferry.app.display_verify import VerifyView
from keyferry.app.log import log_of
from keyferry.app.log_looks import VerifyLooks
from keyferry.app.log_screen import logged_screen
from keyferry.app.output import check_writable, emit
from keyferry.app.screen import Screen
from keyferry.app.settings import verify_settings
from keyferry.app.signals import stopping
from keyferry.app.summary_verify import of_verify
from keyferry.copy.stop import StopFlag
from keyferry.model.errors import ExitCode, InterruptedRun
from keyferry.model.words import count
from keyferry.telemetry.comparing import VerifyProgress, VerifyReport
from keyferry.verify.settings import VerifySettings

TOO_EARLY = "Interrupted before the comparison began; nothing was written."


def verify_command(source: str, target: str, options: Mapping[str, Any]) -> int:
    """Runs the command; returns its exit status: 1 when differences remain.

    Raises:
        KeyferryError: The comparison did not come to its end.
    """
    check_writable("--report", options["report"])
    check_writable("--differences", options["differences"])
    settings = verify_settings(source, target, options, os.environ)
    title = f"keyferry verify {settings.copy.source} with {settings.copy.target}"
    log = log_of(options)
    log.started(settings.copy.source.location, settings.copy.target.location)
    screen = logged_screen(log, title, VerifyView(), VerifyLooks())
    with errors_delivered(options, TOO_EARLY, lambda: _so_far(screen.last)):
        report = _run(settings, screen)
    if not options["as_json"]:
        emit(of_verify(report, settings))
    log.result(report.as_dict())
    deliver(report.as_dict(), options)
    return ExitCode.DONE if report.equal else ExitCode.KEYS_FAILED


def _run(settings: VerifySettings, screen: Screen[VerifyProgress]) -> VerifyReport:
    """Compares under ``screen`` and under the signal handlers."""
    from keyferry.verify.run import run_verify

    stop = StopFlag()
    try:
        with stopping(stop), screen:
            return run_verify(settings, observe=screen.observe, tell=screen.tell, stop=stop)
    except InterruptedRun as error:
        if screen.last is None:
            raise
        done = f"{count(screen.last.keys_done)} of {count(screen.last.keys_total)} keys"
        raise InterruptedRun(f"Interrupted after {done}.", error.hint) from None


def _so_far(last: VerifyProgress | None) -> dict[str, Any]:
    if last is None:
        return {}
    return {
        "stage": last.stage,
        "keys_done": last.keys_done,
        "keys_total": last.keys_total,
        "suspects": last.suspects,
        "differences": last.differences,
        "seconds": round(last.elapsed_s, 3),
    }
