"""Draws the picture of the terminal in the README from a real run of the demo."""

from __future__ import annotations

import io
from pathlib import Path
from types import TracebackType

from rich.console import Console, RenderableType
from rich.text import Text

from keyferry.app.display import Display, frame
from keyferry.app.output import emit
from keyferry.telemetry.progress import Progress

COLUMNS = 80
SHOWN_SHARE = 0.6
"""The look at the running copy that the picture shows: the one nearest to this share of its keys."""


class Recorder:
    """Prints for people and keeps what was printed.

    Args:
        command: What the picture's first line says was typed.
    """

    def __init__(self, command: str) -> None:
        self._kept: list[RenderableType] = [Text.assemble(("$ ", "dim"), command)]

    def say(self, renderable: RenderableType) -> None:
        self._kept.append(renderable)
        emit(renderable)

    def watching(self, display: Display, title: str) -> Display:
        return _Watched(display, title, self._kept)

    def save(self, file: Path) -> None:
        console = Console(
            record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, highlight=False
        )
        for renderable in self._kept:
            console.print(renderable)
        console.save_svg(str(file), title="keyferry", unique_id="keyferry")


class _Watched:
    """A display that also keeps the one frame that the picture shows."""

    def __init__(self, display: Display, title: str, kept: list[RenderableType]) -> None:
        self._display = display
        self._title = title
        self._kept = kept
        self._best: Progress | None = None

    @property
    def last(self) -> Progress | None:
        return self._display.last

    def __enter__(self) -> _Watched:
        self._display.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._display.__exit__(kind, error, trace)
        if self._best is not None:
            self._kept.append(frame(self._title, self._best))

    def observe(self, progress: Progress) -> None:
        self._display.observe(progress)
        if self._best is None or _distance(progress) < _distance(self._best):
            self._best = progress

    def tell(self, sentence: str) -> None:
        self._display.tell(sentence)


def _distance(progress: Progress) -> float:
    return abs(progress.keys_done / max(progress.keys_total, 1) - SHOWN_SHARE)
