"""What a migration says to people at its end. Short and true: no line for what did not happen."""

from __future__ import annotations

import time
from collections.abc import Iterator

from rich.text import Text

from keyferry.app.display_migrate import switch_sentence, verified_words
from keyferry.app.summary import lines
from keyferry.model.words import counted, duration, size
from keyferry.telemetry.migrating import MigrationReport, SwitchReport

STAGE_S_MIN = 0.05
SWITCHES_SHOWN = 10


def of_migration(report: MigrationReport, *, running: bool = False) -> Text:
    """The end of a migration, or where it stands. Args: running: A process leads it now."""
    rows = [
        *([] if running else _stopped(report)),
        *_moved(report),
        *_stages(report),
        *_switches(report),
        *_rest(report),
    ]
    text = lines(_title(report, running), "bold green" if report.clean else "bold yellow", rows)
    for sentence in report.advice:
        text.append(f"\n{sentence}")
    return text


def _title(report: MigrationReport, running: bool) -> str:
    took = duration(sum(report.stages.values()))
    if report.ended == "aborted":
        return f"Aborted: {report.name} is given up after {took}; the {report.authority or 'source'} has authority."
    if report.ended == "finished":
        here = report.target if report.authority == "target" else report.source
        return f"Finished: {report.name} is on the {report.authority or 'source'} {here}, after {took}."
    if running:
        # The stage that runs is written down now and then only: what is spent in all is behind.
        return (
            f"Under way: {report.name}, begun {duration(max(0.0, time.time() - report.began_ms / 1000))} ago."
        )
    return f"Not finished: {report.name}, after {took}. The same keyferry migrate command goes on with it."


def _stopped(report: MigrationReport) -> Iterator[tuple[str, str]]:
    if report.stopped and not report.ended:
        yield "stopped", report.stopped["error"]


def _moved(report: MigrationReport) -> Iterator[tuple[str, str]]:
    for direction in dict.fromkeys(run["direction"] for run in report.moved):
        runs = [run for run in report.moved if run["direction"] == direction]
        copied = sum(run["copied"]["copied"] for run in runs)
        payload = sum(run["copied"]["bytes"] for run in runs)
        settled = sum(run["settled"] for run in runs)
        yield (
            "moved",
            f"{direction}: {counted(copied, 'key')} copied ({size(payload)}), {counted(settled, 'change')} settled",
        )
    if report.failed:
        yield "failed", f"{counted(report.failed, 'key')} could not be carried"


def _stages(report: MigrationReport) -> Iterator[tuple[str, str]]:
    spent = [f"{stage} {duration(s)}" for stage, s in report.stages.items() if s >= STAGE_S_MIN]
    yield "time", ", ".join(spent)
    if report.starts > 1:
        yield "started", f"{report.starts} times"


def _switches(report: MigrationReport) -> Iterator[tuple[str, str]]:
    hidden = len(report.switches) - SWITCHES_SHOWN
    if hidden > 0:
        yield "switched", f"{counted(hidden, 'earlier time')}"
    for switch in report.switches[-SWITCHES_SHOWN:]:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(switch.at_ms / 1000))
        yield "switched", f"{at} {switch_sentence(switch)}{_proof(switch)}"
        if switch.hook:
            yield "hook", switch.hook


def _proof(switch: SwitchReport) -> str:
    if switch.outcome != "done":
        return ""
    return f" (gate {switch.gate}, {counted(switch.compared, 'key')} compared under it)"


def _rest(report: MigrationReport) -> Iterator[tuple[str, str]]:
    if report.verifications:
        times = counted(len(report.verifications), "time")
        yield "verified", f"{times}; at last {verified_words(report.verifications[-1])}"
    if report.writers:
        yield "writers", f"{report.writers} at most"
    if report.barred not in report.advice:
        yield "barred", report.barred
    for warning in report.warnings:
        yield "warning", warning
