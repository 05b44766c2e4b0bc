"""The drop-in client with two servers and a fixed phase: how it is made, what it does to either side, what it tells."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
import redis.asyncio
from membering import until
from prometheus_client.registry import CollectorRegistry

import keyferry
import keyferry.asyncio
from keyferry.capture.clients.counts import Counts, Reason
from keyferry.metrics import NAMES, register
from keyferry.model.phases import Phase, Side
from keyferry.testing.cluster import Cluster
from keyferry.testing.servers import Server

Flushed = Callable[..., Server]


class Two:
    """The two servers and plain clients of them."""

    def __init__(self, source: Server, target: Server) -> None:
        self.urls = (source.url, target.url)
        self.source, self.target = (redis.Redis.from_url(url) for url in self.urls)

    def both(self, key: str) -> tuple[object, object]:
        return self.source.get(key), self.target.get(key)


@pytest.fixture
def two(flushed: Flushed) -> Iterator[Two]:
    pair = Two(flushed("redis-6.2"), flushed("redis-6.2", 1))
    yield pair
    pair.source.close()
    pair.target.close()


def ways_to_make(two: Two) -> Iterator[redis.Redis]:
    source, target = two.urls
    yield keyferry.Redis.from_urls(source, target, phase="dual")
    yield keyferry.Redis.from_url(source, target=target, phase="dual")
    port = int(source.rsplit(":", 1)[1].split("/")[0])
    yield keyferry.Redis(host="127.0.0.1", port=port, target=target, phase="dual")
    yield keyferry.Redis(
        source=redis.Redis.from_url(source), target=redis.Redis.from_url(target), phase="dual"
    )
    pool = redis.ConnectionPool.from_url(source)
    yield keyferry.Redis(connection_pool=pool, target=target, phase=Phase.DUAL)
    with keyferry.Redis.from_urls(source, target, phase="dual") as parent:
        yield parent.client()
        yield keyferry.Redis(connection_pool=parent.connection_pool)
        yield keyferry.Redis.from_pool(parent.connection_pool)


def test_every_way_to_make_a_client_writes_to_both_sides(two: Two) -> None:
    for number, client in enumerate(ways_to_make(two)):
        assert isinstance(client, redis.Redis)
        client.set("key", number)
        assert two.both("key") == (str(number).encode(),) * 2, f"way {number}"
        client.close()


def test_without_a_second_server_it_is_redis_pys_own(two: Two) -> None:
    with keyferry.Redis.from_url(two.urls[0]) as client:
        client.set("key", "value")
        assert client.migration is None
        assert two.both("key") == (b"value", None)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"phase": "dual"}, "a second server is missing"),
        ({"target": "redis://127.0.0.1:1"}, "say which phase"),
        ({"target": 7, "phase": "dual"}, "takes a URL, a redis-py client or a connection pool, not int"),
        (
            {"source": "redis://127.0.0.1:1", "host": "x", "target": "redis://127.0.0.1:1", "phase": "dual"},
            "not both",
        ),
    ],
)
def test_arguments_that_make_no_sense_together_are_refused(arguments: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        keyferry.Redis(**arguments)


@pytest.mark.parametrize("differing", [{"protocol": 2}, {"decode_responses": True}])
def test_two_clients_that_shape_replies_differently_are_refused(
    differing: dict[str, Any],
) -> None:
    source, target = redis.Redis(protocol=3), redis.Redis(**{"protocol": 3, **differing})
    with pytest.raises(ValueError, match=f"the same {next(iter(differing))}="):
        keyferry.Redis(source=source, target=target, phase="dual")
    with keyferry.Redis(
        source=source, target=redis.Redis.from_url("redis://localhost?protocol=3"), phase="dual"
    ) as client:
        assert client.migration is not None


@pytest.mark.parametrize("module", [keyferry, keyferry.asyncio])
def test_what_a_clusters_url_cannot_carry_is_refused_not_dropped(module: Any) -> None:
    with pytest.raises(ValueError, match="takes no decode_responses"):
        module.Redis.from_urls(
            "redis+cluster://127.0.0.1:1", "redis://127.0.0.1:1", phase="dual", decode_responses=True
        )


@pytest.mark.parametrize("module", [keyferry, keyferry.asyncio])
def test_the_signature_names_redis_pys_arguments_and_ours(module: Any) -> None:
    known = inspect.signature(module.Redis).parameters
    assert known["host"].default == "localhost"
    assert known["target"].default is None
    assert known["mirror"].default == "inline"


@pytest.mark.parametrize(
    ("phase", "reads_from", "writes_to"),
    [
        ("source", Side.SOURCE, {Side.SOURCE}),
        ("dual", Side.SOURCE, {Side.SOURCE, Side.TARGET}),
        ("shadow", Side.SOURCE, {Side.SOURCE, Side.TARGET}),
        ("target-dual", Side.TARGET, {Side.SOURCE, Side.TARGET}),
        ("target", Side.TARGET, {Side.TARGET}),
    ],
)
def test_a_phase_says_where_reads_and_writes_go(
    two: Two, phase: str, reads_from: Side, writes_to: set[Side]
) -> None:
    two.source.set("where", "source")
    two.target.set("where", "target")
    with keyferry.Redis.from_urls(*two.urls, phase=phase, decode_responses=True) as client:
        assert client.get("where") == reads_from
        client.set("key", "ä")
        assert client.get("key") == "ä"
        assert client.pipeline().get("where").execute() == [reads_from]
        found = {Side.SOURCE: two.both("key")[0], Side.TARGET: two.both("key")[1]}
        assert {side for side, value in found.items() if value == "ä".encode()} == writes_to
        assert client.migration is not None
        assert (client.migration.phase, client.migration.epoch) == (phase, 0)


def test_the_side_without_authority_may_be_away(two: Two) -> None:
    nowhere = "redis://127.0.0.1:1"
    for source, target, phase in ((two.urls[0], nowhere, "dual"), (nowhere, two.urls[1], "target-dual")):
        with keyferry.Redis.from_urls(source, target, phase=phase, ledger="off") as client:
            for number in range(20):
                assert client.incr("count") == number + 1
            assert client.migration is not None
            assert client.migration.breaker == "open"
            assert client.migration.counts.failed == 20


def test_a_failed_second_leg_is_an_error_for_those_who_want_it(two: Two) -> None:
    two.target.lpush("key", "a list")
    with keyferry.Redis.from_urls(*two.urls, phase="dual", on_target_error="raise") as client:
        with pytest.raises(redis.RedisError, match="the second leg failed on the target"):
            client.append("key", "text")
        assert two.source.get("key") == b"text"


def test_what_failed_or_differed_is_named_in_the_ledger(two: Two) -> None:
    two.target.lpush("refuses", "a list")
    two.target.set("differs", 41)
    with keyferry.Redis.from_urls(*two.urls, phase="dual") as client:
        client.append("refuses", "text")
        client.incr("differs")
        client.incr("fine")
        client.eval("return redis.call('set', KEYS[1], 1)", 1, "scripted")
        assert client.migration is not None
        counts = client.migration.counts
        assert (counts.failed, counts.differed) == (1, 1)
    named = two.source.smembers("keyferry:{default}:ledger")
    assert named == {b"0:refuses", b"0:differs", b"0:scripted"}


def test_background_legs_keep_the_order_and_close_sends_them(two: Two) -> None:
    client = keyferry.Redis.from_urls(*two.urls, phase="dual", mirror="background")

    def write(name: int) -> None:
        for number in range(200):
            client.set(f"key:{number % 3}", f"{name}:{number}")
            client.rpush("list", f"{name}:{number}")

    threads = [threading.Thread(target=write, args=(name,)) for name in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    client.close()
    for number in range(3):
        source, target = two.both(f"key:{number}")
        assert source == target
    assert two.source.lrange("list", 0, -1) == two.target.lrange("list", 0, -1)
    assert two.source.llen("list") == 1200


def test_a_full_background_queue_reports_keys_and_never_waits(two: Two) -> None:
    client = keyferry.Redis.from_urls(*two.urls, phase="dual", mirror="background", mirror_queue_max=5)
    with client:
        two.target.client_pause(1000)
        for number in range(50):
            client.set(f"key:{number}", number)
        assert client.migration is not None
        assert client.migration.counts.reported[Reason.OVERFLOW] >= 40
        two.target.client_unpause()
    missing = {b"0:key:%d" % number for number in range(50) if two.target.get(f"key:{number}") is None}
    assert missing
    assert missing <= two.source.smembers("keyferry:{default}:ledger")


def test_threads_and_tasks_of_a_process_write_in_one_order(two: Two) -> None:
    async def tasks() -> None:
        client = keyferry.asyncio.Redis.from_urls(*two.urls, phase="dual")

        async def write(name: int) -> None:
            for number in range(100):
                await client.rpush("list", f"task {name}:{number}")

        await asyncio.gather(*(write(name) for name in range(5)))
        await client.aclose()

    def threads() -> None:
        with keyferry.Redis.from_urls(*two.urls, phase="dual") as client:
            for number in range(300):
                client.rpush("list", f"thread:{number}")

    running = [threading.Thread(target=threads) for _ in range(3)]
    for thread in running:
        thread.start()
    asyncio.run(tasks())
    for thread in running:
        thread.join()
    assert two.source.llen("list") == 1400
    assert two.source.lrange("list", 0, -1) == two.target.lrange("list", 0, -1)


@pytest.mark.parametrize("transaction", [True, False])
def test_a_pipeline_of_tasks_is_mirrored_command_by_command(two: Two, transaction: bool) -> None:
    async def go() -> Counts:
        client = keyferry.asyncio.Redis.from_urls(*two.urls, phase="dual")
        pipe = client.pipeline(transaction=transaction)
        pipe.set("text", 1).sadd("set", 1, 2, 3).spop("set").get("text").rpush("list", "a")
        await pipe.execute()
        migration = client.migration
        await client.aclose()
        assert migration is not None
        return migration.counts

    counts = asyncio.run(go())
    assert two.both("text") == (b"1", b"1")
    assert two.source.smembers("set") == two.target.smembers("set")
    assert two.source.lrange("list", 0, -1) == two.target.lrange("list", 0, -1) == [b"a"]
    assert (counts.mirrored + counts.rewritten, counts.reported.total()) == (4, 0)


@pytest.mark.parametrize("transaction", [True, False])
def test_what_succeeded_beside_a_missing_script_is_mirrored(two: Two, transaction: bool) -> None:
    with keyferry.Redis.from_urls(*two.urls, phase="dual") as client:
        pipe = client.pipeline(transaction=transaction)
        pipe.set("before", 1).evalsha("0" * 40, 1, "key").set("after", 2)
        with pytest.raises(redis.exceptions.NoScriptError):
            pipe.execute()
    assert (two.both("before"), two.both("after")) == ((b"1", b"1"), (b"2", b"2"))


def test_shadow_reads_find_what_differs_off_the_callers_path(two: Two) -> None:
    two.source.sadd("same", *range(50))
    two.target.sadd("same", *range(49, -1, -1))
    two.source.set("stale", "new")
    two.target.set("stale", "old")
    with keyferry.Redis.from_urls(*two.urls, phase="shadow", shadow_share=1.0) as client:
        assert client.get("stale") == b"new"
        assert len(client.smembers("same")) == 50
        assert client.migration is not None
        counts = client.migration.counts
        until(lambda: counts.shadow_reads == 2)
        assert counts.shadow_differences == {"GET": 1}
        assert counts.reported[Reason.SHADOW] == 1
    assert two.source.smembers("keyferry:{default}:ledger") == {b"0:stale"}


def test_a_child_process_goes_on_with_connections_of_its_own(two: Two) -> None:
    client = keyferry.Redis.from_urls(*two.urls, phase="dual", mirror="background")
    client.set("parent", 1)
    child = os.fork()
    if child == 0:  # pragma: no cover - in the child
        try:
            client.set("child", 1)
            client.eval("return redis.call('set', KEYS[1], 1)", 1, "scripted")
            client.close()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    client.set("after", 1)
    client.close()
    assert two.both("child") == two.both("after") == two.both("parent") == (b"1", b"1")
    assert two.source.smembers("keyferry:{default}:ledger") == {b"0:scripted"}


def test_a_forgotten_client_keeps_nobody_waiting(two: Two) -> None:
    client = keyferry.Redis.from_urls(*two.urls, phase="dual", mirror="background", target_timeout_ms=5_000)
    two.target.client_pause(3_000)
    for number in range(20):
        client.set(f"key:{number}", number)
    began = time.monotonic()
    del client
    gc.collect()
    assert time.monotonic() - began < 1.0
    two.target.client_unpause()
    until(lambda: two.target.get("key:19") == b"19")


def test_a_command_that_nobody_knows_goes_to_the_authority_alone(two: Two) -> None:
    with keyferry.Redis.from_urls(*two.urls, phase="dual") as client:
        with pytest.raises(redis.ResponseError, match="unknown command"):
            client.execute_command("MODULE.THING", "key")
        assert client.migration is not None
        assert client.migration.counts.unknown_commands == {"MODULE.THING": 1}


def test_a_cluster_as_target_gets_every_key(two: Two, cluster: Callable[..., Cluster]) -> None:
    shards = cluster("redis-6.2", 3)
    url = shards.url.replace("redis://", "redis+cluster://")
    with keyferry.Redis.from_urls(two.urls[0], url, phase="dual") as client:
        for number in range(30):
            client.set(f"key:{number}", number)
        client.pipeline().incr("key:1").rpush("list", 1, 2).spop("list:none").execute()
    with redis.RedisCluster.from_url(shards.url) as plain:
        assert [plain.get(f"key:{number}") for number in (0, 1, 29)] == [b"0", b"2", b"29"]
        assert plain.lrange("list", 0, -1) == [b"1", b"2"]


def test_every_metric_is_documented_and_served(two: Two) -> None:
    registry = CollectorRegistry()
    register(registry)
    with keyferry.Redis.from_urls(*two.urls, phase="dual", ledger_name="metrics") as client:
        client.set("key", 1)
        client.eval("return 1", 1, "key")
        told = {"migration": "metrics"}
        value = registry.get_sample_value
        assert value("keyferry_client_phase", {**told, "phase": "dual"}) == 1
        assert value("keyferry_client_phase", {**told, "phase": "target"}) == 0
        assert value("keyferry_client_reported_keys_total", {**told, "reason": "reported"}) == 1
        assert value("keyferry_client_breaker_open", told) == 0
        legs = sum(
            value("keyferry_client_second_legs_total", {**told, "kind": kind}) or 0
            for kind in ("mirrored", "rewritten")
        )
        assert legs == 1
    served = {family.name for family in registry.collect()}
    assert served == {name for name, _, _ in NAMES}
