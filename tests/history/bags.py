"""Bags of unique items, whatever type holds them: lists, sets, sorted sets, hashes, texts, bits.

Every item that was added and acknowledged is in the bag, or was taken out, exactly once. A taking whose outcome is
unknown may have taken what it takes at most; an adding whose outcome is unknown may have added once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .events import FOREVER, Event, Finding

FAMILY = "bag"
SHOWN = 3


@dataclass(slots=True)
class Item:
    """Where one item has been."""

    add: Event
    taken: Event | None = None
    doubtful: bool = False
    """A removal of it has an unknown outcome."""


def taken_by(event: Event) -> list[str]:
    """What a taking brought: the reply without the list's name, without a sorted set's scores."""
    if "named" in event.extra:
        return list(event.reply[1:])
    return list(event.reply[::2]) if "pairs" in event.extra else list(event.reply)


def check_bag(key: str, events: Sequence[Event], final: Sequence[str] | None) -> Iterator[Finding]:
    """What is wrong with one bag, which began empty.

    Args:
        final: All items that are there at the end; None: it was not looked at.
    """
    items = {event.value: Item(event) for event in events if event.action == "add"}
    unknown_takes = sum(event.action == "take" and not event.done and event.maybe for event in events)
    for event in events:
        yield from _note_taking(key, items, event)
    yield from _read(key, items, events)
    if any(event.action == "take" and "list" in event.extra for event in events) and "moves" not in key:
        yield from _order(key, items, final or ())
    if final is None:
        return
    there = Counter(final)
    yield from _foreign(key, items, there)
    lost = [
        item
        for value, item in items.items()
        if item.add.done and item.taken is None and not item.doubtful and value not in there
    ]
    if len(lost) > unknown_takes:
        shown = "; ".join(str(item.add) for item in lost[:SHOWN])
        yield Finding(
            FAMILY, key, f"{len(lost)} items are lost, {unknown_takes} takings are unknown: {shown}"
        )


def _note_taking(key: str, items: dict[str, Item], event: Event) -> Iterator[Finding]:
    if event.action == "remove" and event.value in items:
        if not event.done and event.maybe:
            items[event.value].doubtful = True
        elif event.done and event.reply == ("1",):
            yield from _take(key, items, event.value, event)
    if event.action == "take" and event.done:
        for value in taken_by(event):
            yield from _take(key, items, value, event)


def _take(key: str, items: dict[str, Item], value: str, event: Event) -> Iterator[Finding]:
    item = items.get(value)
    if item is None or not item.add.maybe or event.ended < item.add.begun:
        yield Finding(FAMILY, key, f"{event} took {value!r}, which nobody has added{_refused(item)}")
    elif item.taken is not None:
        yield Finding(FAMILY, key, f"{value!r} was taken twice: {item.taken}; {event}")
    else:
        item.taken = event


def _refused(item: Item | None) -> str:
    return "" if item is None else f" (its adding: {item.add})"


def _foreign(key: str, items: dict[str, Item], there: Counter[str]) -> Iterator[Finding]:
    """Items at the end that must not be there, or not so often."""
    for value, times in there.items():
        item = items.get(value)
        if item is None or not item.add.maybe:
            yield Finding(FAMILY, key, f"{value!r} is there, which nobody has added{_refused(item)}")
        elif times > 1:
            yield Finding(FAMILY, key, f"{value!r} is there {times} times: {times - 1} doubled")
        elif item.taken is not None:
            yield Finding(FAMILY, key, f"{value!r} is there, and was taken: back, or doubled; {item.taken}")


def _read(key: str, items: dict[str, Item], events: Sequence[Event]) -> Iterator[Finding]:
    """Readings of a whole bag show what was surely in it, and nothing that was surely not."""
    unknown = sorted(
        event.begun for event in events if event.action == "take" and not event.done and event.maybe
    )
    for read in events:
        if read.action != "read" or not read.done:
            continue
        seen = (
            set(read.reply[0].split(";")) - {""} if "text" in read.extra and read.reply else set(read.reply)
        )
        room = sum(begun < read.ended for begun in unknown)
        missing = [
            value
            for value, item in items.items()
            if item.add.done
            and item.add.ended < read.begun
            and value not in seen
            and not item.doubtful
            and (item.taken is None or item.taken.begun > read.ended)
        ]
        if len(missing) > room:
            yield Finding(
                FAMILY,
                key,
                f"{read} did not see {len(missing)} items, such as {missing[0]!r}: stale, or lost",
            )
        for value in seen:
            item = items.get(value)
            if item is None or not item.add.maybe or item.add.begun > read.ended:
                yield Finding(FAMILY, key, f"{read} saw {value!r}, which nobody had added")
            elif item.taken is not None and item.taken.ended < read.begun:
                yield Finding(
                    FAMILY, key, f"{read} saw {value!r}, which had been taken by {item.taken}: stale, or back"
                )


def _order(key: str, items: dict[str, Item], final: Sequence[str]) -> Iterator[Finding]:
    """First in, first out: nothing is taken before what had been added before it.

    What is left was taken never; where it was added surely before something that was taken, the order is wrong.
    """
    left = set(final)
    rows = [
        (item.taken.begun if item.taken else FOREVER, item.taken.ended if item.taken else FOREVER, item.add)
        for value, item in items.items()
        if item.taken is not None or value in left
    ]
    by_end = sorted((row for row in rows if row[1] < FOREVER), key=lambda row: row[1])
    index = 0
    latest: Event | None = None
    for begun, _, add in sorted(rows, key=lambda row: row[0]):
        while index < len(by_end) and by_end[index][1] < begun:
            if latest is None or by_end[index][2].begun > latest.begun:
                latest = by_end[index][2]
            index += 1
        if latest is not None and add.ended < latest.begun:
            yield Finding(
                FAMILY,
                key,
                f"{latest.value!r} was taken before {add.value!r}, which had been added before it",
            )
            return
