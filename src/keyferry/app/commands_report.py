"""``keyferry report``: what there is to type; what it does stands in reporting.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from keyferry.app.options_migrate import migration_name


@click.command(short_help="Make the report of a migration: as a page, for people, as JSON.")
@click.argument("name", type=migration_name)
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the page to FILE. Default, without --json: NAME-report.html in the working directory.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print the report as one JSON object on standard output."
)
@click.option("--list", "listed", is_flag=True, help="Only say which migrations of this name there are.")
@click.option(
    "--ended",
    type=click.IntRange(min=1),
    metavar="N",
    help="Of those that have ended, the N-th from the newest. Default: the unfinished one, else the newest.",
)
@click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIRECTORY",
    help="The state directory of keyferry migrate. Default: .keyferry",
)
def report(name: str, **given: Any) -> int:
    """Make the report of the migration NAME from its journal: while it runs, after its end, after a crash.

    The page needs nothing else: open it, print it, keep it. Nothing is written but that, and no server is asked.
    """
    from keyferry.app.reporting import report_command

    return report_command(name, given)
