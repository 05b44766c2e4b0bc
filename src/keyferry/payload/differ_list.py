"""Lists by difference: queues and capped lists, pushed and popped at their ends, with some items set in between.

The ends tell how the two lists lie beside each other (``differ_align``); then everything that overlaps is
compared window by window. An item that was inserted or removed in the middle shifts what is behind it: that is
``TooMany`` but for the last few.

A busy queue never stands still for as long as that takes. For such a one there are the ends alone, read in one
transaction: if they fit the target's without a difference, only the ends moved, and the target's follow.
"""

from __future__ import annotations

from typing import Literal

from keyferry.payload.differ_align import Ends, best_shift, list_edit, mismatches, overlap
from keyferry.payload.differ_found import (
    DIFFERENCE_ELEMENTS_MAX,
    PAGE_ELEMENTS_MAX,
    Found,
    Look,
    Pair,
    TooMany,
)
from keyferry.payload.exchange import Changed, Steps
from keyferry.payload.pages import Page
from keyferry.payload.replies import all_bytes, integer_of, items_of
from keyferry.payload.write_commands import Command
from keyferry.wire.resp import Reply

OVERLAP = 64
"""Items more than may be pushed or popped: what the ends are known by."""
END_ELEMENTS_MAX = DIFFERENCE_ELEMENTS_MAX + OVERLAP
OVERLAP_MIN = 16
"""Items that must be the same for the ends alone to be believed."""
END_BYTES = 256 << 10
SAMPLE = 4
"""Items by which the size of the others is judged."""
NODE_BYTES = 8 << 10
"""list-max-listpack-size, by default."""
NODES_WALKED_MAX = 500_000
"""By the LSETs of one transaction: each walks there from the nearer end (Redis 6.2: from the front), some 20 ns
a node."""


def compare_lists(pair: Pair, look: Look, found: Found) -> Steps[list[Command]]:
    """What makes the target's list the source's.

    Raises:
        Changed, Enough, Stop, TooMany.
    """
    lengths = source_length, target_length = look.source.length, look.target.length
    source = yield from _ends(pair, "source", source_length)
    target = yield from _ends(pair, "target", target_length)
    shift = best_shift(source, target)
    start, end = max(0, -shift), min(source_length, target_length - shift)
    _count_ends(found, lengths, shift)
    changed, item_bytes = yield from _changed(pair, start, end, shift, found)
    nodes = min(target_length, item_bytes * target_length // NODE_BYTES + 1)
    if found.apply and len(changed) * nodes > NODES_WALKED_MAX:
        raise TooMany
    if not found.apply:
        return []
    head = yield from _items(pair, "source", 0, start)
    tail = yield from _items(pair, "source", end, source_length)
    found.count(sum(map(len, head)) + sum(map(len, tail)), 0)
    return list_edit(pair.key, lengths, shift, head, tail, changed)


def compare_ends(pair: Pair, look: Look, found: Found) -> Steps[list[Command]]:
    """The same by the ends alone, as they are at one moment; the target is as it was in ``look``.

    Raises:
        Changed: The ends do not show how the lists lie.
        Stop, TooMany.
    """
    first, _ = yield from pair.ask([("LRANGE", pair.key, 0, SAMPLE - 1)], [])
    sample = all_bytes(first[0])
    window = max(1, min(END_ELEMENTS_MAX, END_BYTES * len(sample) // (sum(map(len, sample)) + 1)))
    looks: list[Command] = [
        ("LLEN", pair.key),
        ("LRANGE", pair.key, 0, window - 1),
        ("LRANGE", pair.key, -window, -1),
    ]
    (*_, results), seen = yield from pair.ask([("MULTI",), *looks, ("EXEC",)], looks)
    if results is None:  # a WATCH of ours says so
        raise Changed
    source, target = _ends_of(items_of(results)), _ends_of(seen)
    if not source.length or target.length != look.target.length:
        raise Changed
    shift = best_shift(source, target)
    start, end = max(0, -shift), min(source.length, target.length - shift)
    behind = source.length - end
    if mismatches(source, target, shift) or overlap(source, target, shift) < min(OVERLAP_MIN, source.length):
        raise Changed
    if start > len(source.head) or behind > len(source.tail):
        raise Changed
    lengths = source.length, target.length
    _count_ends(found, lengths, shift)
    head, tail = source.head[:start], source.tail[len(source.tail) - behind :]
    found.count(sum(map(len, head)) + sum(map(len, tail)), 0)
    return list_edit(pair.key, lengths, shift, head, tail, {})


def _count_ends(found: Found, lengths: tuple[int, int], shift: int) -> None:
    """What is pushed and trimmed under this shift. Raises Enough, TooMany."""
    at_tail = lengths[1] - lengths[0] - shift
    for where, surplus in (("items at the head", shift), ("items at the tail", at_tail)):
        if surplus:
            found.tell(where, "extra" if surplus > 0 else "missing", count=abs(surplus))
            found.count(0, abs(surplus))


def _changed(
    pair: Pair, start: int, end: int, shift: int, found: Found
) -> Steps[tuple[dict[int, bytes], int]]:
    """Items of the source from ``start`` to ``end`` that differ, by index; and how large one is, about."""
    changed: dict[int, bytes] = {}
    page, size_bytes, first = Page(PAGE_ELEMENTS_MAX), 0, start
    while start < end:
        stop = min(start + page.elements, end)
        (one,), (other,) = yield from pair.ask(
            [("LRANGE", pair.key, start, stop - 1)],
            [("LRANGE", pair.key, start + shift, stop + shift - 1)],
        )
        here, there = all_bytes(one), all_bytes(other)
        if not len(here) == len(there) == stop - start:
            raise Changed
        page_bytes = sum(map(len, here))
        page.had(max(page_bytes, sum(map(len, there))), stop - start)
        size_bytes += page_bytes
        if here != there:
            for index, (item, was) in enumerate(zip(here, there, strict=True), start):
                if item != was:
                    found.tell("item", "differs", name=str(index))
                    found.count(len(item))
                    changed[index] = item
        start = stop
    return changed, size_bytes // max(1, end - first)


def _ends(pair: Pair, side: Literal["source", "target"], length: int) -> Steps[Ends]:
    """The ends of one list, as many items as ``END_BYTES`` have."""
    window = min(length, END_ELEMENTS_MAX)
    head = yield from _items(pair, side, 0, window, END_BYTES)
    tail: list[bytes] = []
    # Page by page towards the front: a few large items are enough there too.
    page, size_bytes = Page(PAGE_ELEMENTS_MAX), 0
    while len(tail) < window and size_bytes < END_BYTES:
        stop = length - len(tail)
        start = max(length - window, stop - page.elements)
        items = yield from _window(pair, side, start, stop)
        page_bytes = sum(map(len, items))
        page.had(page_bytes, len(items))
        size_bytes += page_bytes
        tail = items + tail
    return Ends(length, head, tail)


def _items(
    pair: Pair, side: Literal["source", "target"], start: int, stop: int, bytes_max: int | None = None
) -> Steps[list[bytes]]:
    """Items by index, page by page; fewer when they come to ``bytes_max``."""
    page, items, size_bytes = Page(PAGE_ELEMENTS_MAX), list[bytes](), 0
    while start < stop and (bytes_max is None or size_bytes < bytes_max):
        more = yield from _window(pair, side, start, min(start + page.elements, stop))
        page_bytes = sum(map(len, more))
        page.had(page_bytes, len(more))
        size_bytes += page_bytes
        items += more
        start += len(more)
    return items


def _window(pair: Pair, side: Literal["source", "target"], start: int, stop: int) -> Steps[list[bytes]]:
    commands: list[Command] = [("LRANGE", pair.key, start, stop - 1)]
    if side == "source":
        (reply,), _ = yield from pair.ask(commands, [])
    else:
        _, (reply,) = yield from pair.ask([], commands)
    items = all_bytes(reply)
    if len(items) != stop - start:
        raise Changed
    return items


def _ends_of(replies: list[Reply]) -> Ends:
    length, head, tail = replies
    return Ends(integer_of(length), all_bytes(head), all_bytes(tail))
