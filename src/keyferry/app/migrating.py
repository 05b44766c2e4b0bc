"""``keyferry migrate``: look first, then lead a migration until it is finished, then say what it has done.

Everything that happens on the way is in the journal, so what is said at an end of any kind is made of that.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from typing import Any

from keyferry.app.checking import precheck
from keyferry.app.copying import show_plan
from keyferry.app.dashboard_launch import Watched, board_for
from keyferry.app.delivery import deliver, errors_delivered
from keyferry.app.display_migrate import MigrateView, address
from keyferry.app.log import RunLog, log_of
from keyferry.app.log_looks import MigrationLooks
from keyferry.app.log_requests import RequestLog
from keyferry.app.log_screen import logged_screen
from keyferry.app.output import check_writable, emit, error_dict
from keyferry.app.reporting import read_report, report_so_far
from keyferry.app.screen import Screen
from keyferry.app.settings import migration_settings
from keyferry.app.signals import stopping
from keyferry.app.summary_migrate import of_migration
from keyferry.app.syncing import has_checkpoint
from keyferry.copy.stop import StopFlag
from keyferry.cutover.books import SwitchBooks
from keyferry.cutover.settings import MigrationSettings
from keyferry.journal.migration import MigrationJournal
from keyferry.journal.reading import living_journal
from keyferry.model.errors import ExitCode, InterruptedRun, KeyferryError, RefusedError, UsageError
from keyferry.model.keynames import KeyNames
from keyferry.model.phases import Side
from keyferry.model.words import duration
from keyferry.telemetry.glance import MigrationGlances
from keyferry.telemetry.migrating import FactKey, MigrationProgress, MigrationReport, report_of

TOO_EARLY = "Interrupted before the migration began; nothing was written."
HOW_TO_GO_ON = "Give the same command again to go on; your application does not need it meanwhile."


def migrate_command(source: str, target: str, options: Mapping[str, Any]) -> int:
    """Runs the command; returns its exit status: 1 when it was aborted, or something is left to look at.

    Raises:
        KeyferryError: The migration was stopped, or cannot go on.
    """
    check_writable("--report", options["report"])
    check_writable("--failures", options["failures"])
    settings = migration_settings(source, target, options, os.environ)
    log = log_of(options)
    log.started(settings.sync.copy.source.location, settings.sync.copy.target.location)
    found: dict[str, Any] = {}
    page = functools.partial(_page, settings)
    with ExitStack() as opened:
        with errors_delivered(options, TOO_EARLY, lambda: found, page):
            if options["dry_run"]:
                precheck(settings.sync.copy, resuming=False, log=log)
                return show_plan(settings.sync.copy, options)
            journal = opened.enter_context(_open_journal(settings))
            with _reported(journal, found):
                screen = _screen(settings, log, KeyNames(options["show_keys"]))
                board = opened.enter_context(board_for(options, _watched(settings), screen.tell))
                report = _lead(settings, journal, screen, log)
        if not options["as_json"]:
            emit(of_migration(report))
        log.result(report.as_dict())
        deliver(report.as_dict(), options, page)
        # Only now: a report that could not be delivered is delivered when the command is given again.
        journal.close(finished=bool(report.ended))
        status = ExitCode.DONE if report.clean else ExitCode.KEYS_FAILED
        said = f"The migration {report.name} is {report.ended}."
        board.ended(status, said, " ".join(report.advice), str(options["report"] or ""))
    return status


def _page(settings: MigrationSettings, report: Mapping[str, Any]) -> str:
    """For ``--report FILE.html``."""
    from keyferry.app.report_page import page

    try:
        history = read_report(
            settings.name, living_journal(settings.sync.copy.state_dir, settings.name)
        ).history
    except UsageError:  # It was refused before it had a journal, or that cannot be read.
        history = {}
    return page({"name": settings.name, **report}, history)


def _screen(settings: MigrationSettings, log: RunLog, names: KeyNames) -> Screen[MigrationProgress]:
    copy = settings.sync.copy
    title = f"keyferry migrate {copy.source} to {copy.target}, {settings.name}"
    glances = MigrationGlances(settings.sync.lag_target_s, cutover_when_ready=settings.cutover_when_ready)
    looks = MigrationLooks(names, glances)
    return logged_screen(log, title, MigrateView(settings.name, copy.state_dir, names), looks)


def _watched(settings: MigrationSettings) -> Watched:
    from keyferry.cutover.control_place import control_path

    return Watched("migrate", settings.name, control_path(settings.sync.copy.state_dir, settings.name))


def _lead(
    settings: MigrationSettings, journal: MigrationJournal, screen: Screen[MigrationProgress], log: RunLog
) -> MigrationReport:
    """From the journal to the end."""
    so_far = _report(journal)
    if so_far.ended:
        return so_far
    # After a switch that was left half done somebody may be waiting for us. And once the target has authority, the
    # source may be away, and what the target holds is not the source's any more.
    if so_far.authority != Side.TARGET and SwitchBooks(journal).left_behind() is None:
        # Judged like a dry run at first: what is refused must not have begun a phase record.
        resuming = so_far.starts > 0 or has_checkpoint(settings.sync)
        precheck(settings.sync.copy, resuming=resuming, log=log)
    return _run(settings, journal, screen, log)


def _run(
    settings: MigrationSettings, journal: MigrationJournal, screen: Screen[MigrationProgress], log: RunLog
) -> MigrationReport:
    """Leads it under ``screen``, under the signal handlers, and reachable by other commands."""
    from keyferry.cutover.conductor import run_migration
    from keyferry.cutover.control import ControlServer
    from keyferry.cutover.control_place import control_path
    from keyferry.cutover.desk import QueueDesk

    copy = settings.sync.copy
    places = {"source": copy.source.location, "target": copy.target.location}
    stop = StopFlag()
    first = {"name": settings.name, **places, "pid": os.getpid(), "stage": "connecting"}
    so_far = functools.partial(report_so_far, settings.name, copy.state_dir)
    desk = QueueDesk(first, report=so_far, clerk=RequestLog(log))
    try:
        with (
            ControlServer(control_path(copy.state_dir, settings.name), desk),
            # First of all at the end: whoever waits for an answer hears that there is none.
            closing(desk),
            stopping(stop),
            screen,
        ):
            return run_migration(
                settings, journal, observe=screen.observe, tell=screen.tell, stop=stop, desk=desk
            )
    except InterruptedRun:
        if screen.last is None:
            raise
        raise InterruptedRun(_stopped(screen.last), _how_to_go_on(settings, screen.last)) from None


def _open_journal(settings: MigrationSettings) -> MigrationJournal:
    """The journal of this migration, empty with ``--restart``.

    Raises:
        RefusedError: It is led by another process, or has switched: nothing could take it back then.
        UsageError: It cannot be used, or belongs to another migration.
    """
    copy = settings.sync.copy
    journal = MigrationJournal(copy.state_dir, settings.name)
    try:
        if copy.restart:
            _check_restart(settings, journal)
            journal.forget()
        else:
            journal.is_claimed(copy.selection.fingerprint(), copy.source.location, copy.target.location)
    except BaseException:
        journal.close()
        raise
    return journal


def _check_restart(settings: MigrationSettings, journal: MigrationJournal) -> None:
    report = _report(journal)
    switched = any(switch.outcome != "put off" for switch in report.switches)
    books = SwitchBooks(journal)
    holds = books.left_behind() is not None or any(books.taken(side) for side in Side)
    if report.ended or not (switched or holds):
        return
    where = address(settings.name, settings.sync.copy.state_dir)
    raise RefusedError(
        f"The migration {settings.name} has been switched: --restart would forget what that has changed.",
        f"Go on without --restart, then end it: keyferry finish {where} or keyferry abort {where}",
    )


def _report(journal: MigrationJournal) -> MigrationReport:
    return report_of(journal.name, journal.facts(), journal.events())


@contextlib.contextmanager
def _reported(journal: MigrationJournal, found: dict[str, Any]) -> Iterator[None]:
    """An error of the block goes out with how far the migration is."""
    try:
        yield
    except KeyferryError as error:
        # A journal that cannot be read is most likely the error itself.
        with contextlib.suppress(UsageError):
            if _report(journal).starts:
                stopped = {**error_dict(error), "at_ms": round(time.time() * 1000)}
                journal.set(FactKey.STOPPED, stopped)
            found.update(_report(journal).as_dict())
        raise


def _stopped(last: MigrationProgress) -> str:
    paused = ", paused" if last.paused else ""
    return f"Stopped while {last.stage}{paused}, after {duration(last.elapsed_s)}."


def _how_to_go_on(settings: MigrationSettings, last: MigrationProgress) -> str:
    if last.authority is Side.TARGET and settings.rollback:
        return "Give the same command again to go on: a rollback needs it, your application does not."
    return HOW_TO_GO_ON
