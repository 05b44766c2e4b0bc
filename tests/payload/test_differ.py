"""What a comparison in pieces finds and settles, on values of every type that it knows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from carrying import BUILDERS, KEY, Ferry, done, ferry_between, names_of
from differing import on_both, settled, views
from looking import expiry_ms

from keyferry.payload.differ import (
    Applied,
    Different,
    NotByDifference,
    Same,
    TooDifferent,
    Vanished,
)
from keyferry.payload.exchange import Request
from keyferry.payload.write_commands import Command
from keyferry.testing.servers import Server

KINDS = ["string", "list", "set", "zset", "hash"]
LATER_MS = 4_102_444_800_123

CHANGES: dict[str, tuple[str, list[Command], int, list[dict[str, Any]]]] = {
    "a field's value": ("hash", [("HSET", KEY, 7, "new")], 1, [{"what": "field", "name": "7", "how": "differs"}]),
    "a field more": ("hash", [("HSET", KEY, "a\nb", "")], 1, [{"what": "field", "name": "a\\x0ab", "how": "missing"}]),
    "a field less": ("hash", [("HDEL", KEY, 7)], 1, [{"what": "field", "name": "7", "how": "extra"}]),
    "a field for another": (
        "hash",
        [("HDEL", KEY, 7), ("HSET", KEY, "x", "y")],
        2,
        [{"what": "field", "name": "x", "how": "missing"}, {"what": "field", "name": "7", "how": "extra"}],
    ),
    "a member more": ("set", [("SADD", KEY, "x")], 1, [{"what": "member", "name": "x", "how": "missing"}]),
    "a member less": ("set", [("SREM", KEY, 7)], 1, [{"what": "member", "name": "7", "how": "extra"}]),
    "a score": ("zset", [("ZADD", KEY, "7.25", 7)], 1, [{"what": "score", "name": "7", "how": "differs"}]),
    "a score without end": ("zset", [("ZADD", KEY, "-inf", 7)], 1, [{"what": "score", "name": "7", "how": "differs"}]),
    "a scored member more": ("zset", [("ZADD", KEY, 1, "x")], 1, [{"what": "member", "name": "x", "how": "missing"}]),
    "a scored member less": ("zset", [("ZREM", KEY, 7)], 1, [{"what": "member", "name": "7", "how": "extra"}]),
    "items pushed at the head": (
        "list", [("LPUSH", KEY, "a", "b")], 2, [{"what": "items at the head", "count": 2, "how": "missing"}],
    ),
    "items pushed at the tail": (
        "list", [("RPUSH", KEY, "a", "b")], 2, [{"what": "items at the tail", "count": 2, "how": "missing"}],
    ),
    "items popped at the head": (
        "list", [("LTRIM", KEY, 900, -1)], 900, [{"what": "items at the head", "count": 900, "how": "extra"}],
    ),
    "items popped at the tail": (
        "list", [("LTRIM", KEY, 0, -901)], 900, [{"what": "items at the tail", "count": 900, "how": "extra"}],
    ),
    "a queue that moved on": (
        "list",
        [("LTRIM", KEY, 300, -1), ("RPUSH", KEY, *(b"n%d" % n for n in range(300)))],
        600,
        [
            {"what": "items at the head", "count": 300, "how": "extra"},
            {"what": "items at the tail", "count": 300, "how": "missing"},
        ],
    ),
    "a capped list that moved on": (
        "list",
        [("LPUSH", KEY, *(b"n%d" % n for n in range(300))), ("LTRIM", KEY, 0, 2999)],
        600,
        [
            {"what": "items at the head", "count": 300, "how": "missing"},
            {"what": "items at the tail", "count": 300, "how": "extra"},
        ],
    ),
    "an item in the middle": ("list", [("LSET", KEY, 1500, "x")], 1, [{"what": "item", "name": "1500", "how": "differs"}]),
    "both ends and the middle": (
        "list",
        [("LSET", KEY, 1500, "x"), ("LPUSH", KEY, "y"), ("RPOP", KEY)],
        3,
        [
            {"what": "items at the head", "count": 1, "how": "missing"},
            {"what": "items at the tail", "count": 1, "how": "extra"},
            {"what": "item", "name": "1501", "how": "differs"},
        ],
    ),
    "bytes in the middle": (
        "string", [("SETRANGE", KEY, 300_000, "xyz")], 1, [{"what": "bytes", "name": "299008-303103", "how": "differs"}],
    ),
    "bytes more": ("string", [("APPEND", KEY, "xyz")], 1, [{"what": "bytes", "count": 3, "how": "missing"}]),
    "an expiry": ("hash", [("PEXPIREAT", KEY, LATER_MS)], 1, [{"what": "expiry", "how": "differs"}]),
}  # fmt: skip


@pytest.fixture
def ferry(server: Server, flushed: Callable[..., Server]) -> Iterator[Ferry]:
    """Between two servers of the same program."""
    made = ferry_between(server, flushed(server.binary.name, 1))
    yield made
    made.close()


@pytest.mark.parametrize("change", CHANGES)
def test_each_change_is_told_and_settled_by_little(ferry: Ferry, change: str) -> None:
    kind, commands, writes, differs = CHANGES[change]
    on_both(ferry, *BUILDERS[kind])
    done(ferry.source, *commands)
    before = ferry.on_target()
    assert settled(ferry, apply=False) == Different(tuple(differs))
    assert ferry.on_target() == before
    outcome = settled(ferry)
    assert isinstance(outcome, Applied)
    assert (outcome.writes, outcome.exact) == (writes, True)
    here, there = views(ferry)
    assert here == there
    assert abs(expiry_ms(ferry.source, KEY) - expiry_ms(ferry.onlooker, KEY)) <= 2
    for apply in (False, True):
        assert settled(ferry, apply=apply) == Same()


@pytest.mark.parametrize("kind", KINDS)
def test_equal_values_are_the_same_and_nothing_is_written(ferry: Ferry, kind: str) -> None:
    on_both(ferry, *BUILDERS[kind])

    def look(index: int, request: Request) -> None:
        allowed = {b"MULTI", b"EXEC", b"WATCH", b"UNWATCH", b"TYPE", b"TIME", b"PTTL", b"PEXPIRETIME"}
        allowed |= {b"INFO", b"OBJECT", b"STRLEN", b"LLEN", b"SCARD", b"ZCARD", b"HLEN"}
        allowed |= {b"GETRANGE", b"LRANGE", b"SMISMEMBER", b"ZMSCORE", b"HMGET"}
        assert set(names_of(request.target)) <= allowed

    assert settled(ferry, apply=False, before=look) == Same()
    assert settled(ferry, before=look) == Same()
    assert settled(ferry, fuzzy=True) == Same()


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_that_only_the_target_has(ferry: Ferry, kind: str) -> None:
    done(ferry.target, *BUILDERS[kind])
    assert settled(ferry, apply=False) == Different(({"what": "key", "how": "extra"},))
    assert ferry.on_target() is not None
    assert settled(ferry) == Vanished()
    assert ferry.on_target() is None
    assert settled(ferry, apply=False) == Same()
    assert settled(ferry) == Vanished()


@pytest.mark.parametrize("kind", [*KINDS, "stream"])
def test_a_key_that_only_the_source_has_is_carried_whole(ferry: Ferry, kind: str) -> None:
    ferry.build(*BUILDERS[kind])
    assert settled(ferry, apply=False) == Different(({"what": "key", "how": "missing"},))
    assert settled(ferry) == TooDifferent()
    assert ferry.on_target() is None


def test_another_type_is_carried_whole(ferry: Ferry) -> None:
    ferry.build(*BUILDERS["hash"])
    done(ferry.target, *BUILDERS["list"])
    old = ferry.on_target()
    assert settled(ferry, apply=False) == Different(({"what": "type", "how": "differs"},))
    assert settled(ferry) == TooDifferent()
    assert ferry.on_target() == old


def test_streams_are_not_for_this(ferry: Ferry) -> None:
    on_both(ferry, ("XADD", KEY, "1-1", "a", "b"))
    for apply in (False, True):
        assert settled(ferry, apply=apply) == NotByDifference("stream")


MUCH: dict[str, list[Command]] = {
    "string": [("SETRANGE", KEY, n, bytes(4096)) for n in range(0, 600_000, 4096)],
    "list": [("LSET", KEY, n, "x") for n in range(2001)],
    "set": [("SADD", KEY, *(b"x%d" % n for n in range(2001)))],
    "zset": [("ZADD", KEY, *(part for n in range(2001) for part in (n + 1, n)))],
    "hash": [("HSET", KEY, *(part for n in range(30) for part in (n, b"x" * 20_000)))],
}
SHORTER: dict[str, list[Command]] = {
    "string": [("SET", KEY, "short")],
    "list": [("LTRIM", KEY, 1, 500)],
    "set": [("SPOP", KEY, 2500)],
    "zset": [("ZREMRANGEBYRANK", KEY, 0, -2), ("ZADD", KEY, 1, "other")],
}


@pytest.mark.parametrize(("kind", "changes"), [*MUCH.items(), *SHORTER.items()])
def test_what_differs_much_is_left_alone(ferry: Ferry, kind: str, changes: list[Command]) -> None:
    on_both(ferry, *BUILDERS[kind])
    if kind == "zset":
        on_both(ferry, ("ZADD", KEY, *(part for n in range(2000, 3000) for part in (n, n))))
    old = ferry.on_target()
    done(ferry.source, *changes)
    outcome = settled(ferry, apply=False)
    assert isinstance(outcome, Different)
    assert 1 <= len(outcome.differs) <= 20
    assert settled(ferry) == TooDifferent()
    assert ferry.on_target() == old


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_that_may_differ_is_settled(ferry: Ferry, kind: str) -> None:
    """At most 2,000 elements."""
    changes: dict[str, list[Command]] = {
        "string": [("SETRANGE", KEY, n, b"xyz") for n in range(0, 400_000, 4096)],
        "list": [("LSET", KEY, n, "x") for n in range(2000)],
        "set": [("SADD", KEY, *(b"x%d" % n for n in range(2000)))],
        "zset": [("ZADD", KEY, *(part for n in range(2000) for part in (n + 1, n)))],
        "hash": [("HSET", KEY, *(part for n in range(2000) for part in (n, "x")))],
    }
    on_both(ferry, *BUILDERS[kind])
    done(ferry.source, *changes[kind])
    assert isinstance(settled(ferry), Applied)
    here, there = views(ferry)
    assert here == there
