"""Random commands of every kind, on a few keys that often have the wrong type.

Times to live are long or past, never short: no key expires by itself while two servers are compared.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from hypothesis import strategies as st

Command = tuple[Any, ...]

SCRIPTS = (
    "return redis.call('incr', KEYS[1])",
    "redis.call('rpush', KEYS[1], ARGV[1]) return redis.call('llen', KEYS[1])",
    "redis.call('set', KEYS[1], 'half') return redis.call('nosuch')",
    "return redis.call('get', KEYS[1])",
)
KEYLESS_SCRIPT = "return redis.call('set', 's:1', 'by a script without keys')"
ABSENT_SHA = "f" * 40
GROUP = "g"

_VALUES = ("", "a", "b", "c", "10", "-3", "3.5", "QUEUED", "long " * 20)
_BINARY = (b"\xff\xfe", b"\x00\r\n$3", b"a\x00b")


def _keys(kind: str) -> st.SearchStrategy[str]:
    return st.sampled_from([f"{kind}:1"] * 4 + [f"{kind}:2"] * 4 + [f"{kind}:3", "mixed:1", "mixed:2"])


S, LI, SE, Z, H, X, B, P, G = (_keys(kind) for kind in ("s", "l", "t", "z", "h", "x", "b", "p", "g"))
ANY = st.one_of(S, LI, SE, Z, H, X, B, P, G)
COUNT = st.integers(0, 3)
INDEX = st.integers(-3, 3)
NUMBER = st.integers(-5, 20)
SCORE = st.sampled_from([0, 1, 2, 3, -1, 2.5, "+inf", "1e3"])
ITEM = st.sampled_from(["a", "b", "c", "d", "10", "3"])
FIELD = st.sampled_from(["f1", "f2", "f3"])
ID = st.sampled_from(["1-1", "1-2", "2-0", "3-5", "9-9"])
FAR_S = st.sampled_from([1_000, 5_000, 90_000])
PLACE = st.sampled_from([("13.361389", "38.115556"), ("15.087269", "37.502669"), ("2.35", "48.85")])


def _c(*parts: Any) -> st.SearchStrategy[Command]:
    """A command of constants and strategies; a tuple that a strategy gives is spread."""
    asked = [part if isinstance(part, st.SearchStrategy) else st.just(part) for part in parts]
    return st.tuples(*asked).map(_spread)


def _spread(parts: Command) -> Command:
    spread: list[Any] = []
    for part in parts:
        spread.extend(part) if isinstance(part, tuple) else spread.append(part)
    return tuple(spread)


def _maybe(*options: Any) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.sampled_from([(), *(one if isinstance(one, tuple) else (one,) for one in options)])


def _some(of: st.SearchStrategy[Any], most: int = 3) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(of, min_size=1, max_size=most).map(lambda parts: _spread(tuple(parts)))


def _strings(value: st.SearchStrategy[Any]) -> list[st.SearchStrategy[Command]]:
    expiry = st.one_of(
        st.just(()),
        st.tuples(st.sampled_from(["EX", "ex"]), FAR_S),
        st.tuples(st.just("PX"), FAR_S.map(lambda seconds: seconds * 1000)),
        st.just(("KEEPTTL",)),
        st.just(("PXAT", 1)),
        st.just(("EXAT", 99_999_999_999)),
    )
    return [
        _c("SET", S, value, expiry, _maybe("NX", "XX", "GET", ("XX", "GET"), ("NX", "GET"))),
        _c("SETEX", S, FAR_S, value),
        _c("PSETEX", S, FAR_S.map(lambda seconds: seconds * 1000), value),
        _c("SETNX", S, value),
        _c("GETSET", S, value),
        _c("GETDEL", S),
        _c(
            "GETEX",
            S,
            st.sampled_from([(), ("PERSIST",), ("EX", 700), ("PX", 80_000), ("EXAT", 1), ("PXAT", 5)]),
        ),
        _c("GET", S),
        _c("MGET", _some(S)),
        _c("MSET", _some(st.tuples(S, value))),
        _c("MSETNX", _some(st.tuples(S, value))),
        _c("APPEND", S, value),
        _c("STRLEN", S),
        _c("SETRANGE", S, COUNT, value),
        _c("GETRANGE", S, INDEX, INDEX),
        _c("SUBSTR", S, INDEX, INDEX),
        _c("INCR", S),
        _c("DECR", S),
        _c("INCRBY", S, NUMBER),
        _c("DECRBY", S, NUMBER),
        _c("INCRBYFLOAT", S, st.sampled_from(["0.1", "2.5e1", "-3", "nan", "x"])),
        _c("LCS", S, S),
        _c("SETBIT", B, st.integers(0, 40), st.sampled_from([0, 1])),
        _c("GETBIT", B, st.integers(0, 40)),
        _c("BITCOUNT", B),
        _c("BITPOS", B, 1),
        _c("BITOP", st.sampled_from(["AND", "OR", "XOR"]), B, _some(B)),
        _c("BITOP", "NOT", B, B),
        _c("BITFIELD", B, "SET", "u8", 0, NUMBER, "INCRBY", "i5", 100, 1),
        _c("BITFIELD", B, "GET", "u8", 0),
        _c("BITFIELD", B, "OVERFLOW", "FAIL", "INCRBY", "u2", 100, 3),
        _c("PFADD", P, _some(ITEM)),
        # It keeps what it has counted inside of the value, on the server that was asked: only with two keys it does not.
        _c("PFCOUNT", "p:1", "p:2"),
        _c("PFMERGE", P, _some(P)),
    ]


def _lists(value: st.SearchStrategy[Any]) -> list[st.SearchStrategy[Command]]:
    end = st.sampled_from(["LEFT", "RIGHT"])
    return [
        _c(st.sampled_from(["LPUSH", "RPUSH"]), LI, _some(value)),
        _c(st.sampled_from(["LPUSH", "RPUSH"]), LI, _some(ITEM)),
        _c(st.sampled_from(["LPUSHX", "RPUSHX"]), LI, _some(ITEM)),
        _c(st.sampled_from(["LPOP", "RPOP"]), LI, _maybe(0, 1, 2)),
        _c("LRANGE", LI, INDEX, INDEX),
        _c("LLEN", LI),
        _c("LINDEX", LI, INDEX),
        _c("LSET", LI, INDEX, value),
        _c("LREM", LI, INDEX, ITEM),
        _c("LTRIM", LI, INDEX, INDEX),
        _c("LINSERT", LI, st.sampled_from(["BEFORE", "AFTER"]), ITEM, value),
        _c("LPOS", LI, ITEM),
        _c("LMOVE", LI, LI, end, end),
        _c("RPOPLPUSH", LI, LI),
        _c("LMPOP", 2, LI, LI, end, _maybe(("COUNT", 2))),
        _c(st.sampled_from(["BLPOP", "BRPOP"]), LI, LI, 0.01),
        _c("BLMOVE", LI, LI, end, end, 0.01),
        _c("BRPOPLPUSH", LI, LI, 0.01),
        _c("BLMPOP", 0.01, 2, LI, LI, end, _maybe(("COUNT", 2))),
        _c("SORT", LI, "ALPHA", _maybe("DESC", ("LIMIT", 0, 2)), _maybe(("STORE", "l:3"))),
        _c("SORT", SE, _maybe(("BY", "nosort")), _maybe("ALPHA"), "STORE", LI),
    ]


def _sets() -> list[st.SearchStrategy[Command]]:
    return [
        _c("SADD", SE, _some(ITEM)),
        _c("SADD", SE, _some(ITEM)),
        _c("SREM", SE, _some(ITEM)),
        _c("SPOP", SE, _maybe(0, 1, 2, 50)),
        _c("SMEMBERS", SE),
        _c("SISMEMBER", SE, ITEM),
        _c("SMISMEMBER", SE, _some(ITEM)),
        _c("SCARD", SE),
        _c("SRANDMEMBER", SE),
        _c("SMOVE", SE, SE, ITEM),
        _c(st.sampled_from(["SINTER", "SUNION", "SDIFF"]), _some(SE)),
        _c(st.sampled_from(["SINTERSTORE", "SUNIONSTORE", "SDIFFSTORE"]), SE, _some(SE)),
        _c("SINTERCARD", 2, SE, SE),
    ]


def _sorted_sets() -> list[st.SearchStrategy[Command]]:
    side = st.sampled_from(["MIN", "MAX"])
    return [
        _c("ZADD", Z, _some(st.tuples(SCORE, ITEM))),
        _c(
            "ZADD",
            Z,
            _maybe("NX", "XX", "GT", "LT", ("XX", "GT"), ("NX", "GT")),
            _maybe("CH"),
            _some(st.tuples(SCORE, ITEM)),
        ),
        _c("ZADD", Z, _maybe("NX", "XX", "GT", "LT"), "INCR", SCORE, ITEM),
        _c("ZINCRBY", Z, st.sampled_from([1, -2, "0.1", "inf", "-inf"]), ITEM),
        _c("ZREM", Z, _some(ITEM)),
        _c("ZSCORE", Z, ITEM),
        _c("ZMSCORE", Z, _some(ITEM)),
        _c("ZCARD", Z),
        _c("ZRANK", Z, ITEM),
        _c("ZRANGE", Z, INDEX, INDEX),
        _c("ZRANGEBYSCORE", Z, "-inf", "(3"),
        _c("ZRANGESTORE", Z, Z, 0, INDEX),
        _c("ZPOPMIN", Z, _maybe(0, 1, 2)),
        _c("ZPOPMAX", Z, _maybe(1, 2)),
        _c("ZMPOP", 2, Z, Z, side, _maybe(("COUNT", 2))),
        _c(st.sampled_from(["BZPOPMIN", "BZPOPMAX"]), Z, Z, 0.01),
        _c("BZMPOP", 0.01, 2, Z, Z, side, _maybe(("COUNT", 2))),
        _c("ZREMRANGEBYRANK", Z, INDEX, INDEX),
        _c("ZREMRANGEBYSCORE", Z, 1, 2),
        _c("ZREMRANGEBYLEX", Z, "[a", "[b"),
        _c(
            st.sampled_from(["ZUNIONSTORE", "ZINTERSTORE"]),
            Z,
            2,
            Z,
            st.one_of(Z, SE),
            _maybe(("AGGREGATE", "MAX"), ("WEIGHTS", 2, 0.5)),
        ),
        _c("ZDIFFSTORE", Z, 2, Z, Z),
        _c("ZUNION", 2, Z, Z, "WITHSCORES"),
        _c("GEOADD", G, _maybe("NX", "XX", "CH", ("XX", "CH")), PLACE, ITEM),
        _c("GEOPOS", G, ITEM),
        _c("GEODIST", G, ITEM, ITEM),
        _c("GEORADIUS", G, "15", "37", 200, "km", _maybe(("STORE", "g:3"), ("STOREDIST", "z:3"))),
        _c("GEORADIUSBYMEMBER", G, ITEM, 500, "km", _maybe(("STORE", "g:3"))),
        _c("GEOSEARCHSTORE", G, G, "FROMLONLAT", "15", "37", "BYRADIUS", 200, "km", _maybe("STOREDIST")),
    ]


def _hashes(value: st.SearchStrategy[Any]) -> list[st.SearchStrategy[Command]]:
    fields = _some(FIELD, 2).map(lambda names: ("FIELDS", len(names), *names))
    pairs = _some(st.tuples(FIELD, value), 2).map(lambda flat: ("FIELDS", len(flat) // 2, *flat))
    far_at = st.sampled_from([99_999_999_999, 9_999_999_999])
    return [
        _c("HSET", H, _some(st.tuples(FIELD, value))),
        _c("HMSET", H, _some(st.tuples(FIELD, value))),
        _c("HSETNX", H, FIELD, value),
        _c("HGET", H, FIELD),
        _c("HMGET", H, _some(FIELD)),
        _c("HGETALL", H),
        _c("HKEYS", H),
        _c("HLEN", H),
        _c("HEXISTS", H, FIELD),
        _c("HDEL", H, _some(FIELD)),
        _c("HINCRBY", H, FIELD, NUMBER),
        _c("HINCRBYFLOAT", H, FIELD, st.sampled_from(["0.1", "2e3", "x"])),
        # Known to Redis from 7.4 and 8.0, Valkey from 9.0 on; the others refuse them.
        _c("HEXPIRE", H, st.sampled_from([900, 5_000, 0]), _maybe("NX", "XX", "GT", "LT"), fields),
        _c("HPEXPIREAT", H, st.sampled_from([1, 9_999_999_999_999]), fields),
        _c("HEXPIREAT", H, far_at, fields),
        _c("HPERSIST", H, fields),
        _c("HEXPIRETIME", H, fields),
        _c("HGETEX", H, st.sampled_from([(), ("EX", 700), ("PERSIST",), ("EXAT", 1)]), fields),
        _c("HGETDEL", H, fields),
        _c("HSETEX", H, _maybe("FNX", "FXX"), _maybe("KEEPTTL", ("EX", 700), ("EXAT", 1)), pairs),
    ]


def _streams(value: st.SearchStrategy[Any]) -> list[st.SearchStrategy[Command]]:
    trim = st.sampled_from([(), ("MAXLEN", 2), ("MAXLEN", "~", 2), ("MAXLEN", "=", 3), ("MINID", "2-0")])
    consumer = st.sampled_from(["c1", "c2"])
    return [
        _c("XADD", X, _maybe("NOMKSTREAM"), trim, st.just("*"), "f", value),
        _c("XADD", X, trim, ID, "f", value),
        _c("XADD", X, "1-*", "f", value),
        _c("XLEN", X),
        _c("XRANGE", X, "-", "+"),
        _c("XREAD", "COUNT", 2, "STREAMS", X, "0"),
        _c("XDEL", X, _some(ID)),
        _c("XTRIM", X, st.sampled_from([("MAXLEN", 1), ("MAXLEN", "~", 1), ("MINID", "=", "2-0")])),
        _c("XSETID", X, ID),
        _c("XGROUP", "CREATE", X, GROUP, st.sampled_from(["0", "$"]), _maybe("MKSTREAM")),
        _c("XGROUP CREATE", X, GROUP, "0"),
        _c("XGROUP", "SETID", X, GROUP, "0"),
        _c("XGROUP", "DESTROY", X, GROUP),
        _c("XGROUP", "CREATECONSUMER", X, GROUP, consumer),
        _c("XGROUP", "DELCONSUMER", X, GROUP, consumer),
        _c("XREADGROUP", "GROUP", GROUP, consumer, "COUNT", 2, _maybe("NOACK"), "STREAMS", X, ">"),
        _c("XREADGROUP", "GROUP", GROUP, consumer, "STREAMS", X, "0"),
        _c("XACK", X, GROUP, _some(ID)),
        _c("XPENDING", X, GROUP),
        _c("XCLAIM", X, GROUP, consumer, 0, _some(ID), _maybe("JUSTID", "FORCE")),
        _c("XAUTOCLAIM", X, GROUP, consumer, 0, "0", "COUNT", 2),
    ]


def _keyspace(value: st.SearchStrategy[Any]) -> list[st.SearchStrategy[Command]]:
    condition = _maybe("NX", "XX", "GT", "LT")
    return [
        _c(st.sampled_from(["DEL", "UNLINK"]), _some(ANY)),
        _c(st.sampled_from(["EXISTS", "TOUCH"]), _some(ANY)),
        _c("TYPE", ANY),
        _c("EXPIRE", ANY, st.sampled_from([1_000, 70_000, -1]), condition),
        _c("PEXPIRE", ANY, st.sampled_from([1_000_000, 70_000_000, 0]), condition),
        _c("EXPIREAT", ANY, st.sampled_from([1, 99_999_999_999]), condition),
        _c("PEXPIREAT", ANY, st.sampled_from([1, 9_999_999_999_999])),
        _c("PERSIST", ANY),
        _c("PTTL", ANY),
        _c(st.sampled_from(["RENAME", "RENAMENX"]), ANY, ANY),
        _c("COPY", ANY, ANY, _maybe("REPLACE")),
        _c("COPY", ANY, ANY, "DB", 1, _maybe("REPLACE")),
        _c("MOVE", ANY, 1),
        _c("OBJECT", "ENCODING", S),
        _c("RESTORE", S, st.sampled_from([0, 900_000]), st.just(PAYLOAD), _maybe("REPLACE")),
        _c("RESTORE", S, 99_999_999_999_999, st.just(PAYLOAD), "REPLACE", "ABSTTL"),
        *[_c("EVAL", st.sampled_from(SCRIPTS), 1, st.one_of(S, LI), value)] * 4,
        _c("EVALSHA", ABSENT_SHA, 1, S),
        _c("DBSIZE"),
        _c("PING"),
        _c("NOSUCHCOMMAND", "a"),
        _c("GET"),
        _c("SET", S),
        _c("SET", S, value, "EX", 0),
        _c("SET", S, value, "NX", "XX"),
        _c("SCAN", 0, "COUNT", 1_000),
    ]


PAYLOAD = "{a payload that the server made}"
"""Stands for one that every server of the test takes."""
RARE = st.sampled_from(
    [("FLUSHDB",), ("FLUSHDB", "ASYNC"), ("FLUSHALL",), ("SWAPDB", 0, 1), ("EVAL", KEYLESS_SCRIPT, 0)]
)
"""What leads to "everything" would hide what was not reported: seldom."""

FIRST: tuple[Command, ...] = (
    ("MSET", "s:1", "10", "s:2", "text"),
    ("RPUSH", "l:1", "a", "b", "c", "3"),
    ("RPUSH", "l:2", "d", "a", "10"),
    ("SADD", "t:1", "a", "b", "c"),
    ("SADD", "t:2", "b", "c", "d", "10"),
    ("ZADD", "z:1", 1, "a", 2, "b", 3, "c"),
    ("ZADD", "z:2", 2, "b", 2, "c", 5, "d"),
    ("HSET", "h:1", "f1", "1", "f2", "2.5"),
    ("XADD", "x:1", "1-1", "f", "v"),
    ("XADD", "x:1", "1-2", "f", "v"),
    ("XGROUP", "CREATE", "x:1", GROUP, "0"),
    ("SETBIT", "b:1", 9, 1),
    ("PFADD", "p:1", "a", "b"),
    ("GEOADD", "g:1", "13.361389", "38.115556", "a", "15.087269", "37.502669", "b"),
)
"""With something there from the beginning, most commands find what they are for."""


@cache
def commands(*, binary: bool) -> st.SearchStrategy[Command]:
    """One command.

    Args:
        binary: Values need not be text.
    """
    value = st.sampled_from([*_VALUES, *(_BINARY if binary else ())])
    groups = [
        _strings(value),
        _lists(value),
        _sets(),
        _sorted_sets(),
        _hashes(value),
        _streams(value),
        _keyspace(value),
    ]
    return st.one_of([st.one_of(group) for group in groups])
