"""The report of a migration as one HTML page that needs nothing else: no script, no font, no other file, no network.

It is read in a browser, printed, and kept for years. Times are UTC, as it may be read anywhere.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from keyferry import __version__
from keyferry.app import report_charts, report_words
from keyferry.app.report_charts import TimeAxis
from keyferry.model.words import duration

MARK = '<meta name="generator" content="Keyferry'
"""By this a file is known as one of our pages."""


def page(report: Mapping[str, Any], history: Mapping[str, Any] | None, made_ms: int | None = None) -> str:
    """The page.

    Args:
        report: As ``MigrationReport.as_dict``; with ``error`` and ``hint`` where it ended before its time, and
            ``running`` where a process leads it now.
        history: As ``Samples.as_dict``; None: without charts.
        made_ms: When, in ms since 1970; None: now.
    """
    made = round(time.time() * 1000) if made_ms is None else made_ms
    return _environment().get_template("report.html").render(_context(report, history or {}, made))


def security_policy() -> str:
    """A Content-Security-Policy under which the page looks as it should, and can load nothing."""
    css, _, _ = _environment().loader.get_source(_environment(), "report.css")  # type: ignore[union-attr]
    digest = base64.b64encode(hashlib.sha256(css.rstrip("\n").encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("keyferry.app"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _context(report: Mapping[str, Any], history: Mapping[str, Any], made_ms: int) -> dict[str, Any]:
    timeline: Sequence[Mapping[str, Any]] = report.get("timeline") or ()
    switches: Sequence[Mapping[str, Any]] = report.get("switches") or ()
    stages: Mapping[str, float] = report.get("stages") or {}
    axis = _axis(report, history)
    charts, quiet = report_charts.charts(history, axis, report_charts.pauses_in(timeline))
    return {
        "version": __version__,
        "policy": security_policy(),
        "name": report["name"],
        "source": report.get("source", ""),
        "target": report.get("target", ""),
        "authority": report.get("authority", ""),
        "phase": report.get("phase", ""),
        "made": report_words.moment_of(made_ms),
        "period": [
            report_words.moment_of(at_ms) for name in ("began_ms", "seen_ms") if (at_ms := report.get(name))
        ],
        "verdict": report_words.verdict(report),
        "numbers": report_words.numbers(report),
        "moved": report_words.moved(report),
        "chart": report_charts,
        "axis": axis,
        "lanes": report_charts.lanes(
            timeline, axis, lambda stage: duration(stages[stage]) if stage in stages else ""
        ),
        "stages": [(stage, duration(seconds)) for stage, seconds in stages.items() if seconds >= 0.05],
        "charts": charts,
        "quiet": quiet,
        "switches": [report_words.switch_view(one) for one in switches[-report_words.SHOWN_MAX :]],
        "switches_hidden": max(0, len(switches) - report_words.SHOWN_MAX),
        "verifications": report_words.verifications(report),
        "verifications_hidden": max(0, len(report.get("verifications") or ()) - report_words.SHOWN_MAX),
        "warnings": report.get("warnings") or (),
        "advice": report.get("advice") or (),
    }


def _axis(report: Mapping[str, Any], history: Mapping[str, Any]) -> TimeAxis:
    timeline, rows = report.get("timeline") or (), history.get("rows") or ()
    at_ms = [edge for span in timeline for edge in (span["from_ms"], span["to_ms"])]
    at_ms += [row[0] for row in (rows[:1], rows[-1:]) for row in row]
    switches = report.get("switches") or ()
    at_ms += [one["at_ms"] for one in switches]
    return TimeAxis(min(at_ms, default=0), max(at_ms, default=0), switches)
