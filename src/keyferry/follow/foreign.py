"""Whether somebody else writes to the target: its own feed names every change there, ours too.

What we are carrying, or carried a moment ago, is ours. Everything else is looked at after a moment; where the two
servers differ then, it was somebody else's, is told, and settled again: the source's word counts. Never used to take
a mark off (PROTOCOL, rule 3): a write of somebody else in the shade of ours is found by a comparison only.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from keyferry.capture.heard import Heard
from keyferry.follow.source import Followed
from keyferry.model.selection import Selection

GRACE_S = 1.5
"""Longer than an eviction on the target takes to show in INFO: that is told as what it is."""
CANDIDATES_MAX = 10_000
"""More names than these at once are not looked at one by one."""
LOOKS_MAX = 200
NAMED_MAX = 10

Place = tuple[int, bytes]


class ForeignWrites:
    """Of one run.

    Args:
        databases: Of the source, that are moved now.
    """

    def __init__(
        self,
        selection: Selection,
        sources: dict[str, Followed],
        databases: Callable[[], list[int]],
    ) -> None:
        self._selection, self._sources, self._databases = selection, sources, databases
        self._passes = selection.key_filter()
        self._candidates: dict[Place, float] = {}
        self.too_many = False
        """More were named than can be looked at one by one; whoever has everything compared takes it back."""
        self.found = 0
        self.keys: set[Place] = set()
        """The first that were found."""

    def hear(self, heard: Heard) -> None:
        """Takes what a feed of the target names."""
        now_s = time.monotonic()
        for place, names in heard.keys:
            for database in self._databases():
                if place is None or self._selection.target_database(database) == place:
                    self._take(database, names, now_s)
        if heard.everything:
            self.too_many = True

    def _take(self, database: int, names: list[bytes], now_s: float) -> None:
        for source in self._sources.values():
            if database in source.supplies:
                names = source.supplies[database].dirty.strangers(names)
        for key in names:
            if self._passes and not self._passes(key):
                continue
            if len(self._candidates) >= CANDIDATES_MAX:
                self.too_many = True
                return
            self._candidates.setdefault((database, key), now_s)

    def forget(self) -> None:
        """What was named is found by a comparison."""
        self._candidates.clear()

    def due(self, now_s: float) -> list[Place]:
        """Those that have waited for a moment, and are not being settled."""
        ready: list[Place] = []
        for place, since_s in self._candidates.items():
            if now_s - since_s < GRACE_S or len(ready) >= LOOKS_MAX:
                break
            ready.append(place)
        for place in ready:
            del self._candidates[place]
        return [place for place in ready if not self.is_ours(place)]

    def is_ours(self, place: Place) -> bool:
        """Whether the key is dirty, or was settled a moment ago."""
        database, key = place
        return any(
            key in source.supplies[database].dirty
            for source in self._sources.values()
            if database in source.supplies
        )

    def add(self, place: Place) -> bool:
        """One was found; True while they are told by name."""
        self.found += 1
        if len(self.keys) < CANDIDATES_MAX:
            self.keys.add(place)
        return self.found <= NAMED_MAX
