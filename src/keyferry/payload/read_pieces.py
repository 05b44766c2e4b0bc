"""Reading a big value from its server piece by piece, and passing each on before the next is read.

For a key that is too big for one DUMP. No reader holds more than a few MB: pages are counted in elements,
and the count follows the size of what the last page brought. SCAN-like commands may name an element twice;
writing it twice is harmless. Whether the value changed meanwhile is the caller's to know (WATCH), except
for what WATCH is blind to: a stream's groups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias, cast

from keyferry.model.values import Consumer, PendingEntry, StreamGroup, StreamId, StreamValue
from keyferry.payload.exchange import TORN, Changed, Exchange, Refused, Request, Steps, Stop, time_ms
from keyferry.payload.write_commands import (
    STRING_PIECE_BYTES,
    Abilities,
    Command,
    entry_commands,
    group_commands,
    hash_commands,
    id_text,
    list_commands,
    pending_commands,
    set_commands,
    stream_end_commands,
    stream_losses,
    stream_start_commands,
    string_piece_commands,
    zset_commands,
)
from keyferry.wire.resp import Reply

PAGE_BYTES = 1 << 20
"""What a page should bring."""
FIRST_PAGE_ELEMENTS = 4
PAGE_ELEMENTS_MAX = 500
PAGE_GROWTH = 4
UINT64_MAX = (1 << 64) - 1

PieceReader: TypeAlias = Callable[[Exchange, Abilities], Steps[None]]


class _Page:
    """How many elements to ask for: as many as make ``PAGE_BYTES``, judging by the last page."""

    def __init__(self) -> None:
        self.elements = FIRST_PAGE_ELEMENTS

    def had(self, parts: Iterable[bytes], elements: int) -> None:
        if not elements:
            return
        element_bytes = max(1, sum(map(len, parts)) // elements)
        self.elements = max(
            1, min(PAGE_BYTES // element_bytes, self.elements * PAGE_GROWTH, PAGE_ELEMENTS_MAX)
        )


def read_string(exchange: Exchange, source: Abilities) -> Steps[None]:
    """GETRANGE, and SETRANGE."""
    (reply,) = yield from exchange.ask(("STRLEN", exchange.key))
    length = _integer(reply)
    exchange.check_length(length)
    for start in range(0, max(1, length), STRING_PIECE_BYTES):
        (piece,) = yield from exchange.ask(("GETRANGE", exchange.key, start, start + STRING_PIECE_BYTES - 1))
        yield from exchange.store(string_piece_commands(exchange.name, start, _bytes(piece), length))


def read_list(exchange: Exchange, source: Abilities) -> Steps[None]:
    """LRANGE from the front, and RPUSH."""
    page, start = _Page(), 0
    while True:
        (reply,) = yield from exchange.ask(("LRANGE", exchange.key, start, start + page.elements - 1))
        items = _all_bytes(reply)
        if not items:
            return
        yield from exchange.store(list_commands(exchange.name, items))
        start += len(items)
        page.had(items, len(items))


def read_set(exchange: Exchange, source: Abilities) -> Steps[None]:
    """SSCAN, and SADD."""
    page, cursor = _Page(), b"0"
    while True:
        cursor, members = yield from _scan(exchange, "SSCAN", cursor, page, 1)
        yield from exchange.store(set_commands(exchange.name, members))
        if cursor == b"0":
            return


def read_zset(exchange: Exchange, source: Abilities) -> Steps[None]:
    """ZSCAN, and ZADD with the score as the server wrote it.

    Servers write 17 significant digits or the shortest text that reads back the same (tests/payload): exact.
    """
    page, cursor = _Page(), b"0"
    while True:
        cursor, parts = yield from _scan(exchange, "ZSCAN", cursor, page, 2)
        yield from exchange.store(zset_commands(exchange.name, zip(parts[::2], parts[1::2], strict=True)))
        if cursor == b"0":
            return


def read_hash(exchange: Exchange, source: Abilities) -> Steps[None]:
    """HSCAN, HPEXPIRETIME of its fields where the source may have field expiries, HSET and HPEXPIREAT."""
    asks_expiry = source.field_expiry and (yield from _field_expiry_in_use(exchange))
    # A field whose time is over is counted by HLEN and not shown by HSCAN.
    exchange.fields_expire = source.field_expiry
    page, cursor = _Page(), b"0"
    while True:
        cursor, parts = yield from _scan(exchange, "HSCAN", cursor, page, 2)
        fields = dict(zip(parts[::2], parts[1::2], strict=True))
        expiries: dict[bytes, int] = {}
        if asks_expiry and fields:
            (times,) = yield from exchange.ask(("HPEXPIRETIME", exchange.key, "FIELDS", len(fields), *fields))
            for field, expires_at_ms in zip(list(fields), _items(times), strict=True):
                if expires_at_ms == -2:  # gone since HSCAN
                    del fields[field]
                elif expires_at_ms != -1:
                    expiries[field] = _integer(expires_at_ms)
        if expiries and not exchange.abilities.field_expiry:
            exchange.note(("field_expiry",))
        yield from exchange.store(hash_commands(exchange.name, fields.items(), expiries, exchange.abilities))
        if cursor == b"0":
            return


def read_stream(exchange: Exchange, source: Abilities) -> Steps[None]:
    """XINFO for the counters, groups and consumers; XPENDING and XRANGE in pages."""
    key, name, abilities = exchange.key, exchange.name, exchange.abilities
    value, length = yield from _stream_frame(exchange)
    exchange.note(stream_losses(value, length, abilities))
    yield from exchange.store(stream_start_commands(name))
    for group in value.groups:
        consumers = (consumer.name for consumer in group.consumers)
        yield from exchange.store(group_commands(name, group.name, consumers, abilities))
        yield from _read_pending(exchange, group.name)
    page = _Page()
    first: StreamId | None = (0, 0)
    while first is not None:
        (reply,) = yield from exchange.ask(("XRANGE", key, id_text(first), "+", "COUNT", page.elements))
        entries = [_entry(item) for item in _items(reply)]
        if not entries:
            break
        yield from exchange.store(entry_commands(name, entries))
        first = _successor(entries[-1][0])
        page.had((part for _, fields in entries for pair in fields for part in pair), len(entries))
    after = yield from _stream_frame(exchange)
    if after != (value, length):
        raise Changed
    yield from exchange.store(stream_end_commands(name, value, length, abilities))


def _stream_frame(exchange: Exchange) -> Steps[tuple[StreamValue, int]]:
    """The stream but for entries and times, and its length.

    ``pending`` holds one item per consumer, with the number of its pending entries as ``deliveries``.
    """
    key = exchange.key
    info, groups_reply = yield from exchange.ask(("XINFO", "STREAM", key), ("XINFO", "GROUPS", key))
    stream = _map(info)
    groups: list[StreamGroup] = []
    described = [_map(group) for group in _items(groups_reply)]
    names = [_bytes(group[b"name"]) for group in described]
    asked = yield from exchange.ask(*(("XINFO", "CONSUMERS", key, name) for name in names))
    for name, group, consumers_reply in zip(names, described, asked, strict=True):
        consumers = [_map(consumer) for consumer in _items(consumers_reply)]
        entries_read = group.get(b"entries-read")
        groups.append(
            StreamGroup(
                name,
                _id(group[b"last-delivered-id"]),
                -1 if entries_read is None else _integer(entries_read),
                [Consumer(_bytes(consumer[b"name"]), 0) for consumer in consumers],
                [
                    PendingEntry((0, 0), _bytes(consumer[b"name"]), 0, _integer(consumer[b"pending"]))
                    for consumer in consumers
                    if consumer[b"pending"]
                ],
            )
        )
    added, deleted = stream.get(b"entries-added"), stream.get(b"max-deleted-entry-id")
    value = StreamValue(
        entries=[],
        last_id=_id(stream[b"last-generated-id"]),
        entries_added=None if added is None else _integer(added),
        max_deleted_id=None if deleted is None else _id(deleted),
        groups=groups,
    )
    return value, _integer(stream[b"length"])


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
        pending = [_pending(item, now_ms) for item in _items(reply)]
        if not pending:
            return
        yield from exchange.store(pending_commands(exchange.name, group, pending))
        first = _successor(pending[-1].entry_id)
        count = min(count * 2, PAGE_ELEMENTS_MAX)


def _field_expiry_in_use(exchange: Exchange) -> Steps[bool]:
    """Whether any hash on the source has a field that expires: INFO counts them (Redis, Valkey spelling).

    A source that does not tell may have some.
    """
    (info,) = yield Request("source", [("INFO", "keyspace")])
    if not isinstance(info, bytes):
        return True
    counters = (part.partition(b"=") for line in info.split() for part in line.split(b","))
    return any(
        name in (b"subexpiry", b"keys_with_volatile_items") and count != b"0" for name, _, count in counters
    )


def _scan(
    exchange: Exchange, command: str, cursor: bytes, page: _Page, parts_per_element: int
) -> Steps[tuple[bytes, list[bytes]]]:
    (reply,) = yield from exchange.ask((command, exchange.key, cursor, "COUNT", page.elements))
    match reply:
        case [bytes() as following, list() as found]:
            parts = _all_bytes(found)
            page.had(parts, len(parts) // parts_per_element)
            return following, parts
    raise _unexpected(reply)


def _successor(entry_id: StreamId) -> StreamId | None:
    """The next possible id; None after the last one. (An exclusive range needs Redis 6.2.)"""
    ms, sequence = entry_id
    if sequence < UINT64_MAX:
        return ms, sequence + 1
    return (ms + 1, 0) if ms < UINT64_MAX else None


def _entry(reply: Reply) -> tuple[StreamId, list[tuple[bytes, bytes]]]:
    match reply:
        case [bytes() as entry_id, list() as found]:
            parts = _all_bytes(found)
            return _id(entry_id), list(zip(parts[::2], parts[1::2], strict=True))
    raise _unexpected(reply)


def _pending(reply: Reply, now_ms: int) -> PendingEntry:
    match reply:
        case [bytes() as entry_id, bytes() as consumer, int() as idle_ms, int() as deliveries]:
            return PendingEntry(_id(entry_id), consumer, now_ms - idle_ms, deliveries)
    raise _unexpected(reply)


def _id(reply: Reply) -> StreamId:
    ms, _, sequence = _bytes(reply).partition(b"-")
    return int(ms), int(sequence)


def _map(reply: Reply) -> dict[bytes, Reply]:
    items = _items(reply)
    return {_bytes(name): item for name, item in zip(items[::2], items[1::2], strict=True)}


def _items(reply: Reply) -> list[Reply]:
    if isinstance(reply, list):
        return reply
    raise _unexpected(reply)


def _all_bytes(reply: Reply) -> list[bytes]:
    items = _items(reply)
    if set(map(type, items)) <= {bytes}:
        return cast("list[bytes]", items)
    raise _unexpected(reply)


def _bytes(reply: Reply) -> bytes:
    if isinstance(reply, bytes):
        return reply
    raise _unexpected(reply)


def _integer(reply: Reply) -> int:
    if isinstance(reply, int):
        return reply
    raise _unexpected(reply)


def _unexpected(reply: Reply) -> Stop:
    return Stop(
        Refused(f"an unexpected reply of {type(reply).__name__} while the value was read", TORN, "source")
    )


READERS: dict[bytes, PieceReader] = {
    b"string": read_string,
    b"list": read_list,
    b"set": read_set,
    b"zset": read_zset,
    b"hash": read_hash,
    b"stream": read_stream,
}
"""TYPE's word -> what reads such a value and passes it on."""
