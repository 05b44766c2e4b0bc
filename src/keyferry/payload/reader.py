"""Payloads as values: every type byte that Redis 2.6 to 8.4 and Valkey 7.2 to 9.1 write.

Layouts: Redis src/rdb.c, rdbLoadObject; Valkey src/rdb.c for its type 22. The bytes may come from anywhere:
every read is bounded by the bytes that are there, and whatever is broken raises PayloadError.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from math import isnan

from keyferry.model.identity import Family
from keyferry.model.values import HashValue, ListValue, ModuleValue, SetValue, StringValue, Value, ZSetValue
from keyferry.payload import footer, modules, packed
from keyferry.payload.cursor import BREAKS_OFF, Cursor
from keyferry.payload.errors import PayloadError
from keyferry.payload.streams import STREAM, STREAM_2, STREAM_3, read_stream

_DOUBLE = struct.Struct("<d")
_SCORE_NAN, _SCORE_INF, _SCORE_NEGATIVE_INF = 253, 254, 255
_NODE_PLAIN, _NODE_PACKED = 1, 2


def decode(payload: bytes, family: Family) -> Value:
    """The value of a payload.

    Args:
        payload: What DUMP gave.
        family: Of the server that wrote it: the type bytes from 22 on mean different things.

    Raises:
        PayloadError: The payload is broken, or its type byte is one that we do not read.
    """
    return decode_body(footer.check(payload), family)


def decode_body(body: bytes, family: Family) -> Value:
    """The value of a payload whose footer was checked and cut off. Raises as ``decode`` does."""
    try:
        read = _READERS[family].get(body[0])
        if read is None:
            raise PayloadError(f"The payload is of type {body[0]}, which is not known for {family.value}.")
        cursor = Cursor(body, 1)
        value = read(cursor)
    except (IndexError, struct.error):
        raise PayloadError(BREAKS_OFF) from None
    if cursor.pos != cursor.end and not isinstance(value, ModuleValue):
        raise PayloadError("The payload has bytes behind its value.")
    return value


# --- Strings, lists, sets


def _string(cursor: Cursor) -> StringValue:
    return StringValue(cursor.string())


def _strings(cursor: Cursor) -> list[bytes]:
    string = cursor.string
    return [string() for _ in range(cursor.count())]


def _list(cursor: Cursor) -> ListValue:
    return ListValue(_strings(cursor))


def _list_ziplist(cursor: Cursor) -> ListValue:
    return ListValue(packed.ziplist(cursor.string()))


def _list_quicklist(cursor: Cursor) -> ListValue:
    items: list[bytes] = []
    for _ in range(cursor.count()):
        items += packed.ziplist(cursor.string())
    return ListValue(items)


def _list_quicklist_2(cursor: Cursor) -> ListValue:
    items: list[bytes] = []
    for _ in range(cursor.count(2)):
        container = cursor.length()
        if container == _NODE_PACKED:
            items += packed.listpack(cursor.string())
        elif container == _NODE_PLAIN:
            items.append(cursor.string())
        else:
            raise PayloadError(f"A list has a node of the unknown kind {container}.")
    return ListValue(items)


def _set(cursor: Cursor) -> SetValue:
    return SetValue(_strings(cursor))


def _set_intset(cursor: Cursor) -> SetValue:
    return SetValue(packed.intset(cursor.string()))


def _set_listpack(cursor: Cursor) -> SetValue:
    return SetValue(packed.listpack(cursor.string()))


# --- Sorted sets


def _zset(cursor: Cursor) -> ZSetValue:
    """Scores as text of up to 252 bytes, its length in one byte; the lengths above are nan, inf, -inf."""
    members: list[tuple[bytes, float]] = []
    for _ in range(cursor.count(2)):
        member = cursor.string()
        size = cursor.raw(1)[0]
        if size == _SCORE_INF:
            score = float("inf")
        elif size == _SCORE_NEGATIVE_INF:
            score = float("-inf")
        elif size == _SCORE_NAN:
            raise PayloadError("A sorted set has a score that is not a number.")
        else:
            score = _score(cursor.raw(size))
        members.append((member, score))
    return ZSetValue(members)


def _zset_2(cursor: Cursor) -> ZSetValue:
    members: list[tuple[bytes, float]] = []
    data, string, unpack_from = cursor.data, cursor.string, _DOUBLE.unpack_from
    for _ in range(cursor.count(9)):
        member = string()
        (score,) = unpack_from(data, cursor.pos)
        if isnan(score):
            raise PayloadError("A sorted set has a score that is not a number.")
        cursor.pos += 8
        members.append((member, score))
    return ZSetValue(members)


def _scored(items: list[bytes]) -> ZSetValue:
    return ZSetValue([(member, _score(score)) for member, score in _pairs(items)])


def _zset_ziplist(cursor: Cursor) -> ZSetValue:
    return _scored(packed.ziplist(cursor.string()))


def _zset_listpack(cursor: Cursor) -> ZSetValue:
    return _scored(packed.listpack(cursor.string()))


def _score(text: bytes) -> float:
    try:
        score = float(text)
    except ValueError:
        raise PayloadError("A sorted set has a score that is not a number.") from None
    if isnan(score):
        raise PayloadError("A sorted set has a score that is not a number.")
    return score


def _pairs(items: list[bytes]) -> list[tuple[bytes, bytes]]:
    if len(items) % 2:
        raise PayloadError("A value of pairs has an odd number of items.")
    return list(zip(items[::2], items[1::2], strict=True))


# --- Hashes


def _hash(cursor: Cursor) -> HashValue:
    string = cursor.string
    return HashValue([(string(), string()) for _ in range(cursor.count(2))])


def _hash_zipmap(cursor: Cursor) -> HashValue:
    return HashValue(packed.zipmap(cursor.string()))


def _hash_ziplist(cursor: Cursor) -> HashValue:
    return HashValue(_pairs(packed.ziplist(cursor.string())))


def _hash_listpack(cursor: Cursor) -> HashValue:
    return HashValue(_pairs(packed.listpack(cursor.string())))


def _hash_metadata_pre_ga(cursor: Cursor) -> HashValue:
    """Per field: expiry (a length, 0 is none), name, value."""
    return _hash_with_expiries(cursor, first_ms=1)


def _hash_metadata(cursor: Cursor) -> HashValue:
    """The first expiry of all (8 bytes), then as above with the expiry less the first, plus 1."""
    return _hash_with_expiries(cursor, first_ms=cursor.signed_ms())


def _hash_with_expiries(cursor: Cursor, first_ms: int) -> HashValue:
    value = HashValue([])
    for _ in range(cursor.count(3)):
        offset = cursor.length()
        name = cursor.string()
        value.fields.append((name, cursor.string()))
        if offset:
            value.expiries[name] = first_ms + offset - 1
    return value


def _hash_listpack_ex_pre_ga(cursor: Cursor) -> HashValue:
    """A listpack of name, value, expiry (0 is none)."""
    items = packed.listpack(cursor.string())
    if len(items) % 3:
        raise PayloadError("A hash with expiries has a number of items that is no multiple of three.")
    value = HashValue(list(zip(items[::3], items[1::3], strict=True)))
    for name, expiry in zip(items[::3], items[2::3], strict=True):
        if expiry != b"0":
            if not expiry.isdigit() or len(expiry) > 20:
                raise PayloadError("A hash has an expiry that is not a time.")
            value.expiries[name] = int(expiry)
    return value


def _hash_listpack_ex(cursor: Cursor) -> HashValue:
    """The first expiry of all (8 bytes), then as above."""
    cursor.raw_skip(8)
    return _hash_listpack_ex_pre_ga(cursor)


def _hash_2_valkey(cursor: Cursor) -> HashValue:
    """Per field: name, value, expiry (8 bytes, -1 is none)."""
    value = HashValue([])
    for _ in range(cursor.count(10)):
        name = cursor.string()
        value.fields.append((name, cursor.string()))
        expiry = cursor.signed_ms()
        if expiry != -1:
            value.expiries[name] = expiry
    return value


# --- Modules, and the tables


def _module(cursor: Cursor) -> ModuleValue:
    return ModuleValue(modules.type_name(cursor.length()))


_SHARED: dict[int, Callable[[Cursor], Value]] = {
    0: _string,
    1: _list,
    2: _set,
    3: _zset,
    4: _hash,
    5: _zset_2,
    7: _module,
    9: _hash_zipmap,
    10: _list_ziplist,
    11: _set_intset,
    12: _zset_ziplist,
    13: _hash_ziplist,
    14: _list_quicklist,
    STREAM: lambda cursor: read_stream(cursor, STREAM),
    16: _hash_listpack,
    17: _zset_listpack,
    18: _list_quicklist_2,
    STREAM_2: lambda cursor: read_stream(cursor, STREAM_2),
    20: _set_listpack,
    STREAM_3: lambda cursor: read_stream(cursor, STREAM_3),
}
_READERS: dict[Family, dict[int, Callable[[Cursor], Value]]] = {
    Family.REDIS: _SHARED
    | {22: _hash_metadata_pre_ga, 23: _hash_listpack_ex_pre_ga, 24: _hash_metadata, 25: _hash_listpack_ex},
    Family.VALKEY: _SHARED | {22: _hash_2_valkey},
}
