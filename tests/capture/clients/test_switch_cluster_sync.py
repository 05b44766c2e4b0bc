# Written by `make generate` from test_switch_cluster_async.py: change that one.
"""From one server to a cluster, and back: what spans a switch goes on there too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from switching import Migration, blocked
from tasks_sync import Redis, aside, in_a_loop, kept, pause, start

from keyferry.testing.binaries import server_names

MEMBERS = {b"member-%d" % number for number in range(1000)}


@pytest.fixture(params=server_names()[1:])
def migration(request: pytest.FixtureRequest, flushed: Any, cluster: Any) -> Iterator[Migration]:
    with Migration(flushed(request.param), cluster(request.param)) as its:
        its.step("dual")
        yield its


def client_of(migration: Migration) -> Any:
    target = migration.target.url.replace("redis://", "redis+cluster://")
    return kept(Redis.from_urls(migration.source.url, target, migration=migration.name))


def blocked_in_cluster(migration: Migration) -> int:
    return sum(blocked(node) for node in migration.target.primaries)


def wait_until(condition: Callable[[], Any], timeout_seconds: float = 5.0) -> None:
    for _ in range(int(timeout_seconds / 0.01)):
        if aside(condition):
            return
        pause(0.01)
    raise AssertionError("it did not come")


@in_a_loop
def test_subscribers(migration: Migration) -> None:
    client = client_of(migration)
    pubsub = kept(client.pubsub(ignore_subscribe_messages=True))
    pubsub.subscribe("news")
    sent: list[Any] = []
    stop: list[Any] = []

    def publish() -> None:
        while not stop:
            client.publish("news", len(sent))
            sent.append(len(sent))
        client.publish("news", "end")

    def listen() -> list[int]:
        got: list[int] = []
        for message in pubsub.listen():
            if message["data"] == b"end":
                break
            got.append(int(message["data"]))
        return got

    listening, publishing = start(listen), start(publish)
    for _ in range(10):
        pause(0.05)
        aside(migration.switch)
    pause(0.1)
    stop.append(True)
    publishing.result()
    got = listening.result()
    assert set(sent) <= set(got)
    assert got == sent
    assert len(sent) > 20


@in_a_loop
def test_a_blocked_pop(migration: Migration) -> None:
    client = client_of(migration)
    waiting = start(client.blpop, "k", 20)
    wait_until(lambda: blocked(migration.source))
    aside(migration.switch)
    wait_until(lambda: blocked_in_cluster(migration))
    # Of a cluster it is not taken back: it comes back by itself within a second.
    aside(migration.switch)
    wait_until(lambda: blocked(migration.source))
    client.rpush("k", "v")
    assert waiting.result() == (b"k", b"v")


@in_a_loop
def test_an_iteration(migration: Migration) -> None:
    client = client_of(migration)
    pipe = client.pipeline(transaction=False)
    for member in MEMBERS:
        pipe.set(member, 1)
    pipe.execute()
    seen = []
    for key in client.scan_iter("member-*", count=30):
        seen.append(key)
        if len(seen) in (300, 800):
            aside(migration.switch)
    assert set(seen) == MEMBERS
    aside(migration.switch)
    assert sorted([key for key in client.scan_iter("member-*", count=30)]) == sorted(MEMBERS)


@in_a_loop
def test_a_watch_and_a_lock(migration: Migration) -> None:
    client = client_of(migration)
    pipe = kept(client.pipeline())
    pipe.watch("k")
    lock = client.lock("lock", timeout=20)
    assert lock.acquire(blocking=False)
    aside(migration.switch)
    pipe.multi()
    pipe.set("k", 1)
    with pytest.raises(redis.WatchError):
        pipe.execute()
    assert lock.owned()
    lock.release()
