"""What a running copy looks like."""

from __future__ import annotations

from typing import TypeAlias

from rich.console import Group, RenderableType
from rich.text import Text

from keyferry.app.pictures import (
    LINE_S,
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
from keyferry.app.screen import Screen, open_screen
from keyferry.model.words import count, duration, share, size
from keyferry.telemetry.progress import Progress

Display: TypeAlias = Screen[Progress]
"""Where progress and sentences go while a copy runs."""


def open_display(title: str) -> Display:
    """The display that fits standard error."""
    return open_screen(title, CopyView())


class CopyView:
    """A line every few seconds, whatever happens."""

    def frame(self, title: str, progress: Progress) -> RenderableType:
        return frame(title, progress)

    def line(self, progress: Progress) -> str:
        return line(progress)

    def pause_s(self, _said: Progress | None, _progress: Progress) -> float:
        return LINE_S


def frame(title: str, progress: Progress) -> RenderableType:
    """One picture of a running copy: 80 columns wide, always of the same height, nothing jumps."""
    numbers = columns(
        (
            (
                "keys",
                Text(f"{count(progress.keys_done)} of {count(progress.keys_total)}", style="bold"),
                "rate",
                f"{count(progress.keys_per_second)} keys/s, {size(progress.bytes_per_second)}/s",
            ),
            ("copied", count(progress.copied), "latency", latencies(progress)),
            ("skipped", count(progress.skipped), "guard", guard(progress)),
            ("vanished", count(progress.vanished), "time", duration(progress.elapsed_s)),
            (
                "failed",
                warned(count(progress.failed), progress.failed),
                "stage",
                Text(_stage(progress), style="cyan"),
            ),
        )
    )
    shards = one_line(Text(_slowest(progress), style="dim"))
    return Group(heading(title), bar(progress), numbers, *((shards,) if progress.shards > 1 else ()))


def line(progress: Progress) -> str:
    """The same in one line of plain text."""
    percent = share(progress.keys_done, progress.keys_total)
    of = f"{count(progress.keys_done)} of {count(progress.keys_total)} keys"
    return joined(
        (
            f"{_stage(progress)}: {of}" + ("" if percent is None else f" ({percent} %)"),
            f"{count(progress.keys_per_second)} keys/s",
            f"{size(progress.bytes_per_second)}/s",
            time_left(progress),
            servers(progress),
            f"{count(progress.failed)} failed",
            _slowest(progress) if progress.shards > 1 else "",
        )
    )


def _stage(progress: Progress) -> str:
    return progress.stage if progress.shards > 1 else f"{progress.stage}, database {progress.database}"


def _slowest(progress: Progress) -> str:
    shards = f"{count(progress.shards)} shards"
    slowest = progress.slowest
    if slowest is None:
        return f"{shards}, all scanned"
    percent = share(slowest.keys_done, slowest.keys_total)
    done = "" if percent is None else f" at {percent} %,"
    return f"{shards}, slowest {slowest.name}{done} {count(slowest.keys_left)} keys left"
