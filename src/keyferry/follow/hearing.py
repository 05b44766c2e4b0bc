"""When is all heard that was changed before? Fences, and looks at what no feed names, begun together and waited for."""

from __future__ import annotations

import time
from collections.abc import Callable

from keyferry.follow.engine import Engine
from keyferry.follow.source import Followed
from keyferry.follow.target_side import TargetSide

HEAR_ALL_S_MAX = 10.0

Whether = Callable[[], bool]


class Hearing:
    """Of one run. Args: turn: Lets everything go on for one turn."""

    def __init__(
        self, engine: Engine, sources: dict[str, Followed], target: TargetSide, turn: Callable[[], None]
    ) -> None:
        self._engine, self._sources, self._target, self._turn = engine, sources, target, turn

    def ask(self) -> Whether:
        """Has everything that no feed names looked at now; what it gives says whether that is done."""
        asked = {
            source.shard: (source.watcher, source.watcher.request())
            for source in self._sources.values()
            if source.watcher is not None
        }
        reported = self._target.request()
        return lambda: reported() and all(watcher.answered(request) for watcher, request in asked.values())

    def fence(self) -> Whether:
        """Begins a fence on every feed of both servers; whether they have passed."""
        fences, target_named = self._engine.fence(), self._engine.fence_target()
        return lambda: self._engine.fenced(fences) and target_named()

    def hear_all(self) -> bool:
        """Goes on until all that was changed before has been named or looked at; False: that took too long."""
        fences, watched = self._engine.fence(), self.ask()
        until_s = time.monotonic() + HEAR_ALL_S_MAX
        while not (self._engine.fenced(fences) and watched()):
            if time.monotonic() > until_s:
                return False
            self._turn()
        return True
