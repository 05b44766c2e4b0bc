# Written by `make generate` from test_switch_blocking_async.py: change that one.
"""Blocking commands at a switch: taken back, waiting on with what is left of their time, nothing lost or doubled."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis.backoff import NoBackoff
from redis.exceptions import TimeoutError as RedisTimeoutError
from switching import Migration, blocked
from tasks_sync import PlainRedis, Redis, Retry, aside, in_a_loop, kept, pause, start

from keyferry.testing.binaries import server_names
from keyferry.testing.servers import Server

Flushed = Callable[..., Server]

# What waits, what feeds it, and what it gives.
COMMANDS: dict[str, tuple[Callable[..., Any], tuple[Any, ...], Any]] = {
    "BLPOP": (lambda r, t: r.blpop("k", t), ("RPUSH", "k", "v"), (b"k", b"v")),
    "BRPOP": (lambda r, t: r.brpop(["j", "k"], t), ("RPUSH", "k", "v"), (b"k", b"v")),
    "BLMOVE": (lambda r, t: r.blmove("k", "to", t), ("RPUSH", "k", "v"), b"v"),
    "BRPOPLPUSH": (lambda r, t: r.brpoplpush("k", "to", t), ("RPUSH", "k", "v"), b"v"),
    "BLMPOP": (
        lambda r, t: r.blmpop(t, 2, "j", "k", direction="LEFT"),
        ("RPUSH", "k", "v"),
        [b"k", [b"v"]],
    ),
    "BZPOPMIN": (lambda r, t: r.bzpopmin("k", t), ("ZADD", "k", 1, "v"), (b"k", b"v", 1.0)),
    "BZPOPMAX": (lambda r, t: r.bzpopmax("k", t), ("ZADD", "k", 1, "v"), (b"k", b"v", 1.0)),
    "BZMPOP": (lambda r, t: r.bzmpop(t, 1, ["k"], min=True), ("ZADD", "k", 1, "v"), [b"k", [[b"v", b"1"]]]),
    "XREAD": (
        lambda r, t: r.xread({"k": "0-0"}, block=int(t * 1000)),
        ("XADD", "k", "1-1", "f", "v"),
        [[b"k", [(b"1-1", {b"f": b"v"})]]],
    ),
    "XREAD $": (
        lambda r, t: r.xread({"k": "$"}, block=int(t * 1000)),
        ("XADD", "k", "1-1", "f", "v"),
        [[b"k", [(b"1-1", {b"f": b"v"})]]],
    ),
    "XREADGROUP": (
        lambda r, t: r.xreadgroup("g", "c", {"k": ">"}, block=int(t * 1000)),
        ("XADD", "k", "1-1", "f", "v"),
        [[b"k", [(b"1-1", {b"f": b"v"})]]],
    ),
}
SINCE_7 = {"BLMPOP", "BZMPOP"}


@pytest.fixture(params=server_names())
def migration(request: pytest.FixtureRequest, flushed: Flushed) -> Iterator[Migration]:
    with Migration(flushed(request.param), flushed(request.param, 1)) as its:
        yield its


@pytest.fixture
def one(flushed: Flushed) -> Iterator[Migration]:
    name = server_names()[-1]
    with Migration(flushed(name), flushed(name, 1)) as its:
        yield its


def wait_until(condition: Callable[[], Any], timeout_seconds: float = 5.0) -> None:
    for _ in range(int(timeout_seconds / 0.01)):
        if aside(condition):
            return
        pause(0.01)
    raise AssertionError("it did not come")


def prepare(migration: Migration, command: str) -> None:
    if command in SINCE_7 and migration.source.binary.version < (7, 0, 0):
        pytest.skip("the server does not have it")
    if command == "XREADGROUP":
        for server in (migration.source, migration.target):
            with server.session() as session:
                session.call("XGROUP", "CREATE", "k", "g", "$", "MKSTREAM")
    aside(migration.step, "dual")


def feed(server: Server, words: tuple[Any, ...]) -> None:
    with server.session() as session:
        session.call(*words)


@pytest.mark.parametrize("command", COMMANDS)
@in_a_loop
def test_it_waits_on_the_new_side(migration: Migration, command: str) -> None:
    source, target = migration.source, migration.target
    prepare(migration, command)
    call, words, expected = COMMANDS[command]
    client = kept(Redis.from_urls(source.url, target.url, migration=migration.name))
    waiting = start(call, client, 20)
    wait_until(lambda: blocked(source))
    began = time.monotonic()
    aside(migration.switch)
    assert time.monotonic() - began < 2
    wait_until(lambda: blocked(target))
    assert not blocked(source)
    feed(target, words)
    assert waiting.result() == expected
    if command not in {"XREAD", "XREAD $"}:
        # What it took was taken on both sides.
        again = start(call, client, 0.1)
        assert not again.result()


@pytest.mark.parametrize("command", COMMANDS)
@in_a_loop
def test_it_waits_for_the_rest_of_its_time(one: Migration, command: str) -> None:
    source, target = one.source, one.target
    prepare(one, command)
    call, _, _ = COMMANDS[command]
    client = kept(Redis.from_urls(source.url, target.url, migration=one.name))
    plain = kept(PlainRedis.from_url(source.url))
    client.get("k0")
    began = time.monotonic()
    waiting = start(call, client, 1.5)
    wait_until(lambda: blocked(source))
    pause(0.9)
    aside(one.switch)
    result = waiting.result()
    assert 1.45 < time.monotonic() - began < 2.2
    assert result == call(plain, 0.01)


@in_a_loop
def test_its_time_ends_in_hold(one: Migration) -> None:
    client = kept(Redis.from_urls(one.source.url, one.target.url, migration=one.name))
    prepare(one, "XREADGROUP")
    client.rpush("list", "v")
    aside(one.step, "hold")
    began = time.monotonic()
    assert client.blpop("list", 0.3) is None
    assert client.xreadgroup("g", "c", {"k": ">"}, block=300) == []
    assert 0.55 < time.monotonic() - began < 1.5
    aside(one.step, "dual")
    assert client.blpop("list", 0.3) == (b"list", b"v")


@in_a_loop
def test_it_waits_for_ever(one: Migration) -> None:
    client = kept(Redis.from_urls(one.source.url, one.target.url, migration=one.name, lease_ms=300))
    aside(one.step, "dual")
    waiting = start(client.blpop, "k", 0)
    for _ in range(2):
        wait_until(lambda: blocked(one.source))
        aside(one.switch)
        wait_until(lambda: blocked(one.target))
        aside(one.switch)
    pause(0.7)  # longer than a lease
    assert not waiting.done
    feed(one.source, ("RPUSH", "k", "v"))
    assert waiting.result() == (b"k", b"v")


@in_a_loop
def test_the_end_of_a_stream_stays_where_it_was(one: Migration) -> None:
    client = kept(Redis.from_urls(one.source.url, one.target.url, migration=one.name))
    client.xadd("k", {"f": "before"}, id="1-1")
    aside(one.step, "dual")
    waiting = start(COMMANDS["XREAD $"][0], client, 20)
    wait_until(lambda: blocked(one.source))
    aside(one.step, "hold")
    # As if somebody who was quicker at the switch had written it.
    feed(one.target, ("XADD", "k", "1-1", "f", "before"))
    feed(one.target, ("XADD", "k", "1-2", "f", "after"))
    aside(one.step, "target-dual")
    assert waiting.result() == [[b"k", [(b"1-2", {b"f": b"after"})]]]


@in_a_loop
def test_a_client_with_one_connection(one: Migration) -> None:
    client = kept(
        Redis.from_urls(one.source.url, one.target.url, migration=one.name, single_connection_client=True)
    )
    aside(one.step, "dual")
    waiting = start(client.blpop, "k", 20)
    wait_until(lambda: blocked(one.source))
    aside(one.switch)
    wait_until(lambda: blocked(one.target))
    feed(one.target, ("RPUSH", "k", "v"))
    assert waiting.result() == (b"k", b"v")


@in_a_loop
def test_a_time_out_of_the_socket_counts_as_with_redis_py(one: Migration) -> None:
    aside(one.step, "dual")
    settings: Any = {"socket_timeout": 0.3, "retry": Retry(NoBackoff(), 0)}
    client = kept(Redis.from_urls(one.source.url, one.target.url, migration=one.name, **settings))
    client.rpush("k", "v")
    assert client.blpop("k", 5) == (b"k", b"v")
    with pytest.raises(RedisTimeoutError):
        client.blpop("k", 5)
    assert client.migration.counts.reported["doubtful"] == 1


@in_a_loop
def test_without_the_right_to_unblock(migration: Migration) -> None:
    source, target = migration.source, migration.target
    for server in (source, target):
        feed(
            server,
            ("ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", "+@all", "-client", "+client|id"),
        )
    try:
        urls = [server.url.replace("redis://", "redis://app:secret@") for server in (source, target)]
        client = kept(Redis.from_urls(urls[0], urls[1], migration=migration.name))
        aside(migration.step, "dual")
        waiting = start(client.blpop, "k", 20)
        wait_until(lambda: blocked(source))
        began = time.monotonic()
        aside(migration.switch)
        assert time.monotonic() - began < 3
        wait_until(lambda: blocked(target))
        feed(target, ("RPUSH", "k", "v"))
        assert waiting.result() == (b"k", b"v")
        began = time.monotonic()
        assert client.blpop("k", 1.5) is None
        assert 1.4 < time.monotonic() - began < 2.5
    finally:
        for server in (source, target):
            feed(server, ("ACL", "DELUSER", "app"))


@pytest.mark.parametrize("mirror", ["inline", "background"])
@in_a_loop
def test_every_element_is_popped_once(migration: Migration, mirror: str) -> None:
    source, target = migration.source, migration.target
    aside(migration.step, "dual")
    client = kept(Redis.from_urls(source.url, target.url, migration=migration.name, mirror=mirror))
    popped: list[bytes] = []
    stop: list[bool] = []

    def pop() -> None:
        while True:
            reply = client.brpop("k", 1)
            if reply is not None:
                popped.append(reply[1])
            elif stop:
                return

    popping = [start(pop) for _ in range(3)]
    with contextlib.ExitStack() as stack:
        pushers = [aside(stack.enter_context, migration.pusher("k", mirror=mirror)) for _ in range(2)]
        for _ in range(4):
            pause(0.15)
            # Two processes reach the servers in any order; what settles that is not the clients' part.
            aside(settled_switch, migration)
        aside(stack.close)
    stop.append(True)
    for each in popping:
        each.result()
    pushed = [value for each in pushers for value in each]
    assert len(pushed) > 100
    assert sorted(popped) == sorted(pushed)


def settled_switch(migration: Migration) -> None:
    migration.switch(settles=True)
