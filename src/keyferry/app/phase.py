"""``keyferry phase show`` and ``keyferry phase set``: the phase record of a migration, for operators."""

from __future__ import annotations

import getpass
import os
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.text import Text

from keyferry.app.delivery import errors_delivered
from keyferry.app.output import console_on, emit, emit_json
from keyferry.app.settings import SideOptions, address_map, endpoint
from keyferry.app.summary_phase import of_outcome, of_report
from keyferry.cutover.phase_report import outcome_dict, report_on
from keyferry.cutover.phase_steps import Performer, Plan
from keyferry.cutover.record_store import RecordStore
from keyferry.model.errors import ExitCode, KeyferryError, UsageError
from keyferry.model.phases import Phase, Side
from keyferry.model.record import Stamp, check_name

TOO_EARLY = "Interrupted. The step may have been made: look with keyferry phase show."


def show_command(name: str, source: str, target: str, options: Mapping[str, Any]) -> int:
    """Runs the command; returns its exit status.

    Raises:
        KeyferryError: Neither side says anything.
    """
    with _delivered(name, options), _store(name, source, target, options) as store:
        report = report_on(store)
        problems = [side.problem for side in report.sides.values() if side.problem is not None]
        if len(problems) == len(Side):
            raise problems[0]
    if options["as_json"]:
        emit_json(report.as_dict())
    else:
        emit(of_report(report, time.time() * 1000))
    return report.problem.exit_code if report.problem else ExitCode.DONE


def set_command(name: str, source: str, target: str, phase: str, options: Mapping[str, Any]) -> int:
    """Runs the command; returns its exit status: 1 when a writer has not taken the step in time.

    Raises:
        KeyferryError: The step is refused, or a server does not answer.
    """
    console = console_on(sys.stderr)
    plan = Plan(Phase(phase), options["yes"], Stamp(round(time.time() * 1000), _operator()))
    with _delivered(name, options), _store(name, source, target, options) as store:
        performer = Performer(store, plan, tell=lambda sentence: console.print(Text(sentence)))
        outcome = performer.run(options["wait"])
    if options["as_json"]:
        emit_json(outcome_dict(name, outcome))
    else:
        emit(of_outcome(name, outcome, time.time() * 1000))
    return ExitCode.KEYS_FAILED if outcome.waiting else ExitCode.DONE


def _store(name: str, source: str, target: str, options: Mapping[str, Any]) -> RecordStore:
    check_name(name)
    endpoints = {
        Side.SOURCE: endpoint("source", source, SideOptions.of("source", options), os.environ),
        Side.TARGET: endpoint("target", target, SideOptions.of("target", options), os.environ),
    }
    if len({(found.location, found.db) for found in endpoints.values()}) < len(Side):
        raise UsageError("SOURCE and TARGET are the same database.", "A migration has two sides.")
    return RecordStore(
        name,
        endpoints,
        {Side.SOURCE: address_map("source", options), Side.TARGET: address_map("target", options)},
    )


@contextmanager
def _delivered(name: str, options: Mapping[str, Any]) -> Iterator[None]:
    """Errors go to --json too, and their hints name this migration."""
    with errors_delivered({"as_json": options["as_json"], "report": None}, TOO_EARLY, dict):
        try:
            yield
        except KeyferryError as error:
            error.hint = error.hint.replace("NAME", name)
            raise


def _operator() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = f"uid {os.getuid()}"
    return f"keyferry phase set, {user}@{socket.gethostname()}, pid {os.getpid()}"
