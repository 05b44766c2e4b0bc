"""A client that never wrote to both: from `source` over the gate to `target`, and back; undone, and often."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from redis.exceptions import WatchError
from switching import Migration, blocked, subscribers
from tasks_async import Redis, aside, in_a_loop, kept, pause, start

from keyferry.capture.clients.record_errors import RecordLostError
from keyferry.model.phases import Phase
from keyferry.model.record import record_key, writers_key
from keyferry.testing.binaries import server_names
from keyferry.testing.servers import Server

Flushed = Callable[..., Server]


@pytest.fixture(params=server_names())
def migration(request: pytest.FixtureRequest, flushed: Flushed) -> Iterator[Migration]:
    with Migration(flushed(request.param), flushed(request.param, 1)) as its:
        yield its


@pytest.fixture
def one(flushed: Flushed) -> Iterator[Migration]:
    name = server_names()[-1]
    with Migration(flushed(name), flushed(name, 1)) as its:
        yield its


def client_of(migration: Migration, **settings: Any) -> Any:
    urls = migration.source.url, migration.target.url
    return kept(Redis.from_urls(*urls, migration=migration.name, **settings))


def value(server: Server, key: str) -> bytes | None:
    with server.session() as session:
        found = session.call("GET", key)
    assert found is None or isinstance(found, bytes)
    return found


async def wait_until(condition: Callable[[], Any], timeout_seconds: float = 10.0) -> None:
    for _ in range(int(timeout_seconds / 0.01)):
        if await aside(condition):
            return
        await pause(0.01)
    raise AssertionError("it did not come")


async def moved(counts: Sequence[int]) -> None:
    """Waits until all have come on."""
    before = list(counts)
    await wait_until(lambda: all(now > then + 2 for now, then in zip(counts, before, strict=True)))


def there_and_back(migration: Migration) -> None:
    for phase in (Phase.TARGET, Phase.SOURCE):
        migration.switch(settles=True)
        assert migration.phase is phase


@pytest.mark.parametrize("settings", [{}, {"mirror": "background"}, {"single_connection_client": True}])
@in_a_loop
async def test_nothing_is_lost_or_doubled_and_only_one_side_is_written(
    migration: Migration, settings: dict[str, Any]
) -> None:
    clients = [client_of(migration, **settings) for _ in range(2)]
    stop: list[bool] = []
    counts = [0, 0, 0]

    async def commands() -> None:
        while not stop:
            counts[0] += 1
            assert await clients[0].incr("commands") == counts[0]

    async def pipelines() -> None:
        while not stop:
            counts[1] += 1
            pipe = clients[1].pipeline(transaction=True).incr("pipelines").incr("pipelines")
            assert await pipe.execute() == [2 * counts[1] - 1, 2 * counts[1]]

    async def watches() -> None:
        client = client_of(migration)
        while not stop:
            pipe = client.pipeline()
            try:
                await pipe.watch("watches")
                now = int(await pipe.get("watches") or 0)
                assert now == counts[2]
                pipe.multi()
                pipe.set("watches", now + 1)
                await pipe.execute()
                counts[2] += 1
            except WatchError:
                continue  # authority has moved

    running = [start(work) for work in (commands, pipelines, watches)]
    await moved(counts)
    assert value(migration.target, "commands") is None
    for _ in range(2):
        await aside(there_and_back, migration)
        await moved(counts)
    await aside(functools.partial(migration.switch, settles=True))
    behind = value(migration.source, "commands")
    stop.append(True)
    for each in running:
        await each.result()
    assert value(migration.source, "commands") == behind
    await clients[0].set("last", 1)
    assert (value(migration.source, "last"), value(migration.target, "last")) == (None, b"1")


@in_a_loop
async def test_what_waits_goes_over_and_back(migration: Migration) -> None:
    client = client_of(migration)
    waiting = start(client.blpop, "queue", 30)
    pubsub = kept(client_of(migration).pubsub(ignore_subscribe_messages=True))
    await pubsub.subscribe("news")
    await wait_until(lambda: blocked(migration.source) and subscribers(migration.source))
    await aside(migration.switch)
    await wait_until(lambda: blocked(migration.target) and subscribers(migration.target))
    assert not blocked(migration.source)
    await aside(migration.switch)
    await wait_until(lambda: blocked(migration.source) and subscribers(migration.source))
    await client.rpush("queue", "a")
    assert await waiting.result() in ((b"queue", b"a"), [b"queue", b"a"])
    await client.publish("news", "b")
    message = None
    while message is None:
        message = await pubsub.get_message(timeout=5)
    assert message["data"] == b"b"


@in_a_loop
async def test_a_switch_that_is_undone_has_only_been_waited_for(migration: Migration) -> None:
    client = client_of(migration)
    await client.set("k", 1)
    waiting = start(client.blpop, "queue", 30)
    pubsub = kept(client_of(migration).pubsub(ignore_subscribe_messages=True))
    await pubsub.subscribe("news")
    pipe = kept(client.pipeline())
    await pipe.watch("k")
    await wait_until(lambda: blocked(migration.source) and subscribers(migration.source))
    await aside(migration.step, "hold")
    write = start(client.set, "k2", 2)
    assert await client.get("k") == b"1"
    await pause(0.05)
    assert not write.done
    await aside(migration.step, "source")
    assert await write.result()
    await wait_until(lambda: blocked(migration.source) and subscribers(migration.source))
    pipe.multi()
    pipe.incr("k")
    assert await pipe.execute() == [2]
    await client.rpush("queue", "a")
    assert await waiting.result() in ((b"queue", b"a"), [b"queue", b"a"])
    await client.publish("news", "b")
    message = None
    while message is None:
        message = await pubsub.get_message(timeout=5)
    assert message["data"] == b"b"
    assert value(migration.target, "k") is None


@in_a_loop
async def test_switches_close_behind_each_other(one: Migration) -> None:
    client = client_of(one)
    waiting = start(client.blpop, "queue", 30)
    stop: list[bool] = []
    counts = [0]

    async def commands() -> None:
        while not stop:
            counts[0] += 1
            assert await client.incr("n") == counts[0]

    running = start(commands)
    await moved(counts)

    def close_behind() -> None:
        for _ in range(5):
            one.switch(settles=True, waits=False)

    await aside(close_behind)
    assert one.phase is Phase.TARGET
    await moved(counts)
    stop.append(True)
    await running.result()
    assert value(one.target, "n") == b"%d" % counts[0]
    await client.rpush("queue", "a")
    assert await waiting.result() in ((b"queue", b"a"), [b"queue", b"a"])


@in_a_loop
async def test_a_target_that_is_a_cluster(flushed: Flushed, cluster: Any) -> None:
    name = server_names()[-1]
    with Migration(flushed(name), cluster(name)) as migration:
        target = migration.target.url.replace("redis://", "redis+cluster://")
        client = kept(Redis.from_urls(migration.source.url, target, migration=migration.name))
        assert await client.incr("n") == 1
        await aside(migration.step, "hold", "target")
        assert await client.incr("n") == 1  # nothing was carried
        assert value(migration.source, "n") == b"1"


@in_a_loop
async def test_a_record_that_is_removed_while_a_client_lives_is_an_error_that_says_so(one: Migration) -> None:
    client = client_of(one, lease_ms=600)
    await client.set("k", 1)
    await aside(one.step, "hold", "target")
    assert await client.set("k", 2)
    for server in (one.source, one.target):
        with server.session() as session:
            session.call("DEL", record_key(one.name), writers_key(one.name))
    await pause(0.7)
    with pytest.raises(RecordLostError, match=f"{one.name}.*is gone"):
        await client.set("k", 3)
    assert value(one.target, "k") == b"2"
