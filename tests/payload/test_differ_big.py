"""Values of 200,000 elements: settled by a few writes, in little memory, without a command that takes long."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator

import pytest
from carrying import KEY, Ferry, commands_of, done, ferry_between
from differing import on_both, settled, views

from keyferry.payload.differ import Applied, Different, Same
from keyferry.payload.exchange import Request
from keyferry.payload.write_commands import Command
from keyferry.testing.servers import Server

SIZE = 200_000
BUILD: dict[str, tuple[str, Callable[[int], tuple[bytes | int, ...]]]] = {
    "hash": ("HSET", lambda n: (b"field %d" % n, b"value %d" % n)),
    "set": ("SADD", lambda n: (b"member %d" % n,)),
    "zset": ("ZADD", lambda n: (n, b"member %d" % n)),
    "list": ("RPUSH", lambda n: (b"item %d" % n,)),
}
CHANGES: dict[str, Callable[[int], list[Command]]] = {
    "hash": lambda n: [("HSET", KEY, b"field %d" % n, "x"), ("HDEL", KEY, b"field %d" % (n + 1)), ("HSET", KEY, b"new %d" % n, "x")],
    "set": lambda n: [("SADD", KEY, b"new %d" % n), ("SREM", KEY, b"member %d" % n)],
    "zset": lambda n: [("ZINCRBY", KEY, "0.5", b"member %d" % n), ("ZREM", KEY, b"member %d" % (n + 1)), ("ZADD", KEY, 0, b"new %d" % n)],
    "list": lambda n: [("LSET", KEY, n, "x"), ("LPUSH", KEY, "y"), ("RPOP", KEY)],
}  # fmt: skip


def build(ferry: Ferry, kind: str, size: int) -> None:
    command, element = BUILD[kind]
    for start in range(0, size, 500):
        on_both(ferry, (command, KEY, *(part for n in range(start, start + 500) for part in element(n))))


@pytest.fixture
def ferry(server: Server, flushed: Callable[..., Server]) -> Iterator[Ferry]:
    made = ferry_between(server, flushed(server.binary.name, 1))
    yield made
    made.close()


def check_size(index: int, request: Request) -> None:
    """No command asks for more than a server does in a millisecond or two."""
    for command in (*commands_of(request.source), *commands_of(request.target)):
        assert len(command) <= 505
        if b"COUNT" in command:
            assert int(command[-1]) <= 500
        if command[0] == b"LRANGE":
            assert int(command[3]) - int(command[2]) < 500


@pytest.mark.slow
@pytest.mark.parametrize("kind", BUILD)
def test_a_few_of_many(ferry: Ferry, kind: str) -> None:
    build(ferry, kind, SIZE)
    changes = CHANGES[kind](0)
    done(ferry.source, *(one for n in range(100) for one in CHANGES[kind](n * 1997)))
    told, outcome = settled(ferry, apply=False), settled(ferry, before=check_size)
    assert isinstance(told, Different)
    assert len(told.differs) == 20 or kind == "list"
    assert isinstance(outcome, Applied)
    assert 100 <= outcome.writes <= len(changes) * 100
    assert outcome.bytes < 100 * outcome.writes + 300
    assert settled(ferry, apply=False) == Same()
    here, there = views(ferry)
    assert here == there


def test_values_far_larger_than_what_is_held(ferry: Ferry) -> None:
    """19 MB in fields of 64 KB, in a string, in a list."""
    data = bytes(64 << 10)
    for commands, change in (
        ([("HSET", KEY, n, data) for n in range(300)], ("HSET", KEY, 150, "x")),
        ([("SETRANGE", KEY, n * len(data), data) for n in range(300)], ("SETRANGE", KEY, 10_000_000, "x")),
        ([("RPUSH", KEY, data) for n in range(300)], ("LSET", KEY, 150, "x")),
    ):
        on_both(ferry, ("DEL", KEY), *commands)
        done(ferry.source, change)
        tracemalloc.start()
        outcome = settled(ferry)
        held_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert isinstance(outcome, Applied)
        assert outcome.writes == 1
        assert held_bytes < 4 << 20
        assert settled(ferry, apply=False) == Same()


@pytest.mark.parametrize("kind", ["hash", "zset"])
def test_big_values_that_are_one_listpack(start_server: Callable[..., Server], kind: str) -> None:
    """Every look into one begins at its front: fewer at a time."""
    limits = {f"{kind}_max_listpack_entries": "100000"}
    ferry = ferry_between(start_server("redis-8.2", **limits), start_server("redis-7.0", **limits))
    build(ferry, kind, 5000)
    assert ferry.onlooker.call("OBJECT", "ENCODING", KEY) == b"listpack"
    done(ferry.source, *CHANGES[kind](100))

    def look(index: int, request: Request) -> None:
        for command in (*commands_of(request.source), *commands_of(request.target)):
            assert len(command) <= 45  # 40 of 5,000: 200,000 entries are passed by

    assert isinstance(settled(ferry, before=look), Applied)
    here, there = views(ferry)
    assert here == there
    ferry.close()
