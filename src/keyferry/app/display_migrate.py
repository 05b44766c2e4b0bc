"""What a running migration looks like: where it is on its way, numbers that should stay small, what to type next."""

from __future__ import annotations

import shlex
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from keyferry.app import display_sync
from keyferry.app.pictures import LINE_S, WARNING, Row, columns, heading, joined, one_line, time_left
from keyferry.model.keynames import MARKS, KeyNames
from keyferry.model.phases import Side
from keyferry.model.words import count, counted, latency
from keyferry.telemetry.following import SyncProgress
from keyferry.telemetry.migrating import (
    STATIONS,
    MigrationProgress,
    SwitchReport,
    Verified,
    in_migration_words,
    station,
)

WAITING_S = 60.0
"""Between two plain lines while it waits to be told: it may do so for weeks."""
DEFAULT_STATE_DIR = Path(".keyferry")


class MigrateView:
    """A line for each stage, every few seconds while keys are gone over, and seldom while it waits."""

    def __init__(self, name: str, state_dir: Path, names: KeyNames = MARKS) -> None:
        """
        Args:
            name, state_dir: As the commands that speak to it have to be given them.
            names: How keys are called in a line, which goes to a log.
        """
        self._address, self._names = address(name, state_dir), names
        self._station = 0

    def frame(self, title: str, progress: MigrationProgress) -> RenderableType:
        self._station = station(progress, self._station)
        return frame(title, progress, self._station, self._address)

    def line(self, progress: MigrationProgress) -> str:
        return line(progress, self._names)

    def pause_s(self, said: MigrationProgress | None, progress: MigrationProgress) -> float:
        if said is None or _state(said) != _state(progress):
            return 0.0
        return LINE_S if progress.sync and display_sync.in_pass(progress.sync) else WAITING_S


def address(name: str, state_dir: Path) -> str:
    """The options by which another command finds this migration."""
    found = f"--name {shlex.quote(name)}"
    if state_dir != DEFAULT_STATE_DIR:
        found += f" --state-dir {shlex.quote(str(state_dir))}"
    return found


def frame(title: str, progress: MigrationProgress, at: int, address: str) -> RenderableType:
    """One picture, 80 columns wide. Only the hottest keys come and go, at its end.

    Args:
        at: As ``station`` says.
        address: As the function of this name says.
    """
    sync = in_migration_words(progress)
    numbers: list[RenderableType] = []
    if sync is not None:
        rows = (*display_sync.rows(sync), *_rows(progress, sync))
        numbers = [*_pass_rows(progress, sync), columns(rows)]
    end: list[RenderableType] = [_judgement(progress), _next(progress, address)]
    hottest = display_sync.hottest_rows(sync) if sync else ()
    return Group(heading(title), _way(progress, at), *numbers, *end, *hottest)


def line(progress: MigrationProgress, names: KeyNames = MARKS) -> str:
    """The same in one line of plain text. Args: names: How keys are called."""
    parts = [_readiness(progress), f"phase {progress.phase}" if progress.phase else ""]
    parts.append(counted(progress.writers, "writer"))
    sync = in_migration_words(progress)
    if sync is None or progress.stage in ("switching", "switched", "finished"):
        return joined((_stage(progress), *parts))
    parts += display_sync.details(sync, names)
    if display_sync.in_pass(sync):
        return joined((f"{_stage(progress)}: {display_sync.keys(sync)}", time_left(sync), *parts))
    return joined((_stage(progress), *parts))


def _way(progress: MigrationProgress, at: int) -> Text:
    text = Text()
    for index, name in enumerate(STATIONS):
        text.append(" > " if index else "", style="dim")
        if index == at:
            text.append(f"[{name}]", style="bold cyan")
        else:
            text.append(name, style="green" if index < at else "dim")
    if progress.paused:
        text.append("  paused", style=WARNING)
    return one_line(text)


def _pass_rows(progress: MigrationProgress, sync: SyncProgress) -> tuple[RenderableType, RenderableType]:
    if progress.stage != "switching" and display_sync.in_pass(sync):
        return display_sync.pass_rows(sync)
    switch = progress.last_switch
    said = switch_sentence(switch) if switch else ""
    now = f"{progress.stage}: {progress.step}" if progress.step else progress.stage
    return one_line(Text(now, style="cyan")), one_line(Text(said, style="dim"))


def _rows(progress: MigrationProgress, sync: SyncProgress) -> tuple[Row, ...]:
    differs = bool(progress.verified and progress.verified.differences)
    verified = Text(verified_words(progress.verified), style=WARNING if differs else "")
    return (
        ("feed", display_sync.feed(sync), "phase", Text(progress.phase or "-", style="cyan")),
        ("verified", verified, "writers", f"{count(progress.writers)} live"),
    )


def verified_words(verified: Verified | None) -> str:
    """Of the last verification: short enough for a column. Keys of either server count."""
    if verified is None:
        return "not yet"
    if verified.differences:
        return f"{count(verified.differences)} of {count(verified.compared)} differ"
    return f"equal, {counted(verified.compared, 'key')}"


def switch_sentence(switch: SwitchReport) -> str:
    """How a switch ended."""
    waited = "nobody waited" if switch.gate_ms is None else f"writes waited {latency(switch.gate_ms)}"
    if switch.outcome == "done":
        return f"{switch.direction} done: {waited}"
    return f"{switch.direction} {switch.outcome}, {waited}: {switch.reason}".removesuffix(": ")


def _stage(progress: MigrationProgress) -> str:
    paused = ", paused" if progress.paused else ""
    return f"{progress.stage}{f' ({progress.step})' if progress.step else ''}{paused}"


def _readiness(progress: MigrationProgress) -> str:
    """Only where it may be ready: that everything has to be copied first goes without saying."""
    if progress.ready:
        return "ready"
    if progress.stage not in ("following", "following back") or not progress.not_ready:
        return ""
    return f"not ready ({progress.not_ready[0].rstrip('.')})"


def _judgement(progress: MigrationProgress) -> Text:
    if progress.ready:
        to = progress.authority.other
        return one_line(Text(f"ready to be switched to the {to}", style="bold green"))
    if not _readiness(progress):
        return Text("")
    more = len(progress.not_ready) - 1
    tail = f" (and {more} more)" if more else ""
    return one_line(Text.assemble(("not ready: ", "yellow"), f"{progress.not_ready[0]}{tail}"))


def _next(progress: MigrationProgress, address: str) -> Text:
    """What may be typed now, in another terminal."""
    if progress.paused:
        verbs: tuple[str, ...] = ("unpause",)
    elif progress.stage in ("switching", "finished"):
        verbs = ()
    elif progress.stage == "switched":
        verbs = ("finish",)
    elif progress.authority is Side.TARGET:
        verbs = ("finish", "rollback")
    elif progress.ready:
        verbs = ("cutover",)
    else:
        verbs = ("status",)
    if not verbs:
        return Text("")
    commands = f"keyferry {'|'.join(verbs)} {address}"
    return one_line(Text.assemble(("next: ", "dim"), (commands, "bold")))


def _state(progress: MigrationProgress) -> tuple[object, ...]:
    """What is worth a line at once when it changes."""
    sync = progress.sync
    following = progress.stage in ("comparing", "following") and sync is not None
    stage = display_sync.told_stage(sync) if following and sync else progress.stage
    switched_ms = progress.last_switch.at_ms if progress.last_switch else 0
    return stage, progress.phase, progress.paused, progress.authority, switched_ms
