"""Counters that are only ever raised by one: each reply is a number of its own, in the order of time.

Whatever was acknowledged counts once, whatever is unknown at most once, whatever was refused not at all.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence

from .events import Event, Finding

FAMILY = "counter"


def check_counter(key: str, events: Sequence[Event], final: int | None) -> Iterator[Finding]:
    """What is wrong with one counter, which began at 0.

    Args:
        final: What is there at the end; None: it was not looked at.
    """
    adds = [event for event in events if event.action == "add" and event.maybe]
    done = [event for event in adds if event.done]
    counts = Counter(_number(event) for event in done)
    for number, times in counts.items():
        if times > 1:
            yield Finding(FAMILY, key, f"{times} of those who raised it were told {number}: {times - 1} lost")
    if final is not None and not len(done) <= final <= len(adds):
        problem = "lost" if final < len(done) else "doubled"
        between = f"{len(done)} acknowledged and {len(adds) - len(done)} unknown"
        yield Finding(FAMILY, key, f"is {final} with {between}: {abs(final - len(done))} {problem}")
    yield from _bounds(
        key, adds, [event for event in events if event.done and event.action in ("add", "read")]
    )


def _bounds(key: str, adds: Sequence[Event], told: Sequence[Event]) -> Iterator[Finding]:
    """Every number that was told lies between what had surely been added and what could have been."""
    begun = sorted(event.begun for event in adds)
    ended = sorted(event.ended for event in adds if event.done)
    for event in told:
        number, raises = _number(event), event.action == "add"
        least = bisect_left(ended, event.begun) + raises
        most = bisect_left(begun, event.ended)
        if number < least:
            yield Finding(
                FAMILY,
                key,
                f"{event} was told {number}, but {least} had been acknowledged before: lost or stale",
            )
        elif number > most:
            yield Finding(FAMILY, key, f"{event} was told {number}, but only {most} had been sent: doubled")


def _number(event: Event) -> int:
    return int(float(event.reply[0])) if event.reply else 0


def check_order(key: str, events: Sequence[Event]) -> Iterator[Finding]:
    """A number that was told is above all those that had been told before the question."""
    told = [event for event in events if event.done and event.action in ("add", "read")]
    by_end = sorted(told, key=lambda event: event.ended)
    index, highest = 0, 0
    for event in sorted(told, key=lambda event: event.begun):
        while index < len(by_end) and by_end[index].ended < event.begun:
            highest = max(highest, _number(by_end[index]))
            index += 1
        if _number(event) < highest + (event.action == "add"):
            yield Finding(
                FAMILY, key, f"{event} was told {_number(event)} after {highest}: stale, or lost meanwhile"
            )
