"""Data as a service would hold it: made from a seed, the same every time, and fast enough to wait for.

``fill`` is the demo's: every type, plausible and odd names, sizes from 16 bytes to 4 KiB; ``fill_strings``
and ``fill_mix`` are the benchmark's. Only the expiries depend on the clock: they count from now.

Values are slices of a stock of elements that is encoded once: what is left to do per key is to join bytes.
"""

from __future__ import annotations

import functools
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from keyferry.model.errors import KeyferryError
from keyferry.testing.cases import ODD_NAMES
from keyferry.testing.deployment import Client
from keyferry.wire.resp import ReplyError

Made = tuple[bytes, int]
"""Encoded commands and their number."""
Maker = Callable[[random.Random, bytes, int], Made]
"""Makes one value from a random source, the encoded name and a size in bytes."""
Progress = Callable[[int, int], None]

SIZE_BYTES_MIN, SIZE_BYTES_MAX = 16, 4096
EXPIRING_SHARE = 0.3
EXPIRY_MS_MIN, EXPIRY_MS_MAX = 3_600_000, 30 * 24 * 3_600_000
SHORT_LIVED_SHARE = 0.03
SHORT_LIVED_MS_MIN, SHORT_LIVED_MS_MAX = 500, 20_000
KEYS_PER_BATCH = 500
STOCK_ELEMENTS = 2_048
SMALL_BYTES, LARGE_BYTES = 32, 128
LARGE_FROM_BYTES = 1_024
"""Values from this size on are made of large elements, which drive them out of the compact encodings."""
EPOCH_MS = 1_700_000_000_000
"""The first stream entry's time."""


@dataclass(frozen=True, slots=True)
class Filled:
    """What was written: the number of keys, by type, and of those that expire."""

    keys: int
    by_type: dict[str, int]
    expiring: int


@dataclass(frozen=True, slots=True)
class _Kind:
    type: str
    name: bytes
    make: Maker


def fill(
    client: Client,
    keys: int = 200_000,
    seed: int = 1,
    *,
    short_lived: bool = False,
    on_progress: Progress | None = None,
) -> Filled:
    """Writes exactly ``keys`` new keys into the session's database.

    Args:
        keys: How many; from 1,000 on the odd names (empty, NUL, CR LF, 5,000 bytes, ...) are among them.
        short_lived: Some keys live for 0.5 to 20 seconds only, so that they expire under way.
        on_progress: Called with (done, total) after each batch.

    Raises:
        KeyferryError: The server refused a command.
    """
    kinds = [kind for kind, weight in _SERVICE for _ in range(weight)]
    odd_names = list(ODD_NAMES.values()) if keys >= 1_000 else []
    share = SHORT_LIVED_SHARE if short_lived else 0.0
    return _fill(client, _Plan(keys, seed, kinds, odd_names, share), on_progress)


def fill_mix(
    client: Client, keys: int = 300_000, seed: int = 1, *, on_progress: Progress | None = None
) -> Filled:
    """As ``fill``, with as many keys of each type (strings, lists, sets, sorted sets, hashes, streams)."""
    return _fill(client, _Plan(keys, seed, _MIX), on_progress)


def fill_strings(
    client: Client,
    keys: int = 1_000_000,
    value_bytes: int = 64,
    expiring: float = EXPIRING_SHARE,
    seed: int = 1,
    *,
    on_progress: Progress | None = None,
) -> Filled:
    """Writes ``keys`` strings of ``value_bytes`` that do not compress; a share of them expires."""
    rng = random.Random(seed)
    now_ms = _now_ms()
    total_expiring = 0
    for first in range(0, keys, KEYS_PER_BATCH):
        last = min(first + KEYS_PER_BATCH, keys)
        values = rng.randbytes(value_bytes * (last - first))
        commands: list[bytes] = []
        for i in range(first, last):
            at = (i - first) * value_bytes
            name = b"string:%d" % i
            pair = b"$%d\r\n%b\r\n$%d\r\n%b\r\n" % (
                len(name),
                name,
                value_bytes,
                values[at : at + value_bytes],
            )
            if rng.random() < expiring:
                commands.append(
                    b"*5\r\n$3\r\nSET\r\n%b$4\r\nPXAT\r\n$13\r\n%13d\r\n" % (pair, now_ms + _far_ms(rng))
                )
                total_expiring += 1
            else:
                commands.append(b"*3\r\n$3\r\nSET\r\n%b" % pair)
        _send(client, b"".join(commands), len(commands))
        if on_progress:
            on_progress(last, keys)
    return Filled(keys, {"string": keys}, total_expiring)


@dataclass(frozen=True, slots=True)
class _Plan:
    keys: int
    seed: int
    kinds: Sequence[_Kind]
    odd_names: Sequence[bytes] = ()
    short_lived_share: float = 0.0


def _fill(client: Client, plan: _Plan, on_progress: Progress | None) -> Filled:
    rng = random.Random(plan.seed)
    now_ms = _now_ms()
    by_type: Counter[str] = Counter()
    expiring = 0
    for first in range(0, plan.keys, KEYS_PER_BATCH):
        last = min(first + KEYS_PER_BATCH, plan.keys)
        commands: list[bytes] = []
        count = 0
        for i in range(first, last):
            kind = plan.kinds[int(rng.random() * len(plan.kinds))]
            name = _bulk(plan.odd_names[i] if i < len(plan.odd_names) else kind.name % i)
            data, made = kind.make(rng, name, _size(rng))
            commands.append(data)
            count += made
            by_type[kind.type] += 1
            draw = rng.random()
            if draw < EXPIRING_SHARE:
                life_ms = _soon_ms(rng) if draw < plan.short_lived_share else _far_ms(rng)
                commands.append(b"*3\r\n$9\r\nPEXPIREAT\r\n%b$13\r\n%13d\r\n" % (name, now_ms + life_ms))
                count += 1
                expiring += 1
        _send(client, b"".join(commands), count)
        if on_progress:
            on_progress(last, plan.keys)
    return Filled(plan.keys, dict(by_type), expiring)


def _send(client: Client, commands: bytes, count: int) -> None:
    for reply in client.exchange(commands, count):
        if isinstance(reply, ReplyError):
            raise KeyferryError(f"The server refused a command while it was filled: {reply.message}")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _far_ms(rng: random.Random) -> int:
    return EXPIRY_MS_MIN + int(rng.random() * (EXPIRY_MS_MAX - EXPIRY_MS_MIN))


def _soon_ms(rng: random.Random) -> int:
    return SHORT_LIVED_MS_MIN + int(rng.random() * (SHORT_LIVED_MS_MAX - SHORT_LIVED_MS_MIN))


def _size(rng: random.Random) -> int:
    """Bytes of a value; as many between 16 and 32 as between 2 and 4 KiB."""
    return int(SIZE_BYTES_MIN * (SIZE_BYTES_MAX / SIZE_BYTES_MIN) ** rng.random())


def _bulk(data: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(data), data)


def _command(word: bytes, arguments: int, encoded: bytes) -> bytes:
    return b"*%d\r\n$%d\r\n%b\r\n%b" % (arguments + 1, len(word), word, encoded)


@dataclass(frozen=True, slots=True)
class _Stock:
    """Encoded elements of one size; any slice of a list is a value without repetition."""

    elements: list[bytes]
    fields: list[bytes]
    scored: list[bytes]
    places: list[bytes]
    entries: list[bytes]


@functools.cache
def _text() -> bytes:
    """A log of a web server, which compresses as text does."""
    rng = random.Random(0)
    words = [
        b"GET",
        b"POST",
        b"/cart",
        b"/orders/",
        b"200",
        b"404",
        b"user=",
        b'"price": ',
        b"true",
        b"null",
        b"EUR",
    ]
    return b" ".join(rng.choice(words) + b"%d" % rng.randrange(100_000) for _ in range(16_000))


@functools.cache
def _stock(element_bytes: int) -> _Stock:
    rng = random.Random(element_bytes)
    stock = _Stock([], [], [], [], [])
    for i in range(STOCK_ELEMENTS):
        start = rng.randrange(len(_text()) - element_bytes)
        element = (b"%d " % i + _text()[start : start + element_bytes])[:element_bytes]
        # Scores as they come: whole numbers, sums of money, values of 17 digits, and the odd infinity.
        score = (
            b"%d" % i,
            b"%d.25" % i,
            repr(rng.random() / 3).encode(),
            b"inf" if i % 512 == 3 else b"-1e-7",
        )[i % 4]
        place = _bulk(repr(rng.uniform(-180, 180)).encode()) + _bulk(repr(rng.uniform(-85, 85)).encode())
        identity = b"%d-%d" % (EPOCH_MS + i * 977, i % 3)
        stock.elements.append(_bulk(element))
        stock.fields.append(_bulk(b"line:%d" % i) + _bulk(element))
        stock.scored.append(_bulk(score) + _bulk(element))
        stock.places.append(place + _bulk(element))
        stock.entries.append(b"".join(map(_bulk, (identity, b"kind", b"measure", b"payload", element))))
    return stock


@functools.cache
def _numbers() -> list[bytes]:
    return [_bulk(b"%d" % (i * 37)) for i in range(65_536)]


def _slice(rng: random.Random, size: int) -> tuple[_Stock, int, int]:
    """Elements ``first`` to ``last`` of a stock, together of about ``size`` bytes."""
    element_bytes = SMALL_BYTES if size < LARGE_FROM_BYTES else LARGE_BYTES
    count = max(1, size // element_bytes)
    first = int(rng.random() * (STOCK_ELEMENTS - count))
    return _stock(element_bytes), first, first + count


def _make_text(rng: random.Random, name: bytes, size: int) -> Made:
    start = int(rng.random() * (len(_text()) - size))
    return _command(b"SET", 2, name + _bulk(_text()[start : start + size])), 1


def _make_token(rng: random.Random, name: bytes, size: int) -> Made:
    return _command(b"SET", 2, name + _bulk(rng.randbytes(size))), 1


def _make_counter(rng: random.Random, name: bytes, size: int) -> Made:
    return _command(b"SET", 2, name + _bulk(b"%d" % (rng.random() * 10 ** (size % 18)))), 1


def _make_bitmap(rng: random.Random, name: bytes, size: int) -> Made:
    bits = [_bulk(b"%d" % (rng.random() * size * 8)) for _ in range(3)]
    return b"".join(_command(b"SETBIT", 3, name + bit + b"$1\r\n1\r\n") for bit in bits), 3


def _make_uniques(rng: random.Random, name: bytes, size: int) -> Made:
    return _command(b"PFADD", 1 + size // 16, name + b"".join(_numbers()[size : size + size // 16])), 1


def _make_hash(rng: random.Random, name: bytes, size: int) -> Made:
    stock, first, last = _slice(rng, size)
    order = b"$6\r\nstatus\r\n$4\r\npaid\r\n$4\r\nnote\r\n$0\r\n\r\n"
    return _command(b"HSET", 5 + 2 * (last - first), name + order + b"".join(stock.fields[first:last])), 1


def _make_list(rng: random.Random, name: bytes, size: int) -> Made:
    stock, first, last = _slice(rng, size)
    return _command(b"RPUSH", 1 + last - first, name + b"".join(stock.elements[first:last])), 1


def _make_set(rng: random.Random, name: bytes, size: int) -> Made:
    stock, first, last = _slice(rng, size)
    return _command(b"SADD", 1 + last - first, name + b"".join(stock.elements[first:last])), 1


def _make_number_set(rng: random.Random, name: bytes, size: int) -> Made:
    count, first = max(1, size // 16), int(rng.random() * 60_000)
    return _command(b"SADD", 1 + count, name + b"".join(_numbers()[first : first + count])), 1


def _make_ranking(rng: random.Random, name: bytes, size: int) -> Made:
    stock, first, last = _slice(rng, size)
    return _command(b"ZADD", 1 + 2 * (last - first), name + b"".join(stock.scored[first:last])), 1


def _make_places(rng: random.Random, name: bytes, size: int) -> Made:
    stock, first, last = _slice(rng, size)
    return _command(b"GEOADD", 1 + 3 * (last - first), name + b"".join(stock.places[first:last])), 1


def _make_stream(rng: random.Random, name: bytes, size: int) -> Made:
    """Entries; of every fourth stream a group with pending ones, and of some a deleted entry."""
    stock, first, last = _slice(rng, max(size, LARGE_FROM_BYTES))
    commands = [b"*7\r\n$4\r\nXADD\r\n%b%b" % (name, entry) for entry in stock.entries[first:last]]
    oldest = b"%d-%d" % (EPOCH_MS + first * 977, first % 3)
    if size % 4 == 0:
        commands.append(_command(b"XGROUP", 4, b"$6\r\nCREATE\r\n" + name + b"$7\r\nworkers\r\n$1\r\n0\r\n"))
        commands.append(_command(b"XREADGROUP", 8, _READ + name + b"$1\r\n>\r\n"))
    if size % 8 == 0:
        commands.append(_command(b"XACK", 3, name + b"$7\r\nworkers\r\n" + _bulk(oldest)))
    if size % 5 == 0:
        commands.append(_command(b"XDEL", 2, name + _bulk(oldest)))
    return b"".join(commands), len(commands)


_READ = b"".join(map(_bulk, (b"GROUP", b"workers", b"worker-1", b"COUNT", b"3", b"STREAMS")))

_SERVICE: Sequence[tuple[_Kind, int]] = (
    (_Kind("string", b"session:%d", _make_token), 20),
    (_Kind("string", b"cache:page:%d", _make_text), 18),
    (_Kind("string", b"counter:visits:%d", _make_counter), 10),
    (_Kind("hash", b"orders:%d", _make_hash), 18),
    (_Kind("list", b"cart:%d", _make_list), 10),
    (_Kind("set", b"tags:article:%d", _make_set), 6),
    (_Kind("set", b"viewers:{%d}:ids", _make_number_set), 3),
    (_Kind("zset", b"leaderboard:%d", _make_ranking), 7),
    (_Kind("stream", b"events:device:%d", _make_stream), 4),
    (_Kind("zset", b"stores:city:%d", _make_places), 2),
    (_Kind("string", b"active:day:%d", _make_bitmap), 1),
    (_Kind("string", b"uniques:day:%d", _make_uniques), 1),
)
"""Kinds of keys and how many of a hundred are of each."""

_MIX: Sequence[_Kind] = (
    _Kind("string", b"mix:string:%d", _make_token),
    _Kind("list", b"mix:list:%d", _make_list),
    _Kind("set", b"mix:set:%d", _make_set),
    _Kind("zset", b"mix:zset:%d", _make_ranking),
    _Kind("hash", b"mix:hash:%d", _make_hash),
    _Kind("stream", b"mix:stream:%d", _make_stream),
)
