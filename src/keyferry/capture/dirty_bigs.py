"""Dirty keys that are too big for one DUMP: settled one by one, each at most every so often.

The longer a settling takes, the longer the key rests after it: one that changes all the time may cost the servers a
tenth of their time, not all of it. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

REST_S_MIN = 0.2
REST_SHARE = 3.0
"""It rests so many times as long as its last settling took."""
REST_S_MAX = 10.0
QUIET_S = 0.3
"""A key that was not named for so long is settled without the rest; only as long as its last settling took it waits."""
TORN_S = 0.3
FUZZY_AFTER = 2
"""Torn so often in a row, it is settled member by member."""


@dataclass(frozen=True, slots=True)
class Hot:
    """A key that is settled again and again; ``size_bytes`` 0 where it is not known."""

    key: bytes
    per_second: float
    size_bytes: int
    pause_s: float


@dataclass(slots=True)
class _Big:
    since_s: float | None
    """Named since, and not taken; ``flying_s`` of what was taken."""
    due_s: float
    size_bytes: int
    named_s: float
    """When it was named last."""
    soonest_s: float = 0.0
    flying_s: float | None = None
    torn: int = 0
    settled: int = 0
    rest_s: float = REST_S_MIN

    def is_due(self, now_s: float) -> bool:
        """Whether it has rested, or is quiet."""
        quiet = now_s - self.named_s >= QUIET_S
        return now_s >= (self.soonest_s if quiet else self.due_s)


class DirtyBigs:
    """Of one database of a source server."""

    def __init__(self) -> None:
        self.names: dict[bytes, _Big] = {}
        """By name; only to be looked at from outside."""
        self._waiting: dict[bytes, None] = {}
        """Those that are dirty and do not fly, in the order in which they were named."""
        self.settled = 0
        self.rest_share = REST_SHARE
        self.held = self.urgent = False
        """As ``DirtyKeys.hold`` and ``hurry`` say."""

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, key: bytes) -> bool:
        return key in self.names

    @property
    def dirty(self) -> int:
        return sum(big.since_s is not None or big.flying_s is not None for big in self.names.values())

    def is_dirty(self, key: bytes) -> bool:
        big = self.names[key]
        return big.since_s is not None or big.flying_s is not None

    def oldest_s(self) -> float | None:
        marks = [
            mark for big in self.names.values() for mark in (big.since_s, big.flying_s) if mark is not None
        ]
        return min(marks, default=None)

    def add(self, key: bytes, size_bytes: int, since_s: float, now_s: float) -> None:
        """A key turned out to be big, dirty since then."""
        big = self.names.get(key)
        if big is None:
            self.names[key] = _Big(since_s, now_s, size_bytes, now_s)
            self._waiting[key] = None
        else:
            big.size_bytes = size_bytes or big.size_bytes
            self.mark(key, since_s)

    def mark(self, key: bytes, now_s: float) -> None:
        """It changed, one that is here."""
        big = self.names[key]
        big.named_s = max(big.named_s, now_s)
        if big.since_s is None:
            big.since_s = now_s
            if big.flying_s is None:
                self._waiting[key] = None

    def mark_flying(self, now_s: float) -> None:
        """As ``DirtyKeys.mark_flying``."""
        for key, big in self.names.items():
            if big.flying_s is not None:
                self.mark(key, now_s)

    def has(self, now_s: float) -> bool:
        """Whether ``take`` has one now."""
        return self._due(now_s) is not None

    def _due(self, now_s: float) -> bytes | None:
        """The first that has rested; those that have not are few."""
        if self.held:
            return None
        return next((key for key in self._waiting if self.urgent or self.names[key].is_due(now_s)), None)

    def take(self, now_s: float) -> tuple[bytes, bool] | None:
        """Takes the mark off the oldest that is due; it flies until ``ended``. The flag: settle it member by member."""
        key = self._due(now_s)
        if key is None:
            return None
        big = self.names[key]
        big.flying_s, big.since_s = big.since_s, None
        del self._waiting[key]
        return key, big.torn >= FUZZY_AFTER

    def ended(self, key: bytes, now_s: float, *, seconds: float, size_bytes: int = 0) -> None:
        """The target holds what the source held; a key that was not named meanwhile is forgotten when it has rested."""
        big = self.names[key]
        big.flying_s, big.torn = None, 0
        if big.since_s is not None:
            self._waiting[key] = None
        big.settled += 1
        self.settled += 1
        big.size_bytes = max(big.size_bytes, size_bytes)
        big.rest_s = min(REST_S_MAX, max(REST_S_MIN, self.rest_share * seconds))
        big.due_s = now_s + big.rest_s
        big.soonest_s = now_s + min(big.rest_s, seconds)

    def torn(self, key: bytes, now_s: float) -> None:
        """It changed while it was read: dirty still, since then."""
        big = self.names[key]
        big.since_s, big.flying_s = big.flying_s, None
        self._waiting[key] = None
        big.torn += 1
        big.due_s = big.soonest_s = now_s + TORN_S

    def failed(self, key: bytes) -> None:
        """It cannot be carried; it is dirty no more, unless it was named meanwhile."""
        big = self.names[key]
        big.flying_s, big.torn = None, 0
        if big.since_s is None:
            del self.names[key]
        else:
            self._waiting[key] = None

    def forget(self, key: bytes) -> float | None:
        """It is somebody else's affair now; since when it was dirty."""
        big = self.names.pop(key, None)
        self._waiting.pop(key, None)
        marks = [mark for mark in (big.since_s, big.flying_s) if mark is not None] if big else []
        return min(marks, default=None)

    def returned(self) -> None:
        """The pipeline broke: whatever flew may have arrived, or not."""
        for key, big in self.names.items():
            if big.flying_s is not None:
                big.since_s, big.flying_s = big.flying_s, None
                self._waiting[key] = None

    def forget_rested(self, now_s: float) -> None:
        """Those that have rested and were not named: the next naming is an ordinary one."""
        rested = [
            key
            for key, big in self.names.items()
            if big.since_s is None and big.flying_s is None and big.due_s + big.rest_s <= now_s
        ]
        for key in rested:
            del self.names[key]

    def hottest(self) -> list[Hot]:
        """Those that were settled more than once while they were here, the largest first."""
        hot = [
            Hot(key, 1.0 / big.rest_s, big.size_bytes, big.rest_s)
            for key, big in self.names.items()
            if big.settled > 1
        ]
        return sorted(hot, key=lambda one: -one.size_bytes)
