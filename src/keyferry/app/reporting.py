"""The report of a migration, made of its journal at any time: while it runs, after its end, after a crash.

``keyferry report``, the page that ``migrate --report FILE.html`` leaves, and what a running migration answers when it
is asked for its report are the same.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rich.text import Text

from keyferry.app.display_migrate import DEFAULT_STATE_DIR
from keyferry.app.output import check_writable, emit, emit_json, write_text
from keyferry.app.summary_migrate import of_migration
from keyferry.cutover.control_place import connected, control_path
from keyferry.cutover.plan import Step
from keyferry.journal.ended import EndedJournal, ended_journals, file_stem
from keyferry.journal.reading import living_journal, read_fact, read_journal
from keyferry.model.errors import ExitCode, RefusedError, UsageError
from keyferry.telemetry.migrating import REPORTED, FactKey, MigrationReport, report_of

_HEAD_BYTES = 2048


class Found(NamedTuple):
    """A report, and how the migration went over time (``Samples.as_dict``)."""

    report: MigrationReport
    history: Mapping[str, Any]


def read_report(name: str, path: Path) -> Found:
    """What the journal at ``path`` says of the migration. Raises as ``read_journal``."""
    look = read_journal(path, REPORTED)
    return Found(report_of(name, look.facts, look.events), look.facts.get(FactKey.SAMPLES, {}))


def report_so_far(name: str, directory: Path) -> dict[str, Any]:
    """Of a migration that runs, from any thread of its process, as JSON can say it.

    Raises:
        RefusedError: Writes wait just now: nothing that takes a while is to be done beside that.
        UsageError: As ``read_journal``.
    """
    path = living_journal(directory, name)
    switch = read_fact(path, FactKey.SWITCH) or {}
    if Step.HOLD in switch.get("begun", ()) and Step.OPEN not in switch.get("done", ()):
        raise RefusedError("A switch is under way: there is a report after it.", "Ask again in a moment.")
    return {**read_report(name, path).report.as_dict(), "running": True}


def report_command(name: str, options: Mapping[str, Any]) -> int:
    """Runs the command; returns its exit status.

    Raises:
        UsageError: There is no such migration, its journal cannot be read, or the page cannot be written.
    """
    directory = options["state_dir"] or DEFAULT_STATE_DIR
    if options["listed"]:
        return _list(name, directory, as_json=options["as_json"])
    file: Path | None = options["html"]
    check_writable("--html", file)
    path = _chosen(name, directory, options["ended"])
    found = read_report(name, path)
    data = {
        **found.report.as_dict(),
        "running": path == living_journal(directory, name) and _runs(name, directory),
    }
    if file is None and not options["as_json"]:
        file = _own_file(name)
    if file is not None:
        write_page(file, data, found.history)
    if options["as_json"]:
        emit_json(data)
    else:
        emit(of_migration(found.report, running=data["running"]))
        emit(Text.assemble(("\nThe page is in ", "dim"), str(file)))
    return ExitCode.DONE


def write_page(file: Path, report: Mapping[str, Any], history: Mapping[str, Any] | None) -> None:
    """Writes the page, never half of it. Raises UsageError when it cannot be written."""
    from keyferry.app.report_page import page

    write_text(file, page(report, history))


def _own_file(name: str) -> Path:
    from keyferry.app.report_page import MARK

    file = Path(f"{file_stem(name)}-report.html")
    try:
        with file.open("rb") as opened:
            ours = MARK.encode() in opened.read(_HEAD_BYTES)
    except FileNotFoundError:
        ours = True
    except OSError:
        ours = False
    if not ours:
        raise UsageError(f"{file} is there, and is no report of ours.", "Name another file with --html FILE.")
    check_writable("--html", file)
    return file


def _chosen(name: str, directory: Path, ended: int | None) -> Path:
    living = living_journal(directory, name)
    if ended is None and living.exists():
        return living
    kept = ended_journals(directory, name)
    if not kept:
        raise UsageError(
            f"The state directory {directory} knows no migration {name}{' that has ended' if living.exists() else ''}.",
            "Name its --state-dir, if it was led with another one.",
        )
    if ended is not None and ended > len(kept):
        raise UsageError(f"Of the migration {name} {len(kept)} ended ones are kept.", "See them with --list.")
    return kept[(ended or 1) - 1].path


def _runs(name: str, directory: Path) -> bool:
    try:
        connected(control_path(directory, name)).close()
    except OSError:
        return False
    return True


def _list(name: str, directory: Path, *, as_json: bool) -> int:
    rows = [_row(name, kept, number) for number, kept in enumerate(ended_journals(directory, name), 1)]
    unfinished = living_journal(directory, name).exists()
    if as_json:
        emit_json({"name": name, "unfinished": unfinished, "ended": rows})
        return ExitCode.DONE
    if unfinished:
        emit(Text(f"{name}: {'under way' if _runs(name, directory) else 'not finished'}"))
    for row in rows:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row["at_ms"] / 1000))
        emit(Text(f"--ended {row['number']}: {at} {row['ended']}, {row['source']} to {row['target']}"))
    if not rows and not unfinished:
        emit(Text(f"The state directory {directory} knows no migration {name}."))
    return ExitCode.DONE


def _row(name: str, kept: EndedJournal, number: int) -> dict[str, Any]:
    report = read_report(name, kept.path).report
    return {
        "number": number,
        "at_ms": round(kept.at.timestamp() * 1000),
        "ended": report.ended,
        "source": report.source,
        "target": report.target,
        "file": str(kept.path),
    }
