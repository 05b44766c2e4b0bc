"""Reading a big stream piece by piece: its entries as bytes, its groups and pending entries as what they are.

WATCH is blind to a stream's groups, so they are compared before and after.
"""

from __future__ import annotations

from keyferry.model.values import Consumer, PendingEntry, StreamGroup, StreamId, StreamValue
from keyferry.payload import bulks
from keyferry.payload.exchange import Batch, Changed, Exchange, Steps, time_ms
from keyferry.payload.pages import (
    PAGE_ELEMENTS_MAX,
    STREAM_PAGE_ELEMENTS_MAX,
    Page,
    array_of,
    unexpected_bytes,
)
from keyferry.payload.replies import bytes_of, integer_of, items_of, unexpected
from keyferry.payload.write_commands import (
    Abilities,
    Command,
    group_commands,
    id_text,
    pending_commands,
    stream_end_commands,
    stream_losses,
    stream_start_commands,
)
from keyferry.wire.resp import Reply

GROUPS_AT_ONCE = 16
UINT64_MAX = (1 << 64) - 1


def read_stream(exchange: Exchange, source: Abilities) -> Steps[None]:
    """XINFO for the counters, groups and consumers; XPENDING and XRANGE in pages."""
    name, abilities = exchange.name, exchange.abilities
    value, length = yield from _frame(exchange)
    exchange.note(stream_losses(value, length, abilities))
    yield from exchange.store(stream_start_commands(name))
    for group in value.groups:
        consumers = (consumer.name for consumer in group.consumers)
        yield from exchange.store(group_commands(name, group.name, consumers, abilities))
        yield from _read_pending(exchange, group.name)
    yield from _read_entries(exchange)
    after = yield from _frame(exchange)
    if after != (value, length):
        raise Changed
    yield from exchange.store(stream_end_commands(name, value, length, abilities))


def _read_entries(exchange: Exchange) -> Steps[None]:
    """XRANGE, and an XADD for each entry."""
    page = Page(STREAM_PAGE_ELEMENTS_MAX)
    first: StreamId | None = (0, 0)
    while first is not None:
        first = yield from _entries_page(exchange, first, page)


def _entries_page(exchange: Exchange, first: StreamId, page: Page) -> Steps[StreamId | None]:
    """Where the next page begins; None after the last one."""
    reply = yield from exchange.ask_raw("XRANGE", exchange.key, id_text(first), "+", "COUNT", page.elements)
    count, start = array_of(reply)
    if not count:
        return None
    page.had(len(reply), count)
    try:
        commands, last, longest_bytes = bulks.xadds(reply, start, count, exchange.name)
    except ValueError:
        raise unexpected_bytes() from None
    del reply
    exchange.check_length(longest_bytes)
    yield from exchange.put(Batch(commands, count))
    return _successor(_id(last))


def _frame(exchange: Exchange) -> Steps[tuple[StreamValue, int]]:
    """The stream but for entries and times, and its length.

    ``pending`` holds one item per consumer, with the number of its pending entries as ``deliveries``.
    """
    key = exchange.key
    info, groups_reply = yield from exchange.ask(("XINFO", "STREAM", key), ("XINFO", "GROUPS", key))
    stream = _map(info)
    groups: list[StreamGroup] = []
    described = [_map(group) for group in items_of(groups_reply)]
    names = [bytes_of(group[b"name"]) for group in described]
    asked: list[Reply] = []
    for first in range(0, len(names), GROUPS_AT_ONCE):
        some = names[first : first + GROUPS_AT_ONCE]
        asked += yield from exchange.ask(*(("XINFO", "CONSUMERS", key, name) for name in some))
    for name, group, consumers_reply in zip(names, described, asked, strict=True):
        consumers = [_map(consumer) for consumer in items_of(consumers_reply)]
        entries_read = group.get(b"entries-read")
        groups.append(
            StreamGroup(
                name,
                _id(group[b"last-delivered-id"]),
                -1 if entries_read is None else integer_of(entries_read),
                [Consumer(bytes_of(consumer[b"name"]), 0) for consumer in consumers],
                [
                    PendingEntry((0, 0), bytes_of(consumer[b"name"]), 0, integer_of(consumer[b"pending"]))
                    for consumer in consumers
                    if consumer[b"pending"]
                ],
            )
        )
    added, deleted = stream.get(b"entries-added"), stream.get(b"max-deleted-entry-id")
    value = StreamValue(
        entries=[],
        last_id=_id(stream[b"last-generated-id"]),
        entries_added=None if added is None else integer_of(added),
        max_deleted_id=None if deleted is None else _id(deleted),
        groups=groups,
    )
    return value, integer_of(stream[b"length"])


def _read_pending(exchange: Exchange, group: bytes) -> Steps[None]:
    """XPENDING says how long ago an entry was delivered, not when.

    Asked between two TIMEs it is exact, if these agree on the millisecond; else it is asked again, for less.
    """
    count = PAGE_ELEMENTS_MAX
    first: StreamId | None = (0, 0)
    while first is not None:
        xpending: Command = ("XPENDING", exchange.key, group, id_text(first), "+", count)
        before, reply, after = yield from exchange.ask(("TIME",), xpending, ("TIME",))
        now_ms = time_ms(before)
        if time_ms(after) != now_ms and count > 1:
            count //= 2
            continue
        pending = [_pending(item, now_ms) for item in items_of(reply)]
        if not pending:
            return
        yield from exchange.store(pending_commands(exchange.name, group, pending))
        first = _successor(pending[-1].entry_id)
        count = min(count * 2, PAGE_ELEMENTS_MAX)


def _successor(entry_id: StreamId) -> StreamId | None:
    """The next possible id; None after the last one. (An exclusive range needs Redis 6.2.)"""
    ms, sequence = entry_id
    if sequence < UINT64_MAX:
        return ms, sequence + 1
    return (ms + 1, 0) if ms < UINT64_MAX else None


def _pending(reply: Reply, now_ms: int) -> PendingEntry:
    match reply:
        case [bytes() as entry_id, bytes() as consumer, int() as idle_ms, int() as deliveries]:
            return PendingEntry(_id(entry_id), consumer, now_ms - idle_ms, deliveries)
    raise unexpected(reply)


def _id(reply: Reply) -> StreamId:
    ms, _, sequence = bytes_of(reply).partition(b"-")
    return int(ms), int(sequence)


def _map(reply: Reply) -> dict[bytes, Reply]:
    items = items_of(reply)
    return {bytes_of(name): item for name, item in zip(items[::2], items[1::2], strict=True)}
