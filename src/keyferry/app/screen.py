"""Progress on standard error, whatever runs: a calm live display on a terminal, plain lines elsewhere.

What is drawn is a view's matter (display*.py), how often is decided here: ``observe`` is called from the working
thread up to ten times a second, and every frame costs it some milliseconds of its core.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Generic, Protocol, TypeVar

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from keyferry.app.output import CalmConsole, console_on

FRAME_S = 0.25

P = TypeVar("P")
P_contra = TypeVar("P_contra", contravariant=True)


class View(Protocol[P_contra]):
    """How one kind of run is shown."""

    def frame(self, title: str, progress: P_contra) -> RenderableType:
        """One picture for a terminal."""

    def line(self, progress: P_contra) -> str:
        """The same in one line of plain text."""

    def pause_s(self, said: P_contra | None, progress: P_contra) -> float:
        """How long after the line of ``said`` that of ``progress`` is due; ``said`` is None before the first."""


class Screen(Protocol[P]):
    """Where progress and sentences go while something runs."""

    @property
    def last(self) -> P | None:
        """The newest look at the run, whether drawn or not."""

    def __enter__(self) -> Screen[P]: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def observe(self, progress: P) -> None: ...

    def tell(self, sentence: str) -> None: ...

    def aside(self) -> AbstractContextManager[None]:
        """Others print during the block."""
        ...


def open_screen(title: str, view: View[P]) -> Screen[P]:
    """The screen that fits standard error."""
    console = CalmConsole(file=sys.stderr, highlight=False)
    if console.is_terminal and os.environ.get("TERM") != "dumb":
        return LiveScreen(console, title, view)
    return PlainScreen(console_on(sys.stderr), title, view)


class LiveScreen(Generic[P]):
    """Redraws a few lines in place; sentences scroll above them."""

    def __init__(self, console: Console, title: str, view: View[P]) -> None:
        self._last: P | None = None
        self._console = console
        self._title = title
        self._view = view
        self._live = self._new_live()
        self._drawn_at = -FRAME_S

    def _new_live(self) -> Live:
        return Live(console=self._console, auto_refresh=False, transient=True)

    def __enter__(self) -> LiveScreen[P]:
        self._live.start()
        self._live.update(Text(f"{self._title}\nconnecting", style="dim"), refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    @property
    def last(self) -> P | None:
        return self._last

    def observe(self, progress: P) -> None:
        self._last = progress
        now = time.monotonic()
        if now - self._drawn_at >= FRAME_S:
            self._drawn_at = now
            self._live.update(self._view.frame(self._title, progress), refresh=True)

    def tell(self, sentence: str) -> None:
        self._console.print(Text.assemble(("note: ", "yellow"), sentence))

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Nothing of ours stands on the terminal during the block."""
        before = self._live
        shown = before.is_started
        before.stop()
        try:
            yield
        finally:
            # A new one: the old one would go up as many lines as it had drawn, and over what was printed meanwhile.
            self._live = self._new_live()
            if shown:
                self._live.start()
                self._live.update(before.renderable, refresh=True)


class PlainScreen(Generic[P]):
    """One line every few seconds, for logs."""

    def __init__(self, console: Console, title: str, view: View[P]) -> None:
        self._last: P | None = None
        self._said: P | None = None
        self._console = console
        self._title = title
        self._view = view
        self._said_at = time.monotonic()

    def __enter__(self) -> PlainScreen[P]:
        self._console.print(Text(self._title))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    @property
    def last(self) -> P | None:
        return self._last

    def observe(self, progress: P) -> None:
        self._last = progress
        now = time.monotonic()
        if now - self._said_at >= self._view.pause_s(self._said, progress):
            self._said_at, self._said = now, progress
            self._console.print(Text(self._view.line(progress)))

    def tell(self, sentence: str) -> None:
        self._console.print(Text(f"note: {sentence}"))

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Lines stay where they are."""
        yield
