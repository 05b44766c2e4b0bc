"""Reading a big value from its server piece by piece, and passing each on while the next is read.

For a key that is too big for one DUMP. No reader holds more than a few MB, but for an element that is larger
itself: pages are counted in elements, and the count follows the size of what the last page brought. SCAN-like
commands may name an element twice; writing it twice is harmless. Whether the value changed meanwhile is the
caller's to know (WATCH), except for what WATCH is blind to: a stream's groups.

What a server does for one request stays within a millisecond or two, with three exceptions that no command
avoids: a hash or set that is one listpack or intset (where the server's limits were raised) answers a scan
whole; an element is answered whole; LRANGE walks to the middle of a list, node by node.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, cast

from keyferry.payload import bulks
from keyferry.payload.exchange import Batch, Changed, Exchange, Request, Steps, Stop
from keyferry.payload.pages import (
    LIST_PAGE_ELEMENTS_MAX,
    Page,
    array_of,
    bulk_of,
    pass_on,
    scan_of,
    unexpected_bytes,
)
from keyferry.payload.read_stream import read_stream
from keyferry.payload.replies import all_bytes, integer_of, items_of, unexpected
from keyferry.payload.write_commands import Abilities, hash_commands
from keyferry.wire.resp import Argument, Reply, encode_command

STRING_PIECE_BYTES = 512 << 10
STRING_WHOLE_BYTES_MAX = 16 << 20
"""A string up to this size is put together here and stored at once."""

PieceReader: TypeAlias = Callable[[Exchange, Abilities], Steps[None]]


def read_string(exchange: Exchange, source: Abilities) -> Steps[None]:
    """GETRANGE, and one SET.

    A server takes the argument of a SET from the socket piece by piece and keeps it where it came, so that a
    SET of any size stalls nobody. Every other way does: SETRANGE at the far end fills hundreds of MB with
    zeros in one go (600 MB: 0.5 s on each server), and APPEND copies the whole string whenever it outgrows a
    size class of the allocator (jemalloc, 600 MB: up to 0.5 s, again and again). But a SET that takes long
    needs the connection for itself; where it cannot have it, SETRANGE once is the lesser evil.
    """
    (reply,) = yield from exchange.ask(("STRLEN", exchange.key))
    length = integer_of(reply)
    exchange.check_length(length)
    if length <= STRING_WHOLE_BYTES_MAX:
        yield from _at_once(exchange, length)
    elif exchange.may_hold_target:
        yield from _in_one_long_command(exchange, length)
    else:
        yield from _by_setrange(exchange, length)


def _at_once(exchange: Exchange, length: int) -> Steps[None]:
    parts: list[bytes | memoryview] = [_set_head(exchange, length)]
    for start in range(0, length, STRING_PIECE_BYTES):
        piece = yield from _piece(exchange, start, length)
        parts += (piece,)
    yield from exchange.put(Batch(b"".join((*parts, b"\r\n")), 1))


def _in_one_long_command(exchange: Exchange, length: int) -> Steps[None]:
    sent = 0
    try:
        for start in range(0, length, STRING_PIECE_BYTES):
            piece = yield from _piece(exchange, start, length)
            yield from exchange.put(_part_of_set(exchange, start, piece, length))
            sent = start + len(piece)
    except (Changed, Stop):
        # What has begun must end, or the connection is of no use any more: the rest is zeros.
        if sent:
            for start in range(sent, length, STRING_PIECE_BYTES):
                zeros = memoryview(bytes(min(STRING_PIECE_BYTES, length - start)))
                yield from exchange.put(_part_of_set(exchange, start, zeros, length))
            yield from exchange.drain()
        raise


def _part_of_set(exchange: Exchange, start: int, piece: memoryview, length: int) -> Batch:
    head = b"" if start else _set_head(exchange, length)
    if start + len(piece) < length:
        return Batch(b"".join((head, piece)), leaves_open=True)
    return Batch(b"".join((head, piece, b"\r\n")), 1)


def _set_head(exchange: Exchange, length: int) -> bytes:
    """SET and the name, up to where the value begins."""
    return b"*3" + encode_command("SET", exchange.name)[len(b"*2") :] + b"$%d\r\n" % length


def _by_setrange(exchange: Exchange, length: int) -> Steps[None]:
    yield from exchange.store([("SETRANGE", exchange.name, length - 1, b"\x00")])
    for start in range(0, length, STRING_PIECE_BYTES):
        piece = yield from _piece(exchange, start, length)
        head = b"*4" + encode_command("SETRANGE", exchange.name, start)[len(b"*3") :]
        yield from exchange.put(Batch(b"".join((head, b"$%d\r\n" % len(piece), piece, b"\r\n")), 1))


def _piece(exchange: Exchange, start: int, length: int) -> Steps[memoryview]:
    """The bytes of the string from ``start`` on."""
    end = min(start + STRING_PIECE_BYTES, length)
    reply = yield from exchange.ask_raw("GETRANGE", exchange.key, start, end - 1)
    size, at = bulk_of(reply)
    if size != end - start:
        raise Changed
    return memoryview(reply)[at : at + size]


def read_list(exchange: Exchange, source: Abilities) -> Steps[None]:
    """LRANGE, and RPUSH.

    A server walks to the first item node by node (8 KB each), from the nearer end since Redis 7.0: 1 to 2 ms
    for the middle of a list of 600 MB; Redis 6.2 from the front, 5 ms for its end.
    """
    yield from _by_rank(exchange, "LLEN", _list_page, Page(LIST_PAGE_ELEMENTS_MAX))


def _list_page(exchange: Exchange, start: int, end: int, page: Page) -> Steps[None]:
    reply = yield from exchange.ask_raw("LRANGE", exchange.key, start, end - 1)
    count, at = array_of(reply)
    if count != end - start:
        raise Changed
    page.had(len(reply), count)
    yield from pass_on(exchange, "RPUSH", reply, at, count, elements_max=LIST_PAGE_ELEMENTS_MAX)


def read_zset(exchange: Exchange, source: Abilities) -> Steps[None]:
    """ZRANGE by rank, and ZADD with the score as the server wrote it.

    Servers write 17 significant digits or the shortest text that reads back the same (tests/payload): exact.
    In the order of the ranks each page is bounded, however the value is kept, and ZADD has it easy.
    """
    yield from _by_rank(exchange, "ZCARD", _zset_page, Page())


def _zset_page(exchange: Exchange, start: int, end: int, page: Page) -> Steps[None]:
    reply = yield from exchange.ask_raw("ZRANGE", exchange.key, start, end - 1, "WITHSCORES")
    count, at = array_of(reply)
    if count != 2 * (end - start):
        raise Changed
    page.had(len(reply), end - start)
    try:
        scored = bulks.swapped(reply, at, count)
    except ValueError:
        raise unexpected_bytes() from None
    del reply
    yield from pass_on(exchange, "ZADD", scored, 0, count, unit=2)


def _by_rank(
    exchange: Exchange,
    length_command: str,
    read_page: Callable[[Exchange, int, int, Page], Steps[None]],
    page: Page,
) -> Steps[None]:
    (reply,) = yield from exchange.ask((length_command, exchange.key))
    length, start = integer_of(reply), 0
    while start < length:
        end = min(start + page.elements, length)
        yield from read_page(exchange, start, end, page)
        start = end


def read_set(exchange: Exchange, source: Abilities) -> Steps[None]:
    """SSCAN, and SADD."""
    yield from _scan(exchange, "SSCAN", "SADD", 1)


def read_hash(exchange: Exchange, source: Abilities) -> Steps[None]:
    """HSCAN, and HSET; where the source may have field expiries, these too."""
    # A field whose time is over is counted by HLEN and not shown by HSCAN.
    exchange.fields_expire = source.field_expiry and (yield from _field_expiry_in_use(exchange))
    if exchange.fields_expire:
        yield from _read_expiring_hash(exchange)
    else:
        yield from _scan(exchange, "HSCAN", "HSET" if exchange.abilities.hset_many else "HMSET", 2)


def _scan(exchange: Exchange, scan: str, write: str, unit: int) -> Steps[None]:
    page, cursor = Page(), b"0"
    while True:
        cursor = yield from _scan_page(exchange, (scan, exchange.key, cursor), write, unit, page)
        if cursor == b"0":
            return


def _scan_page(
    exchange: Exchange, scan: tuple[Argument, ...], write: str, unit: int, page: Page
) -> Steps[bytes]:
    """The next cursor. On its own, so that no page is kept while the next is read."""
    reply = yield from exchange.ask_raw(*scan, "COUNT", page.elements)
    cursor, count, at = scan_of(reply)
    page.had(len(reply), count // unit)
    yield from pass_on(exchange, write, reply, at, count, unit=unit)
    return cursor


def _read_expiring_hash(exchange: Exchange) -> Steps[None]:
    """HSCAN, HPEXPIRETIME of its fields, HSET and HPEXPIREAT."""
    page, cursor = Page(), b"0"
    while True:
        (reply,) = yield from exchange.ask(("HSCAN", exchange.key, cursor, "COUNT", page.elements))
        match reply:
            case [bytes() as cursor, list() as found]:
                parts = all_bytes(found)
            case _:
                raise unexpected(reply)
        page.had(sum(map(len, parts)), len(parts) // 2)
        fields = dict(zip(parts[::2], parts[1::2], strict=True))
        expiries: dict[bytes, int] = {}
        if fields:
            (times,) = yield from exchange.ask(("HPEXPIRETIME", exchange.key, "FIELDS", len(fields), *fields))
            for field, expires_at_ms in zip(list(fields), items_of(times), strict=True):
                if expires_at_ms == -2:  # gone since HSCAN
                    del fields[field]
                elif expires_at_ms != -1:
                    expiries[field] = integer_of(expires_at_ms)
        if expiries and not exchange.abilities.field_expiry:
            exchange.note(("field_expiry",))
        yield from exchange.store(hash_commands(exchange.name, fields.items(), expiries, exchange.abilities))
        if cursor == b"0":
            return


def _field_expiry_in_use(exchange: Exchange) -> Steps[bool]:
    """Whether any hash on the source has a field that expires: INFO counts them (Redis, Valkey spelling).

    A source that does not tell may have some.
    """
    replies = yield Request(encode_command("INFO", "keyspace"), 1)
    return counts_expiring_fields(cast("list[Reply]", replies.source)[0])


def counts_expiring_fields(info: Reply) -> bool:
    """The same from the reply to INFO keyspace, of any server that has field expiry."""
    if not isinstance(info, bytes):
        return True
    counters = (part.partition(b"=") for line in info.split() for part in line.split(b","))
    return any(
        name in (b"subexpiry", b"keys_with_volatile_items") and count != b"0" for name, _, count in counters
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
