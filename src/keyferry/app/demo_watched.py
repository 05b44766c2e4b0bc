"""What of the demo can be seen in a browser: its dashboard while it runs, and the report that it leaves behind."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keyferry.app.dashboard_launch import Board, Dashboard, NoDashboard, Watched, missing_packages
from keyferry.app.http_place import LOOPBACK, HttpPlace
from keyferry.model.errors import UsageError
from keyferry.telemetry.migrating import MigrationReport
from keyferry.telemetry.progress import Teller

REPORT = Path("keyferry-demo-report.html")


def demo_board(place: HttpPlace | None, further: Sequence[str], watched: Watched, tell: Teller) -> Board:
    """The dashboard at ``place``, or on any free port. None where nobody asked for one and it cannot be had."""
    if place is None and missing_packages():
        return NoDashboard()
    return Dashboard(
        place or HttpPlace(LOOPBACK, 0), watched, tell, further=further, private=sys.stderr.isatty()
    )


def leave_report(
    report: MigrationReport, samples: Mapping[str, Any] | None, tell: Teller, file: Path = REPORT
) -> str:
    """Writes the page, in place of that of an earlier demo; never half of it.

    Returns:
        Where it is, in full; empty where it cannot be written: that takes nothing from the demo.
    """
    from keyferry.app.reporting import write_page

    whole = file.absolute()
    try:
        write_page(whole, report.as_dict(), samples)
    except UsageError as error:
        tell(error.message)
        return ""
    return str(whole)
