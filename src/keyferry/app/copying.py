"""``keyferry copy``: look first, then copy, then say what happened."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from keyferry.app import summary
from keyferry.app.checking import precheck
from keyferry.app.display import Display, open_display
from keyferry.app.output import check_writable, emit, emit_json, error_dict, write_report
from keyferry.app.settings import copy_settings
from keyferry.app.signals import stopping
from keyferry.app.words import count
from keyferry.copy.settings import CopySettings
from keyferry.copy.stop import StopFlag
from keyferry.model.errors import ExitCode, InterruptedRun, KeyferryError, UsageError
from keyferry.telemetry.report import CopyReport


def copy_command(source: str, target: str, options: Mapping[str, Any]) -> int:
    """Runs the command; returns its exit status.

    Raises:
        KeyferryError: The copy did not come to its end.
    """
    check_writable("--report", options["report"])
    check_writable("--failures", options["failures"])
    settings = copy_settings(source, target, options, os.environ)
    display = open_display(f"keyferry copy {settings.source} to {settings.target}")
    try:
        with file_errors():
            precheck(settings, dry_run=options["dry_run"])
            if options["dry_run"]:
                return _plan(settings, options)
            report = run_with_display(settings, display)
    except KeyboardInterrupt:
        error = InterruptedRun("Interrupted before the copy began; nothing was written.")
        _deliver(error_dict(error, None), options)
        raise error from None
    except KeyferryError as error:
        _deliver(error_dict(error, display.last), options)
        raise
    _deliver(report.as_dict(), options)
    if not options["as_json"]:
        emit(summary.of_copy(report, settings.failures_file))
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


@contextmanager
def file_errors() -> Iterator[None]:
    """Files that cannot be read or written (state, failures) are the user's to mend.

    Raises:
        UsageError: In place of the OSError.
    """
    try:
        yield
    except OSError as error:
        place = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        raise UsageError(
            f"{place}{error.strerror or error}.", "Everything acknowledged until then is in the checkpoint."
        ) from error


def _plan(settings: CopySettings, options: Mapping[str, Any]) -> int:
    from keyferry.copy.run import plan_copy

    plan = plan_copy(settings)
    _deliver(plan.as_dict(), options)
    if not options["as_json"]:
        emit(summary.of_plan(plan))
    return ExitCode.DONE


def _deliver(data: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    if options["as_json"]:
        emit_json(data)
    if options["report"]:
        write_report(options["report"], data)
