"""Streams in payloads: nodes of entries, then a tail of ids, counters and groups.

Layout: Redis src/rdb.c (rdbSaveObject, OBJ_STREAM) and src/t_stream.c (the comment before streamAppendItem).

    stream  nodes: count, then per node its master id (a string of 16 bytes) and a listpack (a string)
            tail:  length, last id, [19, 21: first id, max deleted id, entries added], groups
    group   name, last delivered id, [19, 21: entries read],
            pending: count, then raw id, delivery time, deliveries,
            consumers: count, then name, seen time, [21: active time], pending: count, then raw ids
    node    master entry: count, deleted, number of fields, fields..., 0
            entry: flags, ms and seq less the master's, fields of its own (number, fields and values) or only
            values, number of the entry's items

The nodes are the same in types 15, 19 and 21, so that a stream goes to an older server with its nodes as they
are and a new tail: ``with_tail_for``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from keyferry.model.values import Consumer, PendingEntry, StreamGroup, StreamId, StreamValue
from keyferry.payload.cursor import Cursor
from keyferry.payload.encode import length, listpack_int, listpack_of, listpack_string, string
from keyferry.payload.errors import PayloadError
from keyferry.payload.packed import listpack

STREAM, STREAM_2, STREAM_3 = 15, 19, 21
_U64 = (1 << 64) - 1
_DELETED, _SAME_FIELDS = 1, 2
_NODE_ENTRIES_MAX = 100
_NODE_BYTES_MAX = 4096
_PENDING_BYTES = 16 + 8 + 1
_ENTRIES_READ_UNKNOWN = _U64
"""-1 as an unsigned length."""

Entry = tuple[StreamId, list[tuple[bytes, bytes]]]


@dataclass(slots=True)
class StreamTail:
    """All of a stream but its entries. The fields with None are not in type 15."""

    entry_count: int
    last_id: StreamId
    first_id: StreamId | None
    max_deleted_id: StreamId | None
    entries_added: int | None
    groups: list[StreamGroup]


# --- Reading


def read_stream(cursor: Cursor, type_byte: int) -> StreamValue:
    """A stream of type 15, 19 or 21.

    Raises:
        PayloadError: It is broken.
        IndexError: It breaks off.
    """
    entries: list[Entry] = []
    for _ in range(cursor.count(2)):
        master = cursor.string()
        if len(master) != 16:
            raise PayloadError("A stream's node has an id that is not of 16 bytes.")
        _read_node(struct.unpack(">QQ", master), listpack(cursor.string()), entries)
    tail = read_tail(cursor, type_byte)
    if tail.entry_count != len(entries):
        raise PayloadError("A stream's length does not fit its entries.")
    return StreamValue(entries, tail.last_id, tail.entries_added, tail.max_deleted_id, tail.groups)


def _read_node(master: tuple[int, ...], items: list[bytes], entries: list[Entry]) -> None:
    master_ms, master_seq = master
    try:
        pos = 3
        stop = pos + _natural(items[2])
        names = items[pos:stop]
        pos = stop + 1
        for _ in range(_natural(items[0]) + _natural(items[1])):
            flags = int(items[pos])
            entry_id = (master_ms + int(items[pos + 1])) & _U64, (master_seq + int(items[pos + 2])) & _U64
            pos += 3
            if flags & _SAME_FIELDS:
                stop = pos + len(names)
                pairs = list(zip(names, items[pos:stop], strict=True))
            else:
                stop = pos + 1 + 2 * _natural(items[pos])
                pairs = list(zip(items[pos + 1 : stop : 2], items[pos + 2 : stop : 2], strict=True))
            if stop >= len(items):
                raise PayloadError("A stream's node breaks off in an entry.")
            pos = stop + 1
            if not flags & _DELETED:
                entries.append((entry_id, pairs))
    except PayloadError:
        raise
    except ValueError:
        raise PayloadError("A stream's node has something else where a number must be.") from None
    if pos != len(items):
        raise PayloadError("A stream's node has items behind its last entry.")


def _natural(item: bytes) -> int:
    number = int(item)
    if number < 0:
        raise PayloadError("A stream's node has a negative count.")
    return number


def skip_nodes(cursor: Cursor) -> None:
    """Moves from the first node to the tail."""
    for _ in range(cursor.count(2)):
        cursor.skip_string()
        cursor.skip_string()


def read_tail(cursor: Cursor, type_byte: int) -> StreamTail:
    """What stands behind the nodes. Raises as ``read_stream`` does."""
    entry_count = cursor.length()
    last_id = cursor.stream_id()
    first_id = max_deleted_id = entries_added = None
    if type_byte >= STREAM_2:
        first_id = cursor.stream_id()
        max_deleted_id = cursor.stream_id()
        entries_added = cursor.length()
    groups = [_read_group(cursor, type_byte) for _ in range(cursor.count(5))]
    return StreamTail(entry_count, last_id, first_id, max_deleted_id, entries_added, groups)


def _read_group(cursor: Cursor, type_byte: int) -> StreamGroup:
    name = cursor.string()
    last_id = cursor.stream_id()
    entries_read = -1
    if type_byte >= STREAM_2:
        entries_read = cursor.length()
        if entries_read == _ENTRIES_READ_UNKNOWN:
            entries_read = -1
    unowned: dict[StreamId, tuple[int, int]] = {}
    for _ in range(cursor.count(_PENDING_BYTES)):
        entry_id = cursor.raw_stream_id()
        unowned[entry_id] = cursor.signed_ms(), cursor.length()
    consumers: list[Consumer] = []
    pending: list[PendingEntry] = []
    for _ in range(cursor.count(10)):
        consumer = Consumer(cursor.string(), cursor.signed_ms())
        if type_byte >= STREAM_3:
            consumer.active_ms = cursor.signed_ms()
        consumers.append(consumer)
        for _ in range(cursor.count(16)):
            entry_id = cursor.raw_stream_id()
            delivery = unowned.pop(entry_id, None)
            if delivery is None:
                raise PayloadError("A stream's consumer has a pending entry that its group does not have.")
            pending.append(PendingEntry(entry_id, consumer.name, *delivery))
    if unowned:
        raise PayloadError("A stream's group has a pending entry that no consumer has.")
    pending.sort(key=_by_id)
    return StreamGroup(name, last_id, entries_read, consumers, pending)


def _by_id(pending: PendingEntry) -> StreamId:
    return pending.entry_id


# --- Writing


def write_stream(value: StreamValue, type_byte: int) -> bytes:
    """The body of a stream of type 15, 19 or 21, type byte included.

    What the payload's type cannot say is left out; what the value does not say is written as the servers
    assume it (entries added: as many as there are; nothing deleted).
    """
    nodes: list[bytes] = []
    start = 0
    while start < len(value.entries):
        master_id = value.entries[start][0]
        node, count = _write_node(value.entries[start : start + _NODE_ENTRIES_MAX])
        nodes.append(string(struct.pack(">QQ", *master_id)) + string(node))
        start += count
    tail = StreamTail(
        entry_count=len(value.entries),
        last_id=value.last_id,
        first_id=value.entries[0][0] if value.entries else (0, 0),
        max_deleted_id=value.max_deleted_id,
        entries_added=value.entries_added,
        groups=value.groups,
    )
    return b"".join((bytes((type_byte,)), length(len(nodes)), *nodes, write_tail(tail, type_byte)))


def _write_node(entries: list[Entry]) -> tuple[bytes, int]:
    """A listpack of the first of these entries, as many as its size allows, and how many it took."""
    (master_ms, master_seq), first = entries[0]
    names = [name for name, _ in first]
    items: list[bytes] = []
    count = bytes_so_far = 0
    for (ms, seq), pairs in entries:
        if bytes_so_far >= _NODE_BYTES_MAX:
            break
        same = [name for name, _ in pairs] == names
        entry = [listpack_int(_SAME_FIELDS if same else 0)]
        entry += (listpack_int(_signed(ms - master_ms)), listpack_int(_signed(seq - master_seq)))
        if same:
            entry += [listpack_string(value) for _, value in pairs]
        else:
            entry.append(listpack_int(len(pairs)))
            entry += [listpack_string(item) for pair in pairs for item in pair]
        entry.append(listpack_int(len(entry)))
        items += entry
        bytes_so_far += sum(map(len, entry))
        count += 1
    master = [listpack_int(number) for number in (count, 0, len(names))]
    master += [listpack_string(name) for name in names]
    master.append(listpack_int(0))
    return listpack_of(master + items), count


def _signed(difference: int) -> int:
    """A difference of unsigned 64-bit numbers as the signed 64-bit one that stands for it."""
    difference &= _U64
    return difference - (1 << 64) if difference >> 63 else difference


def write_tail(tail: StreamTail, type_byte: int) -> bytes:
    """What stands behind the nodes of a stream of type 15, 19 or 21."""
    out = [length(tail.entry_count), _id(tail.last_id)]
    if type_byte >= STREAM_2:
        added = tail.entry_count if tail.entries_added is None else tail.entries_added
        out += (_id(tail.first_id or (0, 0)), _id(tail.max_deleted_id or (0, 0)), length(added))
    out.append(length(len(tail.groups)))
    for group in tail.groups:
        out += (string(group.name), _id(group.last_id))
        if type_byte >= STREAM_2:
            out.append(length(group.entries_read & _U64))
        out.append(length(len(group.pending)))
        owned: dict[bytes, list[bytes]] = {consumer.name: [] for consumer in group.consumers}
        for pending in group.pending:
            raw_id = struct.pack(">QQ", *pending.entry_id)
            owned[pending.consumer].append(raw_id)
            out += (raw_id, struct.pack("<q", pending.delivered_ms), length(pending.deliveries))
        out.append(length(len(group.consumers)))
        for consumer in group.consumers:
            out += (string(consumer.name), struct.pack("<q", consumer.seen_ms))
            if type_byte >= STREAM_3:
                out.append(struct.pack("<q", consumer.active_ms))
            out.append(length(len(owned[consumer.name])))
            out += owned[consumer.name]
    return b"".join(out)


def _id(stream_id: StreamId) -> bytes:
    return length(stream_id[0]) + length(stream_id[1])


def with_tail_for(body: bytes, type_byte: int) -> tuple[bytes, StreamTail]:
    """The stream in ``body`` as ``type_byte`` (15, 19 or 21), its nodes untouched, and the tail that it had.

    Raises:
        PayloadError: It is broken.
        IndexError: It breaks off.
    """
    cursor = Cursor(body, 1)
    skip_nodes(cursor)
    tail_start = cursor.pos
    tail = read_tail(cursor, body[0])
    if cursor.pos != cursor.end:
        raise PayloadError("The payload has bytes behind its value.")
    return b"".join((bytes((type_byte,)), body[1:tail_start], write_tail(tail, type_byte))), tail
