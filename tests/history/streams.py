"""Streams: entries once each and in order, each given to one consumer of the group, and pending until acknowledged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .events import Event, Finding

FAMILY = "stream"


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """What is there at the end.

    Attributes:
        entries: (id, value), in order.
        pending: Ids that the group has given and nobody has acknowledged.
        given: The last id that the group has given.
    """

    entries: tuple[tuple[str, str], ...]
    pending: frozenset[str]
    given: str


def claimed(event: Event) -> list[tuple[str, str]]:
    """What XREADGROUP brought: (id, value) of each entry. Flat: the stream's name, then id, field, value."""
    return list(zip(event.reply[1::3], event.reply[3::3], strict=True))


def id_order(entry: str) -> tuple[int, int]:
    milliseconds, _, number = entry.partition("-")
    return int(milliseconds), int(number or 0)


def check_stream(key: str, events: Sequence[Event], final: StreamEnd | None) -> Iterator[Finding]:
    """What is wrong with one stream, which began empty.

    Args:
        final: None: it was not looked at.
    """
    adds = {event.value: event for event in events if event.action == "add"}
    yield from _ids_in_order(key, [event for event in adds.values() if event.done])
    given: dict[str, Event] = {}
    for event in events:
        if event.action != "claim" or not event.done:
            continue
        for entry, value in claimed(event):
            add = adds.get(value)
            if add is None or not add.maybe or (add.done and add.reply[0] != entry):
                yield Finding(
                    FAMILY, key, f"{event} was given {entry} with {value!r}, which nobody has added"
                )
            if entry in given:
                yield Finding(FAMILY, key, f"{entry} was given twice: {given[entry]}; {event}")
            given[entry] = event
    if final is not None:
        yield from _entries(key, adds, final)
        yield from _group(key, events, given, final)


def _ids_in_order(key: str, done: Sequence[Event]) -> Iterator[Finding]:
    by_end = sorted(done, key=lambda event: event.ended)
    index, highest = 0, (0, 0)
    for event in sorted(done, key=lambda event: event.begun):
        while index < len(by_end) and by_end[index].ended < event.begun:
            highest = max(highest, id_order(by_end[index].reply[0]))
            index += 1
        if id_order(event.reply[0]) <= highest:
            yield Finding(FAMILY, key, f"{event} was given an id that is not above {highest[0]}-{highest[1]}")


def _entries(key: str, adds: dict[str, Event], final: StreamEnd) -> Iterator[Finding]:
    there = Counter(value for _, value in final.entries)
    ids = {value: entry for entry, value in final.entries}
    lost = [event for value, event in adds.items() if event.done and value not in there]
    if lost:
        yield Finding(FAMILY, key, f"{len(lost)} entries are lost, such as {lost[0]}")
    for value, times in there.items():
        add = adds.get(value)
        if add is None or not add.maybe:
            yield Finding(FAMILY, key, f"{value!r} is there, which nobody has added")
        elif times > 1:
            yield Finding(FAMILY, key, f"{value!r} is there {times} times")
        elif add.done and ids[value] != add.reply[0]:
            yield Finding(FAMILY, key, f"{value!r} has the id {ids[value]}, and was given {add.reply[0]}")


def _group(key: str, events: Sequence[Event], given: dict[str, Event], final: StreamEnd) -> Iterator[Finding]:
    """Given is given, acknowledged is acknowledged."""
    acknowledged = {
        event.value for event in events if event.action == "ack" and event.done and event.reply == ("1",)
    }
    doubtful = {event.value for event in events if event.action == "ack" and event.maybe and not event.done}
    unknown = any(event.action == "claim" and event.maybe and not event.done for event in events)
    for event in events:
        if event.action == "ack" and event.done and event.reply != ("1",):
            yield Finding(FAMILY, key, f"{event}: an entry that was given was not pending")
    for entry in sorted(given.keys() - acknowledged - doubtful - final.pending):
        yield Finding(
            FAMILY, key, f"{entry} was given and not acknowledged, and is not pending: {given[entry]}"
        )
    for entry in sorted(final.pending & acknowledged):
        yield Finding(FAMILY, key, f"{entry} was acknowledged, and is pending again")
    if unknown:
        return
    for entry, _ in final.entries:
        if id_order(entry) <= id_order(final.given) and entry not in given:
            yield Finding(
                FAMILY, key, f"{entry} was given to nobody, and the group is past it ({final.given})"
            )
    for entry in given:
        if id_order(entry) > id_order(final.given):
            yield Finding(FAMILY, key, f"{entry} was given, and the group's last is {final.given}")
