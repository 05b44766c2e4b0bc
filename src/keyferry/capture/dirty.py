"""Keys that changed and have not been settled since: named by a feed, taken by a pipeline, named again meanwhile.

Pure: the clock comes in as an argument, in seconds. One object for each database of a source server.

    waiting   named; may be taken
    flying    taken: the mark is off, the read on the authority comes after that (PROTOCOL, rule 1)
    resting   settled a moment ago: a key that changes all the time is carried at most every so often
    big       too big for one DUMP: waits, flies and rests by itself, the longer the longer it takes

A key is in one of these at most. Named while it flies or rests it is dirty again by itself, from that moment on:
  1. the mark is taken off, the value read: old; 2. the key changes and is named; 3. old arrives on the target;
  4. the key was not forgotten: it is read once more.

What it costs: a dict entry and the name, which all places share (tests measure it).
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable

from keyferry.capture.dirty_bigs import DirtyBigs, Hot
from keyferry.capture.queue import KeyQueue

REST_S = 0.2
"""Between two settlings of one key."""
GATHER_S = 0.02
"""So long a handful of keys waits for more: a page of a few keys costs nearly what one of many does."""
GATHER_KEYS = 200
PRESS_S = 0.3
PRESS_KEYS = 5_000
HOT_KEYS_MAX = 4096
HOT_WINDOW_S = 2.0
HOT_PER_S = 1.0
"""A key that is settled less often is not hot."""


class DirtyKeys:
    """Args: keys_max: More dirty keys than this are an overflow: they are forgotten, and all keys must be compared."""

    def __init__(self, keys_max: int) -> None:
        self._keys_max = keys_max
        self._waiting = KeyQueue()
        self._rested = KeyQueue()
        """Those that were named while they flew or rested: older than what waits, so they go first."""
        self._flying: dict[bytes, float] = {}
        self._again: dict[bytes, float] = {}
        self._resting: set[bytes] = set()
        self._rests: deque[tuple[float, list[bytes]]] = deque()
        self.bigs = DirtyBigs()
        self._heat: dict[bytes, int] = {}
        self._heat_s = 0.0
        self._hottest: list[tuple[bytes, float]] = []
        self.settled = 0
        """Settlings so far."""
        self.overflowed = False
        """Keys were forgotten; whoever has everything compared takes it back."""
        self._held = self._urgent = False

    def __len__(self) -> int:
        """Dirty keys: named and not settled since."""
        return len(self._waiting) + len(self._rested) + len(self._flying) + len(self._again) + self.bigs.dirty

    @property
    def flying(self) -> int:
        return len(self._flying)

    def __contains__(self, key: bytes) -> bool:
        """Whether the key is dirty, or was settled a moment ago: what happens to it on the target is our work."""
        return (
            key in self._flying
            or key in self._resting
            or key in self._waiting
            or key in self._rested
            or key in self.bigs
        )

    def strangers(self, keys: list[bytes]) -> list[bytes]:
        """Those that are neither dirty nor were settled a moment ago."""
        flying, resting, waiting = self._flying, self._resting, self._waiting.names
        rested, bigs = self._rested.names, self.bigs.names
        return [
            key
            for key in keys
            if not (key in resting or key in flying or key in waiting or key in rested or key in bigs)
        ]

    def is_dirty(self, key: bytes) -> bool:
        """Whether it was named and is not settled since."""
        if key in self.bigs:
            return self.bigs.is_dirty(key)
        return key in self._waiting or key in self._flying or key in self._rested or key in self._again

    @property
    def names(self) -> int:
        """Names that are held, dirty or not."""
        return (
            len(self._waiting) + len(self._rested) + len(self._flying) + len(self._resting) + len(self.bigs)
        )

    def oldest_s(self) -> float | None:
        """Since when the oldest dirty key has been dirty; None without one."""
        found = [since_s for since_s in (self.small_oldest_s(), self.bigs.oldest_s()) if since_s is not None]
        return min(found, default=None)

    def small_oldest_s(self) -> float | None:
        """The same without keys that are too big for one DUMP."""
        found = [self._waiting.oldest_s(), self._rested.oldest_s()]
        found += [next(iter(named.values())) for named in (self._flying, self._again) if named]
        return min((since_s for since_s in found if since_s is not None), default=None)

    # Naming

    def mark(self, keys: Iterable[bytes], now_s: float) -> None:
        """These keys changed before ``now_s``."""
        waiting, flying, resting, bigs = self._waiting.names, self._flying, self._resting, self.bigs.names
        rested, again = self._rested.names, self._again
        fresh: dict[bytes, None] = {}
        for key in keys:
            if key in waiting or key in again:
                continue
            if key in flying or key in resting:
                again[key] = now_s
            elif key in bigs:
                self.bigs.mark(key, now_s)
            elif key not in rested:
                fresh[key] = None
        self._waiting.put(list(fresh), now_s)
        if len(self._waiting) > self._keys_max:
            self._overflow()

    def _overflow(self) -> None:
        self._waiting.clear()
        self._rested.clear()
        self.overflowed = True

    def mark_flying(self, now_s: float) -> None:
        """Anything may have changed: what was read a moment ago, and has not arrived, may be old.

        1. A key is read; 2. everything is flushed, which names no key; 3. a comparison finds the key on neither side;
        4. what was read arrives on the target, and nobody looks at it again.
        """
        for key in self._flying:
            self._again.setdefault(key, now_s)
        self.bigs.mark_flying(now_s)

    # Carrying

    def hold(self, on: bool) -> None:
        """None is given out as long as this is on; what flies lands, what is named is remembered."""
        self._held = self.bigs.held = on

    def hurry(self, on: bool) -> None:
        """While writers wait for the last of them none rests, and none waits for company."""
        self._urgent = self.bigs.urgent = on

    @property
    def open(self) -> bool:
        return True

    def presses(self, now_s: float) -> bool:
        """Whether they should go before other work: they are many, or old."""
        oldest_s = self.small_oldest_s()
        return oldest_s is not None and (now_s - oldest_s > PRESS_S or len(self._waiting) > PRESS_KEYS)

    def take(self, limit: int, now_s: float) -> list[bytes]:
        """Takes the marks off at most ``limit`` keys, the oldest first; they fly until ``arrived``."""
        self._rise(now_s)
        if self._held:
            return []
        if self._urgent:
            self._wake()
        ready = len(self._waiting) + len(self._rested)
        if not ready:
            return []
        if ready < GATHER_KEYS and not self._urgent:
            oldest = (self._waiting.oldest_s(), self._rested.oldest_s())
            if now_s - min(since_s for since_s in oldest if since_s is not None) < GATHER_S:
                return []
        taken = self._rested.take(limit, self._flying)
        return taken + self._waiting.take(limit - len(taken), self._flying)

    def arrived(self, keys: Iterable[bytes], now_s: float) -> None:
        """The target holds what the source held when these were read, after ``take``; those handed over do not count."""
        flying = self._flying
        landed = [key for key in keys if flying.pop(key, None) is not None]
        self.settled += len(landed)
        self._resting.update(landed)
        self._rests.append((now_s + REST_S, landed))

    def returned(self) -> None:
        """The pipeline broke: whatever flew may have arrived, or not."""
        if self._flying:
            oldest_s = min(self._flying.values())
            for key in self._flying:
                self._again.pop(key, None)
            self._rested.put(list(self._flying), oldest_s)
            self._flying.clear()
        self.bigs.returned()

    def _rise(self, now_s: float) -> None:
        """Those that have rested."""
        while self._rests and self._rests[0][0] <= now_s:
            keys = self._rests.popleft()[1]
            self._resting.difference_update(keys)
            self._name_again(keys)
        if now_s - self._heat_s > HOT_WINDOW_S:
            self._cool(now_s)

    def _wake(self) -> None:
        """Those that were named while they rested rest no longer."""
        woken = [key for key in self._again if key in self._resting]
        if woken:
            self._resting.difference_update(woken)
            self._name_again(woken)

    def _name_again(self, keys: list[bytes]) -> None:
        again, heat, flying = self._again, self._heat, self._flying
        if not again:
            return
        # One that was woken may fly once more when the rest ends that it was given before.
        risen = [key for key in keys if key in again and key not in flying]
        if not risen:
            return
        self._rested.put(risen, min(again.pop(key) for key in risen))
        for key in risen:
            if key in heat or len(heat) < HOT_KEYS_MAX:
                heat[key] = heat.get(key, 0) + 1

    def _cool(self, now_s: float) -> None:
        """Once in a while the counts of hot keys begin anew, and big keys that have rested are like all others."""
        self.bigs.forget_rested(now_s)
        span_s = now_s - self._heat_s if self._heat_s else HOT_WINDOW_S
        best = heapq.nlargest(3, self._heat.items(), key=lambda item: item[1])
        self._hottest = [(key, count / span_s) for key, count in best]
        self._heat.clear()
        self._heat_s = now_s

    def hottest(self) -> list[Hot]:
        """Keys that are settled most often, big ones first; at most three."""
        small = [Hot(key, rate, 0, REST_S) for key, rate in self._hottest if rate > HOT_PER_S]
        return (self.bigs.hottest() + small)[:3]

    # Big keys

    def hand_over(self, key: bytes, size_bytes: int, now_s: float) -> None:
        """A key that flies, or that SCAN named, turned out to be too big for one DUMP. ``size_bytes`` 0: not known."""
        marks = [self._flying.pop(key, None), self._waiting.discard(key), self._rested.discard(key)]
        self._again.pop(key, None)
        self._resting.discard(key)
        since_s = min((mark for mark in marks if mark is not None), default=now_s)
        self.bigs.add(key, size_bytes, since_s, now_s)

    def give_back(self, key: bytes, now_s: float) -> None:
        """A big key that flies is one for the ordinary way, after all."""
        since_s = self.bigs.forget(key)
        self._rested.put([key], now_s if since_s is None else since_s)

    def failed(self, key: bytes) -> None:
        """A key that flies cannot be carried; it is dirty no more, unless it was named meanwhile."""
        self._flying.pop(key, None)
        since_s = self._again.pop(key, None)
        if since_s is not None:
            self._rested.put([key], since_s)
