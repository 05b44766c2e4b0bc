"""What two threads of the demo print, without getting into each other's lines: the migration's display and the story."""

from __future__ import annotations

import threading

from rich.console import RenderableType

from keyferry.app.record import Recorder
from keyferry.app.screen import Screen
from keyferry.telemetry.migrating import MigrationProgress


class Stage:
    """One at a time. ``say`` is for results, which go to standard output; the display steps aside for them.

    Args:
        shown: Entered and left by the caller.
    """

    def __init__(self, recorder: Recorder, shown: Screen[MigrationProgress]) -> None:
        self._recorder, self._shown = recorder, shown
        self._lock = threading.Lock()

    def observe(self, progress: MigrationProgress) -> None:
        with self._lock:
            self._shown.observe(progress)

    def tell(self, sentence: str) -> None:
        """What the migration says; the story says the same in its own words."""

    def warn(self, sentence: str) -> None:
        with self._lock:
            self._shown.tell(sentence)

    def say(self, renderable: RenderableType) -> None:
        with self._lock, self._shown.aside():
            self._recorder.say(renderable)
