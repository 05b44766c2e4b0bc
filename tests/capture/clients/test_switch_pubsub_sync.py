# Written by `make generate` from test_switch_pubsub_async.py: change that one.
"""A subscriber at a switch: nothing lost, nothing twice, in order, and nothing of ours in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from switching import Migration, subscribers
from tasks_sync import Redis, aside, in_a_loop, kept, pause, start

from keyferry.capture.clients._sync.platform import Retry
from keyferry.testing.binaries import server_names
from keyferry.testing.proxy import FaultProxy
from keyferry.testing.servers import Server

Flushed = Callable[..., Server]


@pytest.fixture(params=server_names())
def pair(request: pytest.FixtureRequest, flushed: Flushed) -> tuple[Server, Server]:
    return flushed(request.param), flushed(request.param, 1)


@pytest.fixture
def one_pair(flushed: Flushed) -> tuple[Server, Server]:
    name = server_names()[-1]
    return flushed(name), flushed(name, 1)


def wait_until(condition: Callable[[], Any], timeout_seconds: float = 5.0) -> None:
    for _ in range(int(timeout_seconds / 0.01)):
        if aside(condition):
            return
        pause(0.01)
    raise AssertionError("it did not come")


@pytest.fixture
def migration(pair: tuple[Server, Server]) -> Iterator[Migration]:
    with Migration(*pair) as its:
        yield its


@pytest.fixture
def one(one_pair: tuple[Server, Server]) -> Iterator[Migration]:
    with Migration(*one_pair) as its:
        yield its


@pytest.mark.parametrize("settings", [{}, {"protocol": 3}, {"decode_responses": True}])
@in_a_loop
def test_every_message_once_and_in_order(migration: Migration, settings: dict[str, Any]) -> None:
    source, target = migration.source, migration.target
    aside(migration.step, "dual")
    publisher = kept(Redis.from_urls(source.url, target.url, migration=migration.name))
    listener = kept(Redis.from_urls(source.url, target.url, migration=migration.name, **settings))
    pubsub = kept(listener.pubsub())
    pubsub.subscribe("news")
    pubsub.psubscribe("new*")
    sent: list[Any] = []
    stop: list[Any] = []
    got: list[Any] = []

    def publish() -> None:
        while not stop:
            publisher.publish("news", len(sent))
            sent.append(len(sent))
        publisher.publish("news", "end")

    def listen() -> None:
        for message in pubsub.listen():
            got.append(message)
            if message["data"] in (b"end", "end") and message["type"] == "pmessage":
                return

    listening, publishing = start(listen), start(publish)
    pause(0.05)
    for _ in range(4):
        aside(migration.switch)
        pause(0.05)
    stop.append(True)
    publishing.result()
    listening.result()
    data = {kind: [one["data"] for one in got if one["type"] == kind] for kind in ("message", "pmessage")}
    for kind in data:
        assert [int(one) for one in data[kind][:-1]] == sent
    assert [one["type"] for one in got if "message" not in one["type"]] == ["subscribe", "psubscribe"]
    assert len(sent) > 50


@in_a_loop
def test_an_idle_listener_wakes_and_the_old_side_is_left(migration: Migration) -> None:
    source, target = migration.source, migration.target
    client = kept(Redis.from_urls(source.url, target.url, migration=migration.name))
    pubsub = kept(client.pubsub(ignore_subscribe_messages=True))
    pubsub.subscribe("news")
    assert (subscribers(source), subscribers(target)) == (1, 0)

    def listen() -> Any:
        while True:
            message = pubsub.get_message(timeout=None)
            if message is not None:
                return message

    listening = start(listen)
    aside(migration.step, "dual")
    aside(migration.step, "hold")
    assert (subscribers(source), subscribers(target)) == (1, 1)
    aside(migration.step, "target-dual")
    wait_until(lambda: (subscribers(source), subscribers(target)) == (0, 1))
    client.publish("news", "hello")
    assert (listening.result())["data"] == b"hello"
    pubsub.close()
    wait_until(lambda: subscribers(target) == 0)


@in_a_loop
def test_a_hold_that_is_given_up(one: Migration) -> None:
    migration, source, target = one, one.source, one.target
    client = kept(Redis.from_urls(source.url, target.url, migration=migration.name))
    pubsub = kept(client.pubsub(ignore_subscribe_messages=True))
    pubsub.subscribe("news")
    aside(migration.step, "dual")
    aside(migration.step, "hold")
    assert (subscribers(source), subscribers(target)) == (1, 1)
    aside(migration.step, "dual")
    wait_until(lambda: (subscribers(source), subscribers(target)) == (1, 0))
    client.publish("news", "hello")
    assert (pubsub.get_message(timeout=2)) is None  # the confirmation
    assert (pubsub.get_message(timeout=2))["data"] == b"hello"


@in_a_loop
def test_subscribing_and_unsubscribing_in_hold(one: Migration) -> None:
    migration, source, target = one, one.source, one.target
    aside(migration.step, "dual")
    client = kept(Redis.from_urls(source.url, target.url, migration=migration.name))
    pubsub = kept(client.pubsub())
    handled: list[Any] = []
    pubsub.subscribe("a", **{"b": handled.append})
    aside(migration.step, "hold")
    pubsub.unsubscribe("a")
    pubsub.subscribe("c")
    for channel, count in (("a", 0), ("b", 1), ("c", 1)):
        assert (subscribers(source, channel), subscribers(target, channel)) == (count, count)
    late = kept(client.pubsub())
    late.subscribe("d")
    assert (subscribers(source, "d"), subscribers(target, "d")) == (1, 1)
    aside(migration.step, "target-dual")
    for channel in "abcd":
        client.publish(channel, channel)
    said: list[Any] = []
    while len(said) < 5:
        message = pubsub.get_message(timeout=2)
        if message is not None:  # None also for one that a handler took
            said.append((message["type"], message["channel"]))
    assert said == [
        ("subscribe", b"a"),
        ("subscribe", b"b"),
        ("unsubscribe", b"a"),
        ("subscribe", b"c"),
        ("message", b"c"),
    ]
    assert [one["data"] for one in handled] == [b"b"]
    assert set(pubsub.channels) == {b"b", b"c"}
    assert (late.get_message(timeout=1))["type"] == "subscribe"
    assert (late.get_message(timeout=1))["data"] == b"d"
    pubsub.unsubscribe()
    assert {(pubsub.get_message(timeout=1))["channel"] for _ in range(2)} == {b"b", b"c"}
    assert not pubsub.subscribed


@in_a_loop
def test_an_old_side_that_falls_silent_does_not_keep_a_listener(one: Migration) -> None:
    source, target = one.source, one.target
    with FaultProxy("127.0.0.1", source.port) as proxy:
        client = kept(Redis.from_urls(source.url, target.url, migration=one.name))
        # The membership goes its own way: only what the application has open falls silent.
        hearer = kept(Redis(source=proxy.url, target=target.url, migration=one.name, lease_ms=1000))
        pubsub = kept(hearer.pubsub(ignore_subscribe_messages=True))
        pubsub.subscribe("news")

        def listen() -> Any:
            return next(pubsub.listen())

        listening = start(listen)
        aside(one.step, "dual")
        aside(one.step, "hold")
        proxy.stall(True)
        aside(one.step, "target-dual")  # when its lease is over
        wait_until(lambda: subscribers(target) == 1)
        client.publish("news", "hello")
        assert (listening.result(15))["data"] == b"hello"
        proxy.stall(False)


@in_a_loop
def test_an_old_side_that_is_gone_before_it_was_read_to_its_end(one: Migration) -> None:
    source, target = one.source, one.target
    with FaultProxy("127.0.0.1", source.port) as proxy:
        client = kept(Redis(source=proxy.url, target=target.url, migration=one.name))
        pubsub = kept(client.pubsub(ignore_subscribe_messages=True))
        pubsub.subscribe("news")
        aside(one.step, "dual")
        client.publish("news", "before")
        aside(one.switch)
        wait_until(lambda: subscribers(source) == 0)
        proxy.refuse(True)
        proxy.cut()
        client.publish("news", "after")
        said: list[Any] = []
        while len(said) < 1 or said[-1] != b"after":
            message = pubsub.get_message(timeout=5)
            if message is not None:
                said.append(message["data"])
        assert said in ([b"before", b"after"], [b"after"])


@in_a_loop
def test_a_connection_that_breaks_is_made_again(one: Migration) -> None:
    source, target = one.source, one.target
    # Before 6.0 redis-py only tries again what it is told to.
    again = {"retry": Retry(NoBackoff(), 3), "retry_on_error": [RedisConnectionError]}
    client = kept(Redis(port=source.port, target=target.url, migration=one.name, **again))
    pubsub = kept(client.pubsub(ignore_subscribe_messages=True))
    pubsub.subscribe("news")
    pubsub.psubscribe("o*")
    for switches in range(3):
        if switches == 0:
            aside(one.step, "dual")
        else:
            aside(one.switch)
        read_until(pubsub, client, b"news", b"1")
        aside(kick_subscribers, target if switches == 1 else source)
        # What is published before it has subscribed again is lost, as with redis-py.
        assert pubsub.get_message(timeout=0.3) is None
        read_until(pubsub, client, b"news", b"2")
        read_until(pubsub, client, b"other", b"3")


def read_until(pubsub: Any, client: Redis, channel: bytes, data: bytes) -> None:
    assert client.publish(channel, data) == 1
    while True:
        message = pubsub.get_message(timeout=5)
        if message is not None:
            assert (message["channel"], message["data"]) == (channel, data)
            return


def kick_subscribers(server: Server) -> None:
    with server.session() as session:
        session.call("CLIENT", "KILL", "TYPE", "pubsub")
