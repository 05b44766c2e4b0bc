"""Draws the picture of the terminal in the README from a real run of the demo."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Generic, TypeVar

from rich.console import Console, RenderableType
from rich.text import Text

from keyferry.app.output import emit
from keyferry.app.screen import Screen, View

COLUMNS = 80

P = TypeVar("P")


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

    def watching(
        self, screen: Screen[P], view: View[P], title: str, better: Callable[[P, P], bool]
    ) -> Screen[P]:
        """The screen, of which the picture is going to show one frame.

        Args:
            better: Whether the second look says more than the first one, which was the best so far.
        """
        return _Watched(screen, view, title, better, self._kept)

    def save(self, file: Path) -> None:
        console = Console(
            record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, highlight=False
        )
        for renderable in self._kept:
            console.print(renderable)
        console.save_svg(str(file), title="keyferry", unique_id="keyferry")


class _Watched(Generic[P]):
    """A screen that also keeps the one frame that the picture shows."""

    def __init__(
        self,
        screen: Screen[P],
        view: View[P],
        title: str,
        better: Callable[[P, P], bool],
        kept: list[RenderableType],
    ) -> None:
        self._screen, self._view, self._title, self._better, self._kept = screen, view, title, better, kept
        self._best: P | None = None

    @property
    def last(self) -> P | None:
        return self._screen.last

    def __enter__(self) -> _Watched[P]:
        self._screen.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._screen.__exit__(kind, error, trace)
        if self._best is not None:
            self._kept.append(self._view.frame(self._title, self._best))

    def observe(self, progress: P) -> None:
        self._screen.observe(progress)
        if self._best is None or self._better(self._best, progress):
            self._best = progress

    def tell(self, sentence: str) -> None:
        self._screen.tell(sentence)

    def aside(self) -> AbstractContextManager[None]:
        return self._screen.aside()
