"""Holds a history, and what is there in the end, against what each kind of key promises."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from .accounts import check_bank
from .bags import check_bag
from .counters import check_counter, check_order
from .drawing import ACCOUNTS
from .events import Event, Finding, History
from .owned import check_owned
from .registers import check_register
from .streams import StreamEnd, check_stream


@dataclass(frozen=True, slots=True)
class Final:
    """What one side holds.

    Attributes:
        at: When it was read, after everything.
        values: Of registers, counters and owned keys by their name in the history; absent ones are missing.
        bags: All items by name. ``lists``: of these the ones that are judged in pairs.
    """

    at: float
    values: Mapping[str, str] = field(default_factory=dict)
    bags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    streams: Mapping[str, StreamEnd] = field(default_factory=dict)


def check(history: History, final: Final | None) -> list[Finding]:
    """All that must not be; nothing when all is well."""
    groups: dict[tuple[str, str], list[Event]] = defaultdict(list)
    for event in sorted(history.events, key=lambda event: event.begun):
        groups[event.family, event.key].append(event)
    found = [
        finding for (family, key), events in groups.items() for finding in _one(family, key, events, final)
    ]
    return found + list(_pairs(final) if final is not None else ())


def _one(family: str, key: str, events: Sequence[Event], final: Final | None) -> Iterator[Finding]:
    at = final.at if final else 0.0
    value = final.values.get(key, "") if final else None
    match family:
        case "register":
            yield from check_register(key, events, value, at)
        case "counter":
            yield from check_counter(key, events, None if value is None else int(float(value or 0)))
            yield from check_order(key, events)
        case "bag":
            yield from check_bag(key, events, final.bags.get(key, ()) if final else None)
        case "stream":
            yield from check_stream(key, events, final.streams.get(key) if final else None)
        case "owned":
            yield from check_owned(key, events, value, at)
        case "bank":
            moves = [event for event in events if event.action == "move"]
            reads = [event for event in events if event.action == "read"]
            accounts = None if final is None else [int(final.values.get(name, "0")) for name in ACCOUNTS]
            yield from check_bank(moves, reads, accounts)
        case _:
            raise ValueError(f"nobody judges {family}")


def _pairs(final: Final) -> Iterator[Finding]:
    """What one script, or one transaction, has written into two keys."""
    count, numbers = int(final.values.get("{script}:n", "0")), final.bags.get("{script}:l", ())
    if numbers != tuple(str(number) for number in range(1, count + 1)):
        yield Finding(
            "counter",
            "{script}",
            f"counted to {count}, and wrote down {len(numbers)} numbers, or in disorder",
        )
    items, members = final.bags.get("{both}", ()), final.bags.get("{both}:s", ())
    if set(items) != set(members):
        yield Finding("bag", "{both}", f"{len(set(items) ^ set(members))} items are in one of two keys only")
