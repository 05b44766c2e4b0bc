"""What ``keyferry status`` shows: the picture that ``keyferry migrate`` shows, and below it everything in full.

It is made of the status as JSON says it, so another version's status is shown as far as it is understood.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.text import Text

from keyferry.app import display_migrate
from keyferry.app.leases import is_silent
from keyferry.app.pictures import WARNING
from keyferry.model.phases import Side
from keyferry.model.words import count, counted, duration, latency
from keyferry.telemetry.following import SyncProgress
from keyferry.telemetry.migrating import (
    MigrationProgress,
    SwitchReport,
    Verified,
    in_migration_words,
    station,
)

Status = Mapping[str, Any]
Row = tuple[str, str | Text]

WRITERS_SHOWN = 8
SWITCHES_SHOWN = 5
EVENTS_SHOWN = 6
OLD_S = 3.0
"""A look that is older is said to be; a new one comes several times a second."""
_NAME_WIDTH = 9
_JUDGEMENT_CHARS = 60
"""Of a reason that the picture shows whole on 80 columns."""
_NO_PROGRESS: Mapping[str, Any] = {
    "stage": "connecting",
    "feed": "",
    "seconds_left": None,
    "cutover_s": None,
    "source_latency_ms": None,
    "target_latency_ms": None,
    "throttle": "off",
    "shards": 1,
}
_NAMED: dict[str, Any] = {"hottest": (), "biggest": (), "shard_looks": (), "failures": (), "away": ""}
"""Of keys and shards: not in this picture."""


def frame(status: Status, where: str, now_ms: float) -> RenderableType:
    """One picture, 80 columns wide.

    Args:
        status: What the migration publishes.
        where: The options by which commands find it.
        now_ms: Since 1970, by this machine's clock; the migration runs on it.
    """
    progress = progress_of(status)
    title = f"{status.get('name', '')}: {status.get('source', '')} to {status.get('target', '')}"
    at = station(progress, 0)
    return Group(
        display_migrate.frame(title, progress, at, where),
        _Rows(tuple(_details(status, progress, now_ms))),
    )


def line(status: Status) -> str:
    """The same in one line of plain text."""
    return display_migrate.line(progress_of(status))


def progress_of(status: Status) -> MigrationProgress:
    """The look that the status was made of, as far as it says it."""
    sync, verified, switches = (status.get(name) for name in ("progress", "verification", "switches"))
    stage = status.get("stage", "connecting")
    elapsed_s = float(status.get("elapsed_seconds", 0.0))
    look = MigrationProgress(
        sync=_sync_of(sync, stage, elapsed_s) if sync else None,
        stage=stage,
        phase=status.get("phase", ""),
        epoch=status.get("epoch", 0),
        authority=Side(status.get("authority", Side.SOURCE)),
        paused=status.get("paused", False),
        writers=len(status.get("writers", ())),
        not_ready=tuple(status.get("not_ready", ())),
        step=status.get("step", ""),
        verified=Verified(verified["at_ms"], verified["compared"], verified["differences"])
        if verified
        else None,
        last_switch=SwitchReport.of_dict(switches[-1]) if switches else None,
        elapsed_s=elapsed_s,
    )
    # A look has the words of the run that follows, a status those of the migration.
    return replace(look, sync=in_migration_words(look))


def _sync_of(said: Mapping[str, Any], stage: str, elapsed_s: float) -> SyncProgress:
    values: dict[str, Any] = {one.name: 0 for one in fields(SyncProgress)}
    values |= {**_NO_PROGRESS, "stage": stage, "elapsed_s": elapsed_s}
    values |= {name: value for name, value in said.items() if name in values} | _NAMED
    return SyncProgress(**values)


def _details(status: Status, progress: MigrationProgress, now_ms: float) -> Iterator[Row]:
    if (age_s := status.get("age_seconds", 0.0)) > OLD_S:
        yield "old", Text(f"It looked around {duration(age_s)} ago: it is busy, or stuck.", style="yellow")
    yield from _glance(status.get("glance") or {})
    if len(progress.not_ready) > 1 or any(len(reason) > _JUDGEMENT_CHARS for reason in progress.not_ready):
        for reason in progress.not_ready:
            yield "not ready", reason
    if (verified := progress.verified) is not None:
        ago = duration(max(0.0, now_ms - verified.at_ms) / 1000)
        since = f"; {counted(status.get('touched', 0), 'key')} changed since" if status.get("touched") else ""
        yield "verified", f"{display_migrate.verified_words(verified)}, {ago} ago{since}"
    if said := _limits(status.get("limits", {})):
        yield "limits", said
    yield from _writers(status, now_ms)
    switches = status.get("switches", ())
    for switch in switches[-SWITCHES_SHOWN:]:
        yield (
            "switch",
            f"{_moment(switch['at_ms'])} {display_migrate.switch_sentence(SwitchReport.of_dict(switch))}",
        )
    if status.get("barred"):
        yield "barred", status["barred"]
    for warning in status.get("warnings", ()):
        yield "warning", Text(warning, style="yellow")
    for event in status.get("events", ())[-EVENTS_SHOWN:]:
        yield _clock(event["at_ms"]), Text(event["text"], style="dim")


def _glance(glance: Mapping[str, str]) -> Iterator[Row]:
    """Empty for a migration of an older version."""
    if glance.get("why"):
        style = WARNING if glance.get("health") == "trouble" else "yellow"
        yield glance.get("health", ""), Text(glance["why"], style=style)
    if glance.get("next"):
        yield "what now", glance["next"]


def _limits(limits: Mapping[str, float | None]) -> str:
    rate, late = limits.get("max_rate"), limits.get("max_latency_ms")
    said = [f"{count(rate)} keys/s"] if rate else []
    said += [f"servers may answer {latency(late)} later than at rest"] if late else ["latency guard off"]
    return ", ".join(said) if limits else ""


def _writers(status: Status, now_ms: float) -> Iterator[Row]:
    writers = status.get("writers", ())
    # Those first that somebody has to look at.
    ordered = sorted(writers, key=lambda one: (not _trouble(one, status, now_ms), one["host"], one["pid"]))
    for writer in ordered[:WRITERS_SHOWN]:
        trouble = _trouble(writer, status, now_ms)
        who = f"{writer['program']} (pid {writer['pid']} on {writer['host']})"
        said = ", ".join(part for part in (f"{who}: {writer['phase'] or 'no phase taken yet'}", *trouble))
        yield "writer", Text(said, style=WARNING if trouble else "")
    if len(writers) > WRITERS_SHOWN:
        yield "", f"and {counted(len(writers) - WRITERS_SHOWN, 'more writer')}"


def _trouble(writer: Mapping[str, Any], status: Status, now_ms: float) -> tuple[str, ...]:
    seen_ms = writer["seen_ms"]
    found = []
    # While a server is away nobody looks at the writers: how long one has been silent is not known.
    looked = status.get("stage") != "waiting for a server"
    if looked and seen_ms and is_silent(seen_ms, writer["lease_ms"], now_ms):
        found.append(f"silent for {duration((now_ms - seen_ms) / 1000)}")
    if writer["epoch"] < status.get("epoch", 0):
        found.append(f"still at epoch {writer['epoch']}")
    return (*found, writer["note"]) if writer.get("note") else tuple(found)


@dataclass(frozen=True, slots=True)
class _Rows:
    """A name, and its value beside it; a value that is longer than the terminal is wide goes on below itself."""

    rows: tuple[Row, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = max(20, options.max_width - _NAME_WIDTH - 1)
        before = ""
        for name, value in self.rows:
            text = value if isinstance(value, Text) else Text(value)
            label = "" if name == before else name
            for part in text.wrap(console, width) if console.is_terminal else (text,):
                part.rstrip()
                yield Text.assemble((f"{label:<{_NAME_WIDTH}} ", "dim"), part)
                label = ""
            before = name


def _moment(at_ms: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_ms / 1000))


def _clock(at_ms: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at_ms / 1000))
