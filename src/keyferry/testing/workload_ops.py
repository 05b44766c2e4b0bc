"""The commands of a workload: a table of operations with weights, each made from a ``Draw``. Decides only.

An operation is one command, or a few that belong together; in a cluster its keys share a slot. ``needs`` names
commands that the server must have, where the first word of the operation's own name does not say it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from keyferry.testing.workload_names import Draw
from keyferry.wire.resp import Argument

Command = tuple[Argument, ...]
Make = Callable[[Draw], Sequence[Command]]


@dataclass(frozen=True, slots=True)
class Op:
    """One row of the table.

    Attributes:
        weight: How often it is drawn, against the others' weights.
        make: Its commands, the key that says where they go at ``key_at`` in the first.
        databases: It needs several databases.
    """

    weight: float
    name: str
    make: Make
    needs: tuple[str, ...] = ()
    databases: bool = False
    field_expiry: bool = False

    @property
    def required(self) -> tuple[str, ...]:
        return (self.name.split(" ")[0], *self.needs)


SINCE_7 = ("EXPIRETIME",)
"""A command of the same age as an option has: Redis 7.0."""


def _between(d: Draw, kind: str, other: str, *words: str) -> list[Argument]:
    first, second = d.keys(kind, other)
    return [first, *words, second]


def _two(d: Draw) -> list[bytes]:
    """Mostly of one type, now and then of two."""
    if d.chance(0.3):
        return d.any_keys(2)
    kind = d.any_kind()
    return d.keys(kind, kind)


def _bitop(d: Draw) -> Command:
    result, first, second = d.keys("bits", "bits", "bits")
    return ("BITOP", d.one_of("AND", "OR", "XOR"), result, first, second)


def _linsert(d: Draw) -> Command:
    return ("LINSERT", d.key("list"), d.one_of("BEFORE", "AFTER"), d.member(), d.value())


def _zstore(d: Draw, command: str) -> Command:
    result, first, second = d.keys("zset", "zset", "places")
    return (command, result, 2, first, second, "AGGREGATE", d.one_of("SUM", "MIN", "MAX"))


def _place(d: Draw) -> tuple[str, str]:
    return repr(d.rng.uniform(-180, 180)), repr(d.rng.uniform(-85, 85))


def _geosearch(d: Draw) -> Command:
    result, places = d.keys("places", "places")
    return ("GEOSEARCHSTORE", result, places, "FROMLONLAT", *_place(d), "BYRADIUS", 5_000, "km")


def _renewed(d: Draw) -> list[Command]:
    """An expiry that is about to fire, and is put off; apart from the commands between them."""
    key = d.key("string")
    return [("PEXPIRE", key, d.rng.randrange(2, 60)), ("PEXPIRE", key, d.rng.randrange(500, 10**8))]


def _retyped(d: Draw, command: str) -> list[Command]:
    key = d.any_key()
    rest: list[Argument] = ["*", "field", d.value()] if command == "XADD" else d.members()
    return [("DEL", key), (command, key, *rest)]


def _transaction(d: Draw) -> list[Command]:
    string, number, items, members = d.keys("string", "number", "list", "set")
    body: list[Command] = [
        ("SET", string, d.value()),
        ("INCR", number),
        ("LPUSH", items, d.value()),
        ("SADD", members, *d.members()),
        ("PEXPIRE", string, d.soon_ms()),
        ("DEL", members),
        ("RENAME", string, items),
        ("PERSIST", string),
    ]
    return [("MULTI",), *d.rng.sample(body, d.rng.randint(1, 5)), ("EXEC",)]


def _discarded(d: Draw) -> list[Command]:
    return [("MULTI",), ("SET", d.key("string"), "never written"), ("DISCARD",)]


STRINGS = (
    Op(10, "SET", lambda d: [("SET", d.key("string"), d.value())]),
    Op(2, "SET PX", lambda d: [("SET", d.key("string"), d.value(), "PX", d.soon_ms())]),
    Op(1, "SET EX", lambda d: [("SET", d.key("string"), d.value(), "EX", d.rng.randint(1, 3))]),
    Op(1, "SET KEEPTTL", lambda d: [("SET", d.key("string"), d.value(), "KEEPTTL")]),
    Op(1, "SET NX", lambda d: [("SET", d.key("string"), d.value(), "NX", "PX", d.soon_ms())]),
    Op(1, "SETEX", lambda d: [("PSETEX", d.key("string"), d.soon_ms(), d.value())]),
    Op(1, "GETEX", lambda d: [("GETEX", d.key("string"), "PX", d.soon_ms())]),
    Op(0.5, "GETEX PERSIST", lambda d: [("GETEX", d.key("string"), "PERSIST")]),
    Op(0.5, "GETDEL", lambda d: [("GETDEL", d.key("string"))]),
    Op(0.5, "GETSET", lambda d: [("GETSET", d.key("string"), d.value())]),
    Op(2, "APPEND", lambda d: [("APPEND", d.key("string"), d.value())]),
    Op(1, "SETRANGE", lambda d: [("SETRANGE", d.key("string"), d.rng.randrange(300), d.value())]),
    Op(1, "MSET", lambda d: [("MSET", *[part for key in d.keys("string", "string") for part in (key, d.value())])]),
    Op(6, "INCR", lambda d: [("INCR", d.key("number"))]),
    Op(2, "INCRBY", lambda d: [("INCRBY", d.key("number"), d.amount())]),
    Op(1, "DECRBY", lambda d: [("DECRBY", d.key("number"), d.amount())]),
    Op(2, "INCRBYFLOAT", lambda d: [("INCRBYFLOAT", d.key("float"), d.rng.choice(("0.1", "-2.5", "1e3")))]),
    Op(2, "SETBIT", lambda d: [("SETBIT", d.key("bits"), d.rng.randrange(4_000), d.rng.randrange(2))]),
    Op(1, "BITFIELD", lambda d: [("BITFIELD", d.key("bits"), "INCRBY", "u8", d.rng.randrange(2_000), 3)]),
    Op(1, "BITOP", lambda d: [_bitop(d)]),
    Op(2, "PFADD", lambda d: [("PFADD", d.key("uniques"), *[d.rng.randrange(10**6) for _ in range(5)])]),
    Op(0.5, "PFMERGE", lambda d: [("PFMERGE", *d.keys("uniques", "uniques"))]),
    Op(0.5, "PFCOUNT", lambda d: [("PFCOUNT", d.key("uniques"))]),
)  # fmt: skip

LISTS = (
    Op(4, "RPUSH", lambda d: [("RPUSH", d.key("list"), *[d.value() for _ in range(d.rng.randint(1, 4))])]),
    Op(3, "LPUSH", lambda d: [("LPUSH", d.key("list"), d.value())]),
    Op(1, "RPUSHX", lambda d: [("RPUSHX", d.key("list"), d.value())]),
    Op(3, "LPOP", lambda d: [("LPOP", d.key("list"))]),
    Op(2, "RPOP", lambda d: [("RPOP", d.key("list"), d.rng.randint(1, 4))]),
    Op(1, "LSET", lambda d: [("LSET", d.key("list"), d.rng.randrange(-3, 3), d.value())]),
    Op(1, "LINSERT", lambda d: [_linsert(d)]),
    Op(0.5, "LREM", lambda d: [("LREM", d.key("list"), d.rng.randrange(-2, 3), d.member())]),
    Op(1, "LTRIM", lambda d: [("LTRIM", d.key("list"), 0, d.rng.randrange(60))]),
    Op(1, "LMOVE", lambda d: [("LMOVE", *d.keys("list", "list"), d.one_of("LEFT", "RIGHT"), "LEFT")]),
    Op(1, "RPOPLPUSH", lambda d: [("RPOPLPUSH", *d.keys("list", "list"))]),
    Op(5, "RPUSH queue", lambda d: [("RPUSH", d.key("queue"), d.value())]),
    Op(0.5, "LTRIM queue", lambda d: [("LTRIM", d.key("queue"), 0, d.rng.randrange(100))]),
)

SETS = (
    Op(5, "SADD", lambda d: [("SADD", d.key("set"), *d.members())]),
    Op(0.5, "SADD integers", lambda d: [("SADD", d.key("set"), *[d.amount() for _ in range(8)])]),
    Op(3, "SREM", lambda d: [("SREM", d.key("set"), *d.members())]),
    Op(2, "SPOP", lambda d: [("SPOP", d.key("set"))]),
    Op(1, "SPOP count", lambda d: [("SPOP", d.key("set"), d.rng.randint(1, 5))]),
    Op(1, "SMOVE", lambda d: [("SMOVE", *d.keys("set", "set"), d.member())]),
    Op(0.5, "SUNIONSTORE", lambda d: [("SUNIONSTORE", *d.keys("set", "set", "set"))]),
    Op(0.5, "SINTERSTORE", lambda d: [("SINTERSTORE", *d.keys("set", "set", "set"))]),
    Op(0.5, "SDIFFSTORE", lambda d: [("SDIFFSTORE", *d.keys("set", "set", "set"))]),
    Op(1, "SORT STORE", lambda d: [("SORT", *_between(d, "set", "list", "ALPHA", "STORE"))]),
)

SORTED_SETS = (
    Op(5, "ZADD", lambda d: [("ZADD", d.key("zset"), *d.scored())]),
    Op(1, "ZADD GT", lambda d: [("ZADD", d.key("zset"), d.one_of("GT", "LT", "NX", "XX"), *d.scored())]),
    Op(3, "ZINCRBY", lambda d: [("ZINCRBY", d.key("zset"), d.rng.uniform(-3, 3).__repr__(), d.member())]),
    Op(2, "ZREM", lambda d: [("ZREM", d.key("zset"), *d.members())]),
    Op(1, "ZPOPMIN", lambda d: [("ZPOPMIN", d.key("zset"), d.rng.randint(1, 3))]),
    Op(1, "ZPOPMAX", lambda d: [("ZPOPMAX", d.key("zset"))]),
    Op(0.5, "ZREMRANGEBYSCORE", lambda d: [("ZREMRANGEBYSCORE", d.key("zset"), 0, d.rng.randrange(9))]),
    Op(0.5, "ZREMRANGEBYRANK", lambda d: [("ZREMRANGEBYRANK", d.key("zset"), 20, -1)]),
    Op(0.5, "ZUNIONSTORE", lambda d: [_zstore(d, "ZUNIONSTORE")]),
    Op(0.5, "ZINTERSTORE", lambda d: [_zstore(d, "ZINTERSTORE")]),
    Op(0.3, "ZRANGESTORE", lambda d: [("ZRANGESTORE", *d.keys("zset", "zset"), 0, 10)]),
    Op(1, "GEOADD", lambda d: [("GEOADD", d.key("places"), *_place(d), d.member())]),
    Op(0.3, "GEOSEARCHSTORE", lambda d: [_geosearch(d)]),
)

HASHES = (
    Op(5, "HSET", lambda d: [("HSET", d.key("hash"), *d.pairs())]),
    Op(3, "HINCRBY", lambda d: [("HINCRBY", d.key("hash"), "count", d.amount())]),
    Op(1, "HINCRBYFLOAT", lambda d: [("HINCRBYFLOAT", d.key("hash"), "sum", "0.25")]),
    Op(2, "HDEL", lambda d: [("HDEL", d.key("hash"), *d.members())]),
    Op(0.5, "HSETNX", lambda d: [("HSETNX", d.key("hash"), d.member(), d.value())]),
    Op(2, "HSET big", lambda d: [("HSET", d.big("hash"), b"field %d" % d.rng.randrange(30_000), d.value())]),
    Op(0.5, "HDEL big", lambda d: [("HDEL", d.big("hash"), b"field %d" % d.rng.randrange(30_000))]),
    Op(0.5, "SADD big", lambda d: [("SADD", d.big("set"), b"member %d" % d.rng.randrange(40_000))]),
    Op(0.5, "SREM big", lambda d: [("SREM", d.big("set"), b"member %d" % d.rng.randrange(20_000))]),
    Op(
        0.5,
        "ZADD big",
        lambda d: [("ZADD", d.big("zset"), d.score(), b"member %d" % d.rng.randrange(20_000))],
    ),
    Op(0.5, "RPUSH big", lambda d: [("RPUSH", d.big("list"), d.value())]),
    Op(0.3, "LPOP big", lambda d: [("LPOP", d.big("list"))]),
    Op(0.3, "APPEND big", lambda d: [("SETRANGE", d.big("string"), d.rng.randrange(1_500_000), d.value())]),
)

FIELD_EXPIRY = (
    Op(2, "HSET fields", lambda d: [("HSET", d.key("fields"), *d.pairs())]),
    Op(2, "HPEXPIRE", lambda d: [("HPEXPIRE", d.key("fields"), d.soon_ms(), "FIELDS", 2, d.member(), d.member())], field_expiry=True),
    Op(1, "HPEXPIREAT", lambda d: [("HPEXPIREAT", d.key("fields"), d.now_ms + d.soon_ms(), "FIELDS", 1, d.member())], field_expiry=True),
    Op(1, "HPERSIST", lambda d: [("HPERSIST", d.key("fields"), "FIELDS", 2, d.member(), d.member())], field_expiry=True),
    Op(0.5, "HGETEX", lambda d: [("HGETEX", d.key("fields"), "PX", d.soon_ms(), "FIELDS", 1, d.member())], field_expiry=True),
    Op(0.5, "HSETEX", lambda d: [("HSETEX", d.key("fields"), "PX", d.soon_ms(), "FIELDS", 1, d.member(), d.value())], field_expiry=True),
)  # fmt: skip

EXPIRY = (
    Op(3, "PEXPIRE", lambda d: [("PEXPIRE", d.any_key(), d.soon_ms())]),
    Op(1, "EXPIRE", lambda d: [("EXPIRE", d.any_key(), d.rng.randint(1, 4))]),
    Op(1, "PEXPIREAT", lambda d: [("PEXPIREAT", d.any_key(), d.now_ms + d.soon_ms())]),
    Op(0.3, "EXPIREAT past", lambda d: [("EXPIREAT", d.any_key(), d.now_ms // 1_000 - 5)]),
    Op(2, "PERSIST", lambda d: [("PERSIST", d.any_key())]),
    Op(0.5, "PEXPIRE GT", lambda d: [("PEXPIRE", d.any_key(), d.soon_ms(), d.one_of("NX", "XX", "GT", "LT"))], needs=SINCE_7),
    Op(2, "PEXPIRE renewed", _renewed),
)  # fmt: skip

WHOLE_KEYS = (
    Op(2, "DEL", lambda d: [("DEL", d.any_key())]),
    Op(1, "UNLINK", lambda d: [("UNLINK", *d.any_keys(2))]),
    Op(1, "RENAME", lambda d: [("RENAME", *_two(d))]),
    Op(0.5, "RENAMENX", lambda d: [("RENAMENX", *_two(d))]),
    Op(1, "COPY", lambda d: [("COPY", *_two(d), "REPLACE")]),
    Op(0.5, "COPY DB", lambda d: [("COPY", *_two(d), "DB", d.other_db, "REPLACE")], databases=True),
    Op(1, "MOVE", lambda d: [("MOVE", d.any_key(), d.other_db)], databases=True),
    Op(2, "SET over", lambda d: [("SET", d.any_key(), d.value())]),
    Op(1, "DEL RPUSH", lambda d: _retyped(d, "RPUSH")),
    Op(1, "DEL SADD", lambda d: _retyped(d, "SADD")),
    Op(1, "DEL XADD", lambda d: _retyped(d, "XADD")),
    Op(0.5, "TOUCH", lambda d: [("TOUCH", d.any_key())]),
)

_SCRIPT = """
local now = redis.call('TIME')
redis.call('SET', KEYS[1], now[1] .. '.' .. now[2] .. ' ' .. ARGV[1])
redis.call('PEXPIRE', KEYS[1], 200 + tonumber(now[2]) % 3000)
for i = 1, tonumber(now[2]) % 4 do redis.call('RPUSH', KEYS[2], now[2] .. ' ' .. i) end
if tonumber(now[2]) % 5 == 0 then redis.call('DEL', KEYS[3]) else redis.call('SADD', KEYS[3], now[2] % 60) end
return redis.call('SRANDMEMBER', KEYS[3])
"""
_SCRIPT_POPS = """
local member = redis.call('SPOP', KEYS[1])
if member then redis.call('ZADD', KEYS[2], math.random(), member) end
return redis.call('INCRBY', KEYS[3], math.random(9))
"""

TOGETHER = (
    Op(1, "EVAL", lambda d: [("EVAL", _SCRIPT, 3, *d.keys("string", "list", "set"), d.value())]),
    Op(1, "EVAL pops", lambda d: [("EVAL", _SCRIPT_POPS, 3, *d.keys("set", "zset", "number"))]),
    Op(0.5, "EVAL undeclared", lambda d: [("EVAL", "return redis.call('INCR', ARGV[1])", 0, d.key("number"))], databases=True),
    Op(2, "MULTI", _transaction),
    Op(0.3, "MULTI DISCARD", _discarded),
)  # fmt: skip
