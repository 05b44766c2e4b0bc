"""What the displays of all commands are put together from: 80 columns wide, and never wider than the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from keyferry.model.words import duration, latency, share
from keyferry.telemetry.progress import ThrottleState

LINE_S = 5.0
"""Between two plain lines of a run that gets on."""
BAR_WIDTH = 40
WARNING = "bold red"
WIDE = 76
"""Columns of a terminal that the longest values beside each other need."""
_COLUMN_WIDTHS = (9, 24, 8)
"""At least; the last column takes what is left."""

THROTTLE: dict[ThrottleState, tuple[str, str]] = {
    "off": ("off", "dim"),
    "free": ("on, full speed", "green"),
    "slowed": ("on, slowed by latency", "yellow"),
    "limited": ("held to your limit", "cyan"),
}


class Pass(Protocol):
    """What every progress says of the keys that are gone over."""

    @property
    def keys_total(self) -> int: ...
    @property
    def keys_done(self) -> int: ...
    @property
    def seconds_left(self) -> float | None: ...


class Paced(Protocol):
    """What every progress says of the servers."""

    @property
    def source_latency_ms(self) -> float | None: ...
    @property
    def target_latency_ms(self) -> float | None: ...
    @property
    def throttle(self) -> ThrottleState: ...


Row = tuple[str, Text | str, str, Text | str]
"""Two names, each before its value."""


def heading(title: str) -> Text:
    return one_line(Text(title, style="bold"))


def one_line(text: Text) -> Text:
    """Cut at the terminal's edge, never folded."""
    text.no_wrap = True
    text.overflow = "ellipsis"
    return text


def bar(progress: Pass) -> Table:
    percent = share(progress.keys_done, progress.keys_total)
    grid = Table.grid(padding=(0, 1))
    grid.add_column()
    for _ in range(2):
        grid.add_column(no_wrap=True)
    grid.add_row(
        ProgressBar(total=max(progress.keys_total, 1), completed=progress.keys_done, width=BAR_WIDTH),
        Text("" if percent is None else f"{percent:3d} %"),
        Text(time_left(progress), style="dim"),
    )
    return grid


def columns(rows: Iterable[Row]) -> RenderableType:
    """Rows whose columns stay where they are while numbers grow; one below the other on a narrow terminal."""
    return _Columns(tuple(rows))


@dataclass(frozen=True, slots=True)
class _Columns:
    rows: tuple[Row, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        wide = options.max_width >= WIDE
        grid = Table.grid(padding=(0, 1))
        for width in _COLUMN_WIDTHS if wide else _COLUMN_WIDTHS[:1]:
            grid.add_column(min_width=width, no_wrap=True, overflow="ellipsis")
        grid.add_column(no_wrap=True, overflow="ellipsis")
        for left, left_value, right, right_value in self.rows:
            pairs = (Text(left, style="dim"), left_value, Text(right, style="dim"), right_value)
            if wide:
                grid.add_row(*pairs)
            else:
                grid.add_row(*pairs[:2])
                grid.add_row(*pairs[2:])
        yield grid


def warned(text: str, number: int) -> Text:
    """In a colour that warns when there is something to warn of."""
    return Text(text, style=WARNING if number else "")


def guard(progress: Paced) -> Text:
    state, style = THROTTLE[progress.throttle]
    return Text(state, style=style)


def latencies(progress: Paced) -> str:
    return f"source {latency(progress.source_latency_ms)}, target {latency(progress.target_latency_ms)}"


def time_left(progress: Pass) -> str:
    return "" if progress.seconds_left is None else f"{duration(progress.seconds_left)} left"


def joined(parts: Iterable[str]) -> str:
    """A plain line of the parts that say something."""
    return ", ".join(part for part in parts if part)


def servers(progress: Paced) -> str:
    """Of a plain line: how the servers feel, and what the guard does."""
    return f"{latencies(progress)}, guard {THROTTLE[progress.throttle][0]}"
