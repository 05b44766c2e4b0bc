"""Work that has to wait a moment, by when it is due. No clock of its own: the time comes with each turn."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable


class Later:
    """Of one pipeline."""

    def __init__(self) -> None:
        self._waiting: list[tuple[float, int, Callable[[], None]]] = []
        self._ticket = itertools.count()
        self.now_s = 0.0
        """Of the present turn."""

    def __len__(self) -> int:
        return len(self._waiting)

    def turn(self, now_s: float) -> None:
        """Does what is due."""
        self.now_s = now_s
        while self._waiting and self._waiting[0][0] <= now_s:
            heapq.heappop(self._waiting)[2]()

    def put(self, pause_s: float, work: Callable[[], None]) -> None:
        """``work`` is done in the first turn after ``pause_s``."""
        heapq.heappush(self._waiting, (self.now_s + pause_s, next(self._ticket), work))
