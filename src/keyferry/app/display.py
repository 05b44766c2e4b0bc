"""The progress of a copy on standard error: a calm live display on a terminal, plain lines elsewhere.

``observe`` is called from the copying thread up to ten times a second; drawing is held to a few frames a
second, because every frame costs the copy some milliseconds of its core.
"""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from keyferry.app.output import CalmConsole, console_on
from keyferry.app.words import count, duration, latency, share, size
from keyferry.telemetry.progress import Progress, ThrottleState

FRAME_S = 0.25
LINE_S = 5.0
BAR_WIDTH = 40

_THROTTLE: dict[ThrottleState, tuple[str, str]] = {
    "off": ("off", "dim"),
    "free": ("on, full speed", "green"),
    "slowed": ("on, slowed by latency", "yellow"),
    "limited": ("held to your limit", "cyan"),
}


class Display(Protocol):
    """Where progress and sentences go while a copy runs."""

    @property
    def last(self) -> Progress | None:
        """The newest look at the copy, whether drawn or not."""

    def __enter__(self) -> Display: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def observe(self, progress: Progress) -> None: ...

    def tell(self, sentence: str) -> None: ...


def open_display(title: str) -> Display:
    """The display that fits standard error."""
    console = CalmConsole(file=sys.stderr, highlight=False)
    if console.is_terminal and os.environ.get("TERM") != "dumb":
        return LiveDisplay(console, title)
    return PlainDisplay(console_on(sys.stderr), title)


class LiveDisplay:
    """Redraws a few lines in place; sentences scroll above them."""

    def __init__(self, console: Console, title: str) -> None:
        self._last: Progress | None = None
        self._console = console
        self._title = title
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._drawn_at = -FRAME_S

    def __enter__(self) -> LiveDisplay:
        self._live.start()
        self._live.update(Text(f"{self._title}\nconnecting", style="dim"), refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    @property
    def last(self) -> Progress | None:
        return self._last

    def observe(self, progress: Progress) -> None:
        self._last = progress
        now = time.monotonic()
        if now - self._drawn_at >= FRAME_S:
            self._drawn_at = now
            self._live.update(frame(self._title, progress), refresh=True)

    def tell(self, sentence: str) -> None:
        self._console.print(Text.assemble(("note: ", "yellow"), sentence))


class PlainDisplay:
    """One line every few seconds, for logs."""

    def __init__(self, console: Console, title: str) -> None:
        self._last: Progress | None = None
        self._console = console
        self._title = title
        self._said_at = time.monotonic()

    def __enter__(self) -> PlainDisplay:
        self._console.print(Text(self._title))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    @property
    def last(self) -> Progress | None:
        return self._last

    def observe(self, progress: Progress) -> None:
        self._last = progress
        now = time.monotonic()
        if now - self._said_at >= LINE_S:
            self._said_at = now
            self._console.print(Text(line(progress)))

    def tell(self, sentence: str) -> None:
        self._console.print(Text(f"note: {sentence}"))


def frame(title: str, progress: Progress) -> RenderableType:
    """One picture of a running copy: 80 columns wide, always of the same height, nothing jumps."""
    percent = share(progress.keys_done, progress.keys_total)
    bar = Table.grid(padding=(0, 1))
    bar.add_row(
        ProgressBar(total=max(progress.keys_total, 1), completed=progress.keys_done, width=BAR_WIDTH),
        Text("" if percent is None else f"{percent:3d} %"),
        Text(_left(progress), style="dim"),
    )
    state, style = _THROTTLE[progress.throttle]
    numbers = Table.grid(padding=(0, 1))
    for min_width in (9, 24, 8, 30):
        numbers.add_column(min_width=min_width)
    rows: tuple[tuple[str, Text, str, Text], ...] = (
        (
            "keys",
            Text(f"{count(progress.keys_done)} of {count(progress.keys_total)}", style="bold"),
            "rate",
            Text(f"{count(progress.keys_per_second)} keys/s, {size(progress.bytes_per_second)}/s"),
        ),
        ("copied", Text(count(progress.copied)), "latency", Text(_latencies(progress))),
        ("skipped", Text(count(progress.skipped)), "guard", Text(state, style=style)),
        ("vanished", Text(count(progress.vanished)), "time", Text(duration(progress.elapsed_s))),
        (
            "failed",
            Text(count(progress.failed), style="bold red" if progress.failed else ""),
            "stage",
            Text(_stage(progress), style="cyan"),
        ),
    )
    for left, left_value, right, right_value in rows:
        numbers.add_row(Text(left, style="dim"), left_value, Text(right, style="dim"), right_value)
    shards = Text(_slowest(progress), style="dim", no_wrap=True, overflow="ellipsis")
    return Group(
        Text(title, style="bold", no_wrap=True, overflow="ellipsis"),
        bar,
        numbers,
        *((shards,) if progress.shards > 1 else ()),
    )


def line(progress: Progress) -> str:
    """The same in one line of plain text."""
    percent = share(progress.keys_done, progress.keys_total)
    of = f"{count(progress.keys_done)} of {count(progress.keys_total)} keys"
    return ", ".join(
        part
        for part in (
            f"{_stage(progress)}: {of}" + ("" if percent is None else f" ({percent} %)"),
            f"{count(progress.keys_per_second)} keys/s",
            f"{size(progress.bytes_per_second)}/s",
            _left(progress),
            _latencies(progress),
            f"guard {_THROTTLE[progress.throttle][0]}",
            f"{count(progress.failed)} failed",
            _slowest(progress) if progress.shards > 1 else "",
        )
        if part
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


def _latencies(progress: Progress) -> str:
    return f"source {latency(progress.source_latency_ms)}, target {latency(progress.target_latency_ms)}"


def _left(progress: Progress) -> str:
    return "" if progress.seconds_left is None else f"{duration(progress.seconds_left)} left"
