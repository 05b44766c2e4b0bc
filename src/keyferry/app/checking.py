"""``keyferry check``, and the same look before every copy."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from keyferry.app.log import NO_LOG, Level, RunLog
from keyferry.app.output import console_on, emit, emit_json, error_dict
from keyferry.app.settings import SideOptions, address_map, endpoint, selection
from keyferry.copy.check import CheckReport, Finding, run_check
from keyferry.copy.facts import CheckRequest
from keyferry.copy.settings import CopySettings
from keyferry.model.address import names_database
from keyferry.model.errors import KeyferryError
from keyferry.model.keynames import KeyNames
from keyferry.model.words import counted

_MARKS = {"ok": ("✓", "+", "green"), "warning": ("!", "!", "yellow"), "stop": ("✗", "x", "bold red")}


def check_command(source_url: str, target_url: str, options: Mapping[str, Any]) -> int:
    """Runs the command; returns its exit status.

    Raises:
        KeyferryError: A server cannot be reached, or the options contradict each other.
    """
    try:
        source = endpoint("source", source_url, SideOptions.of("source", options), os.environ)
        target = endpoint("target", target_url, SideOptions.of("target", options), os.environ)
        request = CheckRequest(
            selection=selection(source, target, names_database(target_url), options),
            on_conflict=options["on_conflict"],
            drop_field_expiry=options["drop_field_expiry"],
            functions=options["functions"],
            keep_eviction_hints=options["keep_eviction_hints"],
            source_map=address_map("source", options),
            target_map=address_map("target", options),
        )
        report = run_check(source, target, request)
    except KeyferryError as error:
        if options["as_json"]:
            emit_json(error_dict(error))
        raise
    if options["as_json"]:
        emit_json(report.as_dict())
    else:
        emit(of_findings(report.findings, unicode=_speaks_unicode(console_on(sys.stdout))))
        emit(Text(verdict(report)))
    return report.exit_code


def precheck(settings: CopySettings, *, resuming: bool, log: RunLog = NO_LOG) -> None:
    """The look before a copy or a sync: shows warnings on standard error, ends it where one finding says stop.

    Args:
        resuming: The target's keys may be those of an earlier run. A run that writes finds that out by itself, with
            its checkpoint in hand; only for a dry run it is judged here.
        log: Gets the warnings, too; alone where it has standard error.

    Raises:
        RefusedError: Something stops the copy.
        ServerError: A server cannot be reached.
    """
    request = CheckRequest(
        selection=settings.selection,
        on_conflict=settings.on_conflict,
        drop_field_expiry=settings.drop_field_expiry,
        functions=settings.functions,
        keep_eviction_hints=settings.keep_eviction_hints,
        resuming=resuming,
        source_map=settings.source_map,
        target_map=settings.target_map,
        big_key_bytes=settings.big_key_bytes,
        names=KeyNames(settings.show_keys),
    )
    report = run_check(settings.source, settings.target, request)
    for finding in report.warnings:
        log.say(
            "finding", finding.sentence, Level.WARNING, topic=finding.topic, advice=finding.advice or None
        )
    console = console_on(sys.stderr)
    if report.warnings and not log.replaces_display:
        console.print(of_findings(report.warnings, unicode=_speaks_unicode(console)))
    report.raise_if_stopped()


def of_findings(findings: Iterable[Finding], *, unicode: bool) -> RenderableType:
    """One line per finding, its advice below it."""
    width = max((len(finding.topic) for finding in findings), default=0)
    lines: list[RenderableType] = []
    for finding in findings:
        mark, plain_mark, style = _MARKS[finding.level]
        level = Text(f"{mark if unicode else plain_mark} {finding.level}", style=style)
        lines.append(_row(width, level, Text(finding.topic, style="dim"), Text(finding.sentence)))
        if finding.advice:
            lines.append(_row(width, Text(), Text(), Text(finding.advice, style="italic")))
    return Group(*lines)


def _row(topic_width: int, *cells: Text) -> Table:
    # A table per row: a column of a common one would be padded to its longest line.
    row = Table.grid(padding=(0, 1))
    row.add_column(width=9)
    row.add_column(width=topic_width)
    row.add_column()
    row.add_row(*cells)
    return row


def verdict(report: CheckReport) -> str:
    """The last line."""
    warned = f" {counted(len(report.warnings), 'warning')}: think about them." if report.warnings else ""
    if report.stops:
        return f"A copy would stop here: {counted(len(report.stops), 'thing')} to mend first.{warned}"
    return f"Nothing stops a copy.{warned}"


def _speaks_unicode(console: Console) -> bool:
    return console.encoding.lower().startswith("utf")
