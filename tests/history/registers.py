"""Is a register's history linearizable? Many writers of unique values, many readers, exact and quick.

By the zones of Gibbons and Korach ("Testing shared memories", 1997). A write and the reads of its value are a cluster.
From the first moment at which one of them had ended to the last at which one of them had not begun, the register
surely held that value: a *forward* zone. Where all of a cluster's operations overlap, it held the value at some moment
between the two: a *backward* zone. The history is linearizable unless

    1. two forward zones overlap (two values at one time), or
    2. a backward zone lies within a forward one (its value would have been in between), or
    3. a value is read before its write began, or was never written.

A write of unknown outcome has no end, and does not count when nobody has read its value. The value that is there in
the end is one more read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter

from .events import FOREVER, Event, Finding

NOTHING = ""
"""The value of a register that was never written."""


@dataclass(frozen=True, slots=True)
class Zone:
    """One value's.

    Attributes:
        ended: When the first of its operations had ended.
        begun: When the last of them began.
    """

    value: str
    ended: float
    begun: float

    @property
    def forward(self) -> bool:
        return self.ended < self.begun

    @property
    def low(self) -> float:
        return min(self.ended, self.begun)

    @property
    def high(self) -> float:
        return max(self.ended, self.begun)

    def __str__(self) -> str:
        return f"{self.value!r} at {self.low:.4f}-{self.high:.4f}" if self.value else "nothing"


def check_register(key: str, events: Sequence[Event], final: str | None, at: float) -> Iterator[Finding]:
    """What is wrong with one register.

    Args:
        final: What is there at the end, ``at`` a time after everything; None: it was not looked at.
    """
    writes: dict[str, Event] = {event.value: event for event in events if event.action == "write"}
    ends: dict[str, list[float]] = {}
    begins: dict[str, list[float]] = {}
    reads = [
        (event.reply[0] if event.reply else NOTHING, event.begun, event.ended)
        for event in events
        if _reads(event)
    ]
    if final is not None:
        reads.append((final, at, at))
    for value, begun, ended in reads:
        write = writes.get(value)
        if value != NOTHING and (write is None or not write.maybe or ended < write.begun):
            yield Finding("register", key, f"{value!r} was read at {begun:.4f}: {_reason(write)}")
            continue
        ends.setdefault(value, []).append(ended)
        begins.setdefault(value, []).append(begun)
    zones = [Zone(NOTHING, -FOREVER, max(begins[NOTHING]))] if NOTHING in begins else []
    for value, write in writes.items():
        if write.done or value in ends:
            all_ends, all_begins = [write.ended, *ends.get(value, ())], [write.begun, *begins.get(value, ())]
            zones.append(Zone(value, min(all_ends), max(all_begins)))
    yield from (Finding("register", key, what) for what in _conflicts(zones))


def _reads(event: Event) -> bool:
    return event.action == "read" and event.done


def _reason(write: Event | None) -> str:
    if write is None:
        return "nobody has written it"
    return "its writer was told that it is not written" if not write.maybe else "before it was written"


def _conflicts(zones: Iterable[Zone]) -> Iterator[str]:
    forward = sorted((zone for zone in zones if zone.forward), key=attrgetter("low"))
    for one, other in pairwise(forward):
        if other.low < one.high:
            yield f"held two values at a time: {one} and {other}; one of them was read when it was over, or is lost"
    # Those that are left to compare with do not overlap, or it has been said; the widest stands for the rest.
    backward = sorted((zone for zone in zones if not zone.forward), key=attrgetter("low"))
    index = 0
    around: Zone | None = None
    for zone in backward:
        while index < len(forward) and forward[index].low < zone.low:
            if around is None or forward[index].high > around.high:
                around = forward[index]
            index += 1
        if around is not None and zone.high < around.high:
            yield f"{zone} was acknowledged and never seen, while the register held {around}"
