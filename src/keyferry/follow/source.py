"""One primary of the source as it is followed: its feed, what changed there, and where each database's scan is."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable

from keyferry.capture.dirty import DirtyKeys
from keyferry.capture.feed import Feed, Heard
from keyferry.capture.watcher import Watcher
from keyferry.follow.supply import DirtySupply
from keyferry.follow.touched import Touched


class Followed:
    """Lives as long as the run; its feed, and the pipelines that it supplies, come and go.

    Args:
        passes: Which keys are selected; None: all but the reserved ones.
        touched: Gets every key as it is taken to be settled.
    """

    def __init__(
        self, shard: str, dirty_max: int, passes: Callable[[bytes], bool] | None, touched: Touched
    ) -> None:
        self.shard = shard
        self._dirty_max, self._passes, self._touched = dirty_max, passes, touched
        self._held = False
        self.feed: Feed | None = None
        self.watcher: Watcher | None = None
        """Of what feeds do not name. It comes and goes with the feed."""
        self.streams: dict[int, set[bytes]] = {}
        """Keys that hold, or held, streams, by database."""
        self.supplies: dict[int, DirtySupply] = {}
        self.looks: dict[int, DirtyKeys] = {}
        """Keys to be compared on both servers, by database: those that changed on the target while clients mirror."""
        self.changes = 0
        """Namings by the feed so far."""
        self.scanned = 0
        """Keys that the first copy has gone over."""
        self.evicted_keys: int | None = None
        """Of this server, when they were last taken into account."""
        self.databases_met: set[int] = set()
        """Databases that the feed has named and that are not followed."""

    def add_database(self, database: int) -> DirtySupply:
        if database not in self.supplies:
            on_taken = functools.partial(self._touched.add, database)
            self.supplies[database] = DirtySupply(DirtyKeys(self._dirty_max), on_taken, database)
            self.looks[database] = DirtyKeys(self._dirty_max)
            self.hold(self._held)
        return self.supplies[database]

    def hold(self, on: bool) -> None:
        """Whether none of its dirty keys is given out."""
        self._held = on
        for dirty in self._all:
            dirty.hold(on)

    def hurry(self, on: bool) -> None:
        """Whether none of its dirty keys rests or waits for others."""
        for dirty in self._all:
            dirty.hurry(on)

    def forget(self) -> None:
        """What was named until now does not count; nothing may be on its way."""
        databases = list(self.supplies)
        self.supplies.clear()
        self.looks.clear()
        self.databases_met.clear()
        self.changes = 0
        for database in databases:
            self.add_database(database)

    def hear(self, heard: Heard, now_s: float) -> None:
        """Marks what the feed has named; a name without a database is dirty in every one that is moved."""
        for database, names in heard.keys:
            keys = names if self._passes is None else [key for key in names if self._passes(key)]
            self.changes += len(keys)
            if database is None:
                for supply in self.supplies.values():
                    supply.dirty.mark(keys, now_s)
            elif database in self.supplies:
                self.supplies[database].dirty.mark(keys, now_s)
            else:
                self.databases_met.add(database)

    def mark(self, database: int, keys: Iterable[bytes], now_s: float) -> None:
        """Keys that a comparison or a look found different."""
        self.supplies[database].dirty.mark(keys, now_s)

    def mark_flying(self, now_s: float) -> None:
        """Anything may have changed, and a comparison begins: what is under way is looked at once more."""
        for dirty in self._all:
            dirty.mark_flying(now_s)

    def broke(self) -> None:
        """The pipelines are gone."""
        for supply in self.supplies.values():
            supply.broke()

    @property
    def _all(self) -> list[DirtyKeys]:
        return [*(supply.dirty for supply in self.supplies.values()), *self.looks.values()]

    def is_dirty(self, database: int, key: bytes) -> bool:
        """Whether the key was named and is not settled, or not looked at, since."""
        return self.supplies[database].dirty.is_dirty(key) or self.looks[database].is_dirty(key)

    @property
    def dirty_keys(self) -> int:
        return sum(map(len, self._all))

    @property
    def names(self) -> int:
        return sum(dirty.names for dirty in self._all)

    @property
    def settled(self) -> int:
        return sum(supply.dirty.settled + supply.dirty.bigs.settled for supply in self.supplies.values())

    def oldest_s(self) -> float | None:
        found = [dirty.oldest_s() for dirty in self._all]
        return min((since_s for since_s in found if since_s is not None), default=None)

    @property
    def overflowed(self) -> bool:
        return any(dirty.overflowed for dirty in self._all)

    def forgive_overflow(self) -> None:
        """Everything is going to be compared."""
        for dirty in self._all:
            dirty.overflowed = False

    def small_oldest_s(self) -> float | None:
        """The same without keys that are too big for one DUMP."""
        found = [dirty.small_oldest_s() for dirty in self._all]
        return min((since_s for since_s in found if since_s is not None), default=None)

    def rest_less(self) -> None:
        """Only big keys are waited for: they rest no longer than they take."""
        for supply in self.supplies.values():
            supply.dirty.bigs.rest_share = 1.0

    def add_stream(self, database: int, key: bytes) -> None:
        """The key holds a stream: its groups are watched."""
        self.streams.setdefault(database, set()).add(key)
        if self.watcher is not None:  # each time: it forgets streams that are gone, and this one may be back
            self.watcher.add_streams(database, [key])

    @property
    def attached(self) -> bool:
        return self.watcher is not None

    def detach(self) -> None:
        """From here on something may be missed."""
        for its in (self.feed, self.watcher):
            if its is not None:
                its.close()
        self.feed = self.watcher = None
