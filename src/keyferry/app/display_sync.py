"""What a running sync looks like: a copy first, then numbers that should stay small."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.text import Text

from keyferry.app.pictures import (
    LINE_S,
    Row,
    bar,
    columns,
    guard,
    heading,
    joined,
    latencies,
    one_line,
    servers,
    time_left,
    warned,
)
from keyferry.capture.kinds import FeedKind
from keyferry.model.keynames import MARKS, NAMES, KeyNames
from keyferry.model.words import count, counted, duration, moment, share, size
from keyferry.telemetry.following import HotKey, SyncProgress

QUIET_S = 10.0
"""Between two plain lines while nothing changes."""
NAME_SHOWN = 40
_PASSES = ("copying", "comparing", "verifying")


class SyncView:
    """A line for each stage, every few seconds while it gets on, and seldom while nothing happens.

    A terminal that is looked at shows keys by their names; a line, that goes to a log, only where names are asked for.
    """

    def __init__(self, names: KeyNames = MARKS) -> None:
        self._names = names

    def frame(self, title: str, progress: SyncProgress) -> RenderableType:
        return frame(title, progress)

    def line(self, progress: SyncProgress) -> str:
        return line(progress, self._names)

    def pause_s(self, said: SyncProgress | None, progress: SyncProgress) -> float:
        if said is None or told_stage(said) != told_stage(progress):
            return 0.0
        return LINE_S if _moved(said, progress) else QUIET_S


def frame(title: str, progress: SyncProgress) -> RenderableType:
    """One picture of a running sync, 80 columns wide. Only the hottest keys come and go, at its end."""
    last: Row = ("feed", feed(progress), "stage", Text(_stage(progress), style="cyan"))
    return Group(
        heading(title), *pass_rows(progress), columns((*rows(progress), last)), *hottest_rows(progress)
    )


def rows(progress: SyncProgress) -> tuple[Row, ...]:
    """The numbers."""
    return (
        (
            "dirty",
            Text(counted(progress.dirty_keys, "key"), style="bold"),
            "changes",
            f"{count(progress.changes_per_second)}/s",
        ),
        (
            "lag",
            Text(moment(progress.lag_s), style="bold"),
            "settled",
            f"{count(progress.settled_per_second)}/s, {count(progress.settled_keys)} in all",
        ),
        ("cutover", _cutover(progress), "latency", latencies(progress)),
        ("failed", warned(count(progress.failed), progress.failed), "guard", guard(progress)),
        (
            "foreign",
            warned(count(progress.foreign_keys), progress.foreign_keys),
            "time",
            duration(progress.elapsed_s),
        ),
    )


def hottest_rows(progress: SyncProgress) -> Iterable[RenderableType]:
    return (one_line(Text(_hot(key, NAMES), style="dim")) for key in progress.hottest)


def line(progress: SyncProgress, names: KeyNames = MARKS) -> str:
    """The same in one line of plain text. Args: names: How keys are called."""
    stage = f"{_stage(progress)}: {keys(progress)}" if in_pass(progress) else _stage(progress)
    return joined((stage, time_left(progress) if in_pass(progress) else "", *details(progress, names)))


def details(progress: SyncProgress, names: KeyNames) -> tuple[str, ...]:
    """Of a plain line: all but the stage; empty where there is nothing to say. Args: names: How keys are called."""
    return (
        f"feed {feed(progress)}" if progress.feed else "",
        f"{count(progress.changes_per_second)} changes/s",
        f"{count(progress.dirty_keys)} dirty",
        f"lag {moment(progress.lag_s)}",
        f"{count(progress.settled_per_second)} settled/s",
        f"cutover {_cutover(progress)}",
        servers(progress),
        f"{count(progress.failed)} failed",
        f"{count(progress.foreign_keys)} foreign",
        *(_hot(key, names) for key in progress.hottest[:1]),
    )


def pass_rows(progress: SyncProgress) -> tuple[RenderableType, RenderableType]:
    """The pass over all keys; as high without one, so that nothing jumps."""
    if not in_pass(progress):
        return one_line(Text(_without_pass(progress), style="green")), Text("")
    return bar(progress), one_line(Text(keys(progress)))


def _without_pass(progress: SyncProgress) -> str:
    return "every key was gone over, changes are followed" if progress.stage == "following" else ""


def keys(progress: SyncProgress) -> str:
    percent = share(progress.keys_done, progress.keys_total)
    of = f"{count(progress.keys_done)} of {count(progress.keys_total)} keys"
    return f"{of}{'' if percent is None else f' ({percent} %)'}, {count(progress.keys_per_second)} keys/s"


def in_pass(progress: SyncProgress) -> bool:
    return progress.stage in _PASSES


def _stage(progress: SyncProgress) -> str:
    return f"{progress.stage}, {progress.shards} shards" if progress.shards > 1 else progress.stage


def feed(progress: SyncProgress) -> str:
    return f"{progress.feed}, generation {progress.generation}" if progress.feed else "-"


def _cutover(progress: SyncProgress) -> str:
    """What writers would wait now."""
    return "not known yet" if progress.cutover_s is None else f"would wait {moment(progress.cutover_s)}"


def _hot(key: HotKey, names: KeyNames) -> str:
    name = names.name(key.key)
    shown = name if len(name) <= NAME_SHOWN else f"{name[:NAME_SHOWN]}..."
    pause = f", carried every {moment(key.pause_s)} at most" if key.pause_s else ""
    bulk = f", {size(key.size_bytes)}" if key.size_bytes else ""
    return f"hot {shown} (db {key.database}): {key.per_second:,.1f}/s{bulk}{pause}"


def told_stage(progress: SyncProgress) -> str:
    """Sweeps come and go every few seconds: no line for each."""
    sweeping = progress.feed == FeedKind.SWEEPS and progress.stage in ("comparing", "following")
    return "sweeping" if sweeping else progress.stage


def _moved(said: SyncProgress, progress: SyncProgress) -> bool:
    return in_pass(progress) or _tally(said) != _tally(progress)


def _tally(progress: SyncProgress) -> tuple[int, ...]:
    return (
        progress.generation,
        progress.dirty_keys,
        progress.settled_keys,
        progress.failed,
        progress.foreign_keys,
    )
