# Written by `make generate` from test_switch_sessions_async.py: change that one.
"""What spans several commands, at a switch: WATCH, transactions, pipelines, locks, scripts, iterations, copies of a client."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from redis.exceptions import WatchError
from switching import Migration, settle
from tasks_sync import Redis, aside, in_a_loop, kept, pause, start

from keyferry.testing.binaries import server_names
from keyferry.testing.servers import Server

Flushed = Callable[..., Server]


@pytest.fixture(params=server_names())
def migration(request: pytest.FixtureRequest, flushed: Flushed) -> Iterator[Migration]:
    with Migration(flushed(request.param), flushed(request.param, 1)) as its:
        its.step("dual")
        yield its


@pytest.fixture
def one(flushed: Flushed) -> Iterator[Migration]:
    name = server_names()[-1]
    with Migration(flushed(name), flushed(name, 1)) as its:
        its.step("dual")
        yield its


def client_of(migration: Migration, **settings: Any) -> Any:
    urls = migration.source.url, migration.target.url
    return kept(Redis.from_urls(*urls, migration=migration.name, **settings))


def value(server: Server, key: str) -> bytes | None:
    with redis.Redis.from_url(server.url) as client:
        return client.get(key)  # type: ignore[return-value]


# WATCH


@in_a_loop
def test_what_was_watched_on_the_old_side_ends_in_watch_error(migration: Migration) -> None:
    client = client_of(migration)
    client.set("k", 1)
    pipe = kept(client.pipeline())
    pipe.watch("k")
    assert pipe.get("k") == b"1"
    aside(migration.switch)
    pipe.multi()
    pipe.set("k", 2)
    with pytest.raises(WatchError):
        pipe.execute()
    assert (value(migration.source, "k"), value(migration.target, "k")) == (b"1", b"1")
    pipe.watch("k")
    assert pipe.get("k") == b"1"
    pipe.multi()
    pipe.set("k", 3)
    assert pipe.execute() == [True]
    assert (value(migration.source, "k"), value(migration.target, "k")) == (b"3", b"3")


@in_a_loop
def test_a_watched_key_is_read_after_the_switch(one: Migration) -> None:
    client = client_of(one)
    pipe = kept(client.pipeline())
    pipe.watch("k")
    aside(one.switch)
    with pytest.raises(WatchError):
        pipe.get("k")
    assert pipe.get("k") is not None  # not watching any more: queued, as with redis-py


@in_a_loop
def test_a_step_without_another_authority_leaves_a_watch_alone(one: Migration) -> None:
    client = client_of(one)
    pipe = kept(client.pipeline())
    pipe.watch("k")
    aside(one.step, "shadow", "dual", "hold", "dual")
    pipe.multi()
    pipe.set("k", 2)
    assert pipe.execute() == [True]


@in_a_loop
def test_no_increment_is_lost_or_doubled_by_transactions(migration: Migration) -> None:
    clients = [client_of(migration, lease_ms=9000 + at) for at in range(2)]
    stop: list[bool] = []
    done = [0, 0, 0]

    def increment(at: int, client: Any) -> None:
        def work(pipe: Any) -> None:
            before = int(pipe.get("k") or 0)
            pipe.multi()
            pipe.set("k", before + 1)

        while not stop:
            client.transaction(work, "k")
            done[at] += 1

    running = [start(increment, at, client) for at, client in enumerate([*clients, clients[0]])]
    for _ in range(4):
        pause(0.1)
        aside(settled_switch, migration)
    stop.append(True)
    for each in running:
        each.result()
    assert int(value(migration.source, "k") or 0) == sum(done)
    assert sum(done) > 5


def settled_switch(migration: Migration) -> None:
    migration.switch(settles=True)


# Pipelines


@pytest.mark.parametrize("transaction", [True, False])
@pytest.mark.parametrize("mirror", ["inline", "background"])
@in_a_loop
def test_a_pipeline_is_never_cut_in_two(migration: Migration, transaction: bool, mirror: str) -> None:
    client = client_of(migration, mirror=mirror)
    stop: list[bool] = []
    counts = [0, 0]

    def work(at: int) -> None:
        while not stop:
            pipe = client.pipeline(transaction=transaction)
            for key in ("a", "b", "c"):
                pipe.incr(f"{key}{at}")
            replies = pipe.execute()
            counts[at] += 1
            assert replies == [counts[at]] * 3

    running = [start(work, at) for at in range(2)]
    for _ in range(4):
        before = list(counts)
        while min(now - then for now, then in zip(counts, before, strict=True)) < 3:
            assert not any(each.done for each in running)
            pause(0.01)
        aside(settled_switch, migration)
    stop.append(True)
    for each in running:
        each.result()
    for at in range(2):
        for key in ("a", "b", "c"):
            assert value(migration.source, f"{key}{at}") == b"%d" % counts[at]


@in_a_loop
def test_a_stack_that_was_begun_before_runs_after(one: Migration) -> None:
    client = client_of(one)
    pipe = client.pipeline()
    pipe.set("k", 1).incr("k")
    aside(one.switch)
    aside(one.step, "target")
    assert pipe.execute() == [True, 2]
    assert (value(one.source, "k"), value(one.target, "k")) == (None, b"2")


@in_a_loop
def test_readers_see_nothing_of_a_switch(migration: Migration) -> None:
    client = client_of(migration)
    client.mset({"a": 1, "b": 2})
    client.rpush("list", *range(5))
    stop: list[bool] = []
    counts = [0, 0, 0]

    def one_by_one() -> None:
        while not stop:
            assert client.get("a") == b"1"
            assert client.llen("list") == 5
            counts[0] += 1

    def together(at: int, transaction: bool) -> None:
        while not stop:
            pipe = client.pipeline(transaction=transaction)
            pipe.get("a").mget("a", "b").lrange("list", 0, -1)
            replies = pipe.execute()
            assert replies == [b"1", [b"1", b"2"], [b"0", b"1", b"2", b"3", b"4"]]
            counts[at] += 1

    running = [start(one_by_one), start(together, 1, True), start(together, 2, False)]
    for _ in range(6):
        before = list(counts)
        while min(now - then for now, then in zip(counts, before, strict=True)) < 3:
            assert not any(each.done for each in running)
            pause(0.01)
        aside(migration.switch)
    stop.append(True)
    for each in running:
        each.result()


# Locks and scripts


@in_a_loop
def test_a_lock_is_there_on_the_new_side(migration: Migration) -> None:
    client, other = client_of(migration), client_of(migration, lease_ms=9000)
    lock = client.lock("lock", timeout=20)
    assert lock.acquire(blocking=False)
    aside(migration.switch)
    assert lock.owned()
    assert not other.lock("lock", timeout=20).acquire(blocking=False)
    assert lock.extend(20)
    with redis.Redis.from_url(migration.target.url) as plain:
        assert 20_000 < plain.pttl("lock") < 40_001  # type: ignore[operator]
    lock.release()
    assert value(migration.target, "lock") is None
    again = other.lock("lock", timeout=20)
    assert again.acquire(blocking=False)
    again.release()


@in_a_loop
def test_one_that_waits_for_a_lock_gets_it_after_the_switch(one: Migration) -> None:
    client, other = client_of(one), client_of(one, lease_ms=9000)
    lock, waiter = (
        client.lock("lock", timeout=20),
        other.lock("lock", timeout=20, sleep=0.02, thread_local=False),
    )
    assert lock.acquire(blocking=False)
    waiting = start(waiter.acquire)
    aside(one.switch)
    assert not waiting.done
    lock.release()
    assert waiting.result() is True
    waiter.release()


@in_a_loop
def test_a_script_that_the_new_side_does_not_know(migration: Migration) -> None:
    client = client_of(migration)
    script = client.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
    assert script(keys=["k"], args=[1]) == 1
    aside(flush_scripts, migration.target)
    aside(settled_switch, migration)
    assert script(keys=["k"], args=[2]) == 3
    aside(flush_scripts, migration.source)
    aside(settled_switch, migration)
    pipe = client.pipeline()
    pipe.set("other", 1)
    script(keys=["k"], args=[3], client=pipe)
    assert pipe.execute() == [True, 6]


def feed(server: Server, *words: str) -> None:
    with server.session() as session:
        session.call(*words)


def flush_scripts(server: Server) -> None:
    feed(server, "SCRIPT", "FLUSH")


# Iterations


@pytest.mark.parametrize("kind", ["scan", "hscan", "sscan", "zscan"])
@in_a_loop
def test_an_iteration_misses_nothing(migration: Migration, kind: str) -> None:
    names = {b"member-%d" % number for number in range(2000)}
    aside(fill, migration.source, kind, sorted(names))
    aside(settle, migration.source, migration.target)
    client = client_of(migration)
    if kind == "scan":
        walk = client.scan_iter("member-*", count=50)
    else:
        walk = getattr(client, f"{kind}_iter")("k", count=50)
    seen = []
    for item in walk:
        seen.append(item[0] if isinstance(item, tuple) else item)
        if len(seen) in (500, 1500):
            aside(migration.switch)
    assert set(seen) == names
    # By hand as well.
    page = client.scan if kind == "scan" else functools.partial(getattr(client, kind), "k")
    cursor, items = page(0, count=50)
    aside(migration.switch)
    found = set(items)
    while cursor:
        cursor, items = page(cursor, count=50)
        found |= set(items)
    assert names <= {item[0] if isinstance(item, tuple) else item for item in found}


def fill(server: Server, kind: str, names: list[bytes]) -> None:
    with redis.Redis.from_url(server.url) as client, client.pipeline() as pipe:
        for number, name in enumerate(names):
            if kind == "scan":
                pipe.set(name, number)
            elif kind == "hscan":
                pipe.hset("k", name, number)  # type: ignore[arg-type]
            elif kind == "sscan":
                pipe.sadd("k", name)
            else:
                pipe.zadd("k", {name: number})
        pipe.execute()


# Copies of a client


@in_a_loop
def test_copies_keep_both_servers(migration: Migration) -> None:
    client = client_of(migration)
    copies = [client, kept(client.client()), kept(type(client)(connection_pool=client.connection_pool))]
    for at, copy in enumerate(copies):
        copy.set(f"k{at}", "old")
        assert value(migration.target, f"k{at}") == b"old"
    aside(migration.switch)
    late = kept(client.client())
    for at, copy in enumerate([*copies, late]):
        copy.set(f"k{at}", "new")
        assert copy.get(f"k{at}") == b"new"
        assert (value(migration.source, f"k{at}"), value(migration.target, f"k{at}")) == (b"new", b"new")
    aside(migration.step, "target")
    for at, copy in enumerate([*copies, late]):
        copy.set(f"k{at}", "last")
        assert copy.get(f"k{at}") == b"last"
        assert (value(migration.source, f"k{at}"), value(migration.target, f"k{at}")) == (b"new", b"last")


@in_a_loop
def test_the_pool_of_a_client_is_that_of_the_side_with_authority(one: Migration) -> None:
    client = client_of(one)

    def port() -> int:
        return int(client.connection_pool.connection_kwargs["port"])

    client.ping()
    assert port() == one.source.port
    aside(one.switch)
    assert port() == one.target.port
    with client.monitor() as monitor:
        feed(one.target, "ECHO", "seen")
        while "seen" not in (monitor.next_command())["command"]:
            pass
    aside(one.switch)
    assert port() == one.source.port


# Idle


@in_a_loop
def test_an_idle_process_takes_every_step(migration: Migration) -> None:
    client = client_of(migration)
    client.get("k")
    for _ in range(2):
        outcome = aside(migration.step, "shadow", "dual", "hold", "dual", "hold", "target-dual")
        assert not outcome.waiting
        outcome = aside(migration.step, "target", "target-dual", "hold", "dual")
        assert not outcome.waiting
    assert client.migration.phase == "dual"


@in_a_loop
def test_a_lease_costs_no_round_trip_per_command(one: Migration) -> None:
    client = client_of(one)
    client.set("k", 1)
    before = calls(one.source)
    for _ in range(200):
        client.get("k")
        client.set("k", 1)
    after = calls(one.source)
    grown = {name: after[name] - before.get(name, 0) for name in after}
    assert (grown.pop("get"), grown.pop("set")) == (200, 200)
    # A renewal is one transaction every three seconds.
    assert all(count <= 5 for name, count in grown.items() if name != "info"), grown


def calls(server: Server) -> dict[str, int]:
    with redis.Redis.from_url(server.url) as client:
        stats: Any = client.info("commandstats")
        return {name.removeprefix("cmdstat_"): its["calls"] for name, its in stats.items()}
