"""Keys that changed on the target while clients write to both servers: looked at, never taken for anybody's work.

A second leg and a write of ours may share one naming (PROTOCOL, rule 3), and two writers may reach the servers in
opposite order, of which only the target's feed tells (rule 2). So every name of the target's feed is looked at on both
servers, our own writes too; what differs is dirty. A key is settled when such a look finds both sides equal:

    the source's feed names it -> dirty -> written -> the target's feed names it -> a look -> equal
"""

from __future__ import annotations

import time
from collections.abc import Callable

from keyferry.capture.dirty import DirtyKeys
from keyferry.capture.heard import Heard
from keyferry.follow.marking import Marking
from keyferry.follow.source import Followed
from keyferry.follow.touched import Touched, TouchedNames
from keyferry.model.selection import Selection
from keyferry.verify.passes import CompareContext, KeyPass, open_named


class Looks:
    """Of one run.

    Args:
        databases: Of the source, that are moved now.
        touched: Gets every key that is looked at.
    """

    def __init__(
        self,
        selection: Selection,
        sources: dict[str, Followed],
        databases: Callable[[], list[int]],
        marking: Marking,
        touched: Touched,
    ) -> None:
        self._selection, self._sources, self._databases = selection, sources, databases
        self._touched = touched
        self._marking, self._passes = marking, selection.key_filter()
        self._running: dict[KeyPass, DirtyKeys] = {}
        self._ended = (0, 0)

    def hear(self, heard: Heard) -> None:
        """Takes what a feed of the target names."""
        now_s = time.monotonic()
        for place, names in heard.keys:
            keys = names if self._passes is None else [key for key in names if self._passes(key)]
            for shard, its in self._marking.by_shard(keys).items():
                for database in self._databases():
                    looks = self._sources[shard].looks.get(database)  # none: it is compared when it is opened
                    if looks is not None and place in (None, self._selection.target_database(database)):
                        looks.mark(its, now_s)

    # Passes

    @property
    def running(self) -> bool:
        return bool(self._running)

    def open(self, context: CompareContext) -> None:
        """Begins to look. Raises as ``open_named``."""
        for shard, source in self._sources.items():
            for database in self._databases():
                names = source.looks[database]
                its = open_named(context, shard, database, TouchedNames(names, self._touched, database))
                self._running[its] = names
                its.begin()

    def turn(self, ready: dict[int, int], now: float, *, house: bool) -> None:
        """Raises as a pass does."""
        for its in self._running:
            if house or its.buffered or its.concerns(ready):
                its.turn(ready, now)
            if house:
                its.check_silence(now)

    def asked(self) -> tuple[int, int, int]:
        """Keys that came, their bytes, keys that are asked for."""
        keys, size = self._ended
        asked = 0
        for its in self._running:
            one = its.asked
            keys, size, asked = keys + one[0], size + one[1], asked + one[2]
        return keys, size, asked

    def close(self) -> None:
        """What was being looked at is to be looked at again."""
        keys, size, _ = self.asked()
        self._ended = keys, size
        for its, names in self._running.items():
            its.close()
            names.returned()
        self._running.clear()
