"""Are the keys that were touched equal? Looked at on both servers, mended where they differ, and looked at again.

While writers write, a key that differs is mostly one that changes: the feed has named it, so it is dirty, it is going to
be settled, and it stays touched. While they wait nothing is dirty, and every key has to be found equal:

    look -> equal
         -> differs, or too big to be looked at -> dirty -> settled -> look again

A key that is too big for one DUMP is compared in pieces by settling it: when that finds nothing to write, it was equal.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from keyferry.follow.engine import Engine
from keyferry.follow.marking import Marking
from keyferry.follow.source import Followed
from keyferry.follow.touched import Place, Touched
from keyferry.verify.passes import CompareContext, KeyPass, open_named

LOOKS_MAX = 4
"""A key that differs after so many looks, each time settled in between, differs."""
PART_KEYS = 20_000
"""So many are looked at at once."""
SETTLE_S_MAX = 0.5
"""While writers write, keys that take longer to settle than this are compared with the next ones."""


class _Given:
    """Names (``verify.named_pass.Names``) that are looked at once."""

    def __init__(self) -> None:
        self._waiting: list[bytes] = []
        self._flying = 0

    @property
    def idle(self) -> bool:
        return not (self._waiting or self._flying)

    def put(self, keys: list[bytes]) -> None:
        self._waiting += keys

    def take(self, limit: int, now_s: float) -> list[bytes]:
        taken = self._waiting[-limit:]
        del self._waiting[-len(taken) :]
        self._flying += len(taken)
        return taken

    def arrived(self, keys: list[bytes], now_s: float) -> None:
        self._flying -= len(keys)


class TouchedPasses:
    """One for each database of each source server, from the first look until everything is closed.

    Args:
        looking: What they are made with.
    """

    def __init__(self, sources: dict[str, Followed], looking: Callable[[], CompareContext]) -> None:
        self._sources, self._looking = sources, looking
        self._running: dict[tuple[str, int], tuple[KeyPass, _Given]] = {}
        self._ended = (0, 0)
        self.doubts: set[Place] = set()
        """Keys that differ, or could not be judged."""

    def open(self) -> None:
        """Opens those that are missing: a look must not wait for that. Raises as ``open_named``."""
        context = replace(self._looking(), on_suspects=self._doubt, on_big=self._doubt)
        for shard, source in self._sources.items():
            for database in source.supplies:
                if (shard, database) not in self._running:
                    given = _Given()
                    its = open_named(context, shard, database, given)
                    self._running[shard, database] = its, given
                    its.begin()

    def _doubt(self, database: int, keys: list[bytes]) -> None:
        self.doubts.update((database, key) for key in keys)

    def put(self, shard: str, database: int, keys: list[bytes]) -> None:
        """These are to be looked at."""
        self._running[shard, database][1].put(keys)

    @property
    def idle(self) -> bool:
        return all(given.idle for _, given in self._running.values())

    def turn(self, ready: dict[int, int], now: float, *, house: bool) -> None:
        """Raises as a pass does."""
        for its, _ in self._running.values():
            if house or its.buffered or its.concerns(ready):
                its.turn(ready, now)
            if house:
                its.check_silence(now)

    def asked(self) -> tuple[int, int, int]:
        """Keys that came, their bytes, keys that are asked for."""
        keys, size = self._ended
        asked = 0
        for its, _ in self._running.values():
            one = its.asked
            keys, size, asked = keys + one[0], size + one[1], asked + one[2]
        return keys, size, asked

    def close(self) -> None:
        """What was being looked at was not."""
        keys, size, _ = self.asked()
        self._ended = keys, size
        for its, _ in self._running.values():
            its.close()
        self._running.clear()


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a check asks of the follower.

    Attributes:
        turn: Lets everything go on for one turn.
        fence: Begins fences on everything that names keys without being asked; whether they have passed.
        is_kept: Whether a key is somebody else's, as long as the source does not have it.
        waits: Whether writers wait, so that nothing may be left for later.
    """

    turn: Callable[[], None]
    fence: Callable[[], Callable[[], bool]]
    is_kept: Callable[[int, bytes], bool]
    waits: Callable[[], bool]


class TouchedCheck:
    """Of one run."""

    def __init__(
        self,
        touched: Touched,
        passes: TouchedPasses,
        engine: Engine,
        sources: dict[str, Followed],
        marking: Marking,
        around: Surroundings,
    ) -> None:
        self._touched, self._passes, self._engine = touched, passes, engine
        self._sources, self._marking, self._around = sources, marking, around

    def run(self, until_s: float, *, once: bool = False) -> int | None:
        """Compares what was touched until now, and mends it; everything else goes on meanwhile.

        Args:
            until_s: By the monotonic clock: nothing is waited for beyond it.
            once: Each key is looked at once, and stays touched unless it is found equal: nothing is waited for, so that
                as few as possible are touched meanwhile. The answer is 0 then.

        Returns:
            How many keys differ for good; they stay touched, and so does what changed meanwhile. 0: all others are
            proved equal. None: it was not done in time, or nobody knows which keys were touched (``overflowed``).

        Raises:
            As ``Follower.turn``. Then, and after None, all keys that were not proved equal are touched still.
        """
        if self._touched.overflowed:
            return None
        differing = 0
        left = self._touched.take()
        eager, self._engine.eager = self._engine.eager, True
        try:
            while part := _part_of(left):
                found = self._glance(part, until_s) if once else self._prove(part, until_s)
                if found is None:
                    return None
                differing += found
            return None if self._touched.overflowed else differing
        finally:
            for database, keys in left.items():
                self._touched.add(database, keys)
            self._engine.eager = eager

    def _glance(self, places: set[Place], until_s: float) -> int | None:
        left = places
        try:
            doubted = self._look(places, until_s)
            if doubted is None:
                return None
            left = doubted
            return 0
        finally:
            self._touched.add_places(left)

    def _prove(self, places: set[Place], until_s: float) -> int | None:
        """The same of some keys."""
        left = places
        try:
            for _ in range(LOOKS_MAX):
                doubted = self._look(left, until_s)
                if doubted is None:
                    return None
                left = self._changing(doubted, until_s) if doubted and not self._around.waits() else doubted
                settled = self._settle(left, until_s) if left else left
                if settled is None:
                    return None
                left = left - settled
                if not left:
                    break
            if self._around.waits():
                self._touched.discard(places)
            return len(left)
        finally:
            self._touched.add_places(left)

    def _look(self, places: set[Place], until_s: float) -> set[Place] | None:
        """Those that were not found equal; None: it was not done in time."""
        passes = self._passes
        passes.open()
        passes.doubts = set()
        for database, keys in _by_database(places).items():
            by_shard = self._marking.by_shard(keys)
            for shard, its in by_shard.items():
                passes.put(shard, database, its)
            if sum(map(len, by_shard.values())) != len(keys):  # some are at a server that is not followed yet
                known = {key for its in by_shard.values() for key in its}
                passes.doubts.update((database, key) for key in keys if key not in known)
        if not self._turns_until(lambda: passes.idle, until_s):
            passes.close()
            return None
        return {place for place in passes.doubts if not self._around.is_kept(*place)}

    def _changing(self, doubted: set[Place], until_s: float) -> set[Place]:
        """Takes out of these those that somebody has changed around the look: they are named, and stay touched."""
        if not self._turns_until(self._around.fence(), until_s):
            return doubted
        changing = {place for place in doubted if self._is_dirty(place)}
        self._touched.add_places(changing)
        return doubted - changing

    def _settle(self, places: set[Place], until_s: float) -> set[Place] | None:
        """Those that need not be looked at again now; None: not all were settled in time."""
        supplies = [
            (database, supply)
            for source in self._sources.values()
            for database, supply in source.supplies.items()
        ]
        for _, supply in supplies:
            supply.same_bigs = set()
        for database, keys in _by_database(places).items():
            self._marking.mark(database, keys)
        waits = self._around.waits()
        busy = set(places)

        def settled() -> bool:
            busy.intersection_update([place for place in busy if self._is_dirty(place)])
            return not busy

        try:
            soon_s = until_s if waits else min(until_s, time.monotonic() + SETTLE_S_MAX)
            if not self._turns_until(settled, soon_s) and (waits or soon_s == until_s):
                return None
            self._touched.add_places(busy)
            same = {(database, key) for database, supply in supplies for key in supply.same_bigs or ()}
            return busy | same
        finally:
            for _, supply in supplies:
                supply.same_bigs = None

    def _is_dirty(self, place: Place) -> bool:
        shard = self._marking.owner(place[1])
        return shard is not None and self._sources[shard].is_dirty(*place)

    def _turns_until(self, condition: Callable[[], bool], until_s: float) -> bool:
        """Lets everything go on until that is so; False: it was not in time."""
        self._engine.wake()
        while not condition():
            if time.monotonic() >= until_s:
                return False
            self._around.turn()
        return True


def _part_of(left: dict[int, set[bytes]]) -> set[Place]:
    """Takes some keys out of it; none: there are none."""
    for database, keys in left.items():
        if keys:
            return {(database, keys.pop()) for _ in range(min(PART_KEYS, len(keys)))}
    return set()


def _by_database(places: Iterable[Place]) -> dict[int, list[bytes]]:
    found: dict[int, list[bytes]] = {}
    for database, key in places:
        found.setdefault(database, []).append(key)
    return found
