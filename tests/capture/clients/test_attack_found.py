"""What the attack on the clients has found: each a small case of its own."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
import redis.asyncio
from attack_settling import client_of, differences, reported, settle
from attack_steps import Steps
from redis.backoff import NoBackoff
from redis.retry import Retry

import keyferry
import keyferry.asyncio
from keyferry.capture.clients._async.platform import wait_turn
from keyferry.capture.clients.order import KeyOrder
from keyferry.capture.ledger_format import ledger_keys
from keyferry.model.phases import Phase
from keyferry.model.record import writers_key
from keyferry.testing.cluster import Cluster
from keyferry.testing.proxy import FaultProxy
from keyferry.testing.servers import HOST, Server

Pair = tuple[Server, Server]
Dual = Callable[..., Any]


@pytest.fixture
def pair(flushed: Callable[..., Server]) -> Pair:
    return flushed("redis-7.0"), flushed("redis-7.0", 1)


@pytest.fixture
def dual(pair: Pair) -> Iterator[Dual]:
    """Makes drop-ins in the phase dual, which are closed after the test."""
    made: list[Any] = []

    def make(**given: Any) -> Any:
        given = {"phase": "dual", "target_timeout_ms": 300, **given}
        source, target = given.pop("source", pair[0].url), given.pop("target", pair[1].url)
        made.append(keyferry.Redis.from_urls(source, target, **given))
        return made[-1]

    yield make
    for client in made:
        client.close()


def everything_is_named(server: Server, name: str = "default") -> bool:
    return reported(server, name) is None


def names(server: Server, name: str = "default") -> set[bytes]:
    found = reported(server, name)
    assert found is not None
    return {key for _, key in found}


# What is reported


@pytest.mark.parametrize("pipelined", [False, True])
@pytest.mark.parametrize("mirror", ["inline", "background"])
def test_a_flush_that_did_not_reach_the_mirror_side_may_have_left_any_key(
    pair: Pair, dual: Dual, mirror: str, pipelined: bool
) -> None:
    client = dual(mirror=mirror)
    client.set("key", "value")
    client._crossing.flush()
    pair[1].pause()
    try:
        (client.pipeline().flushdb().execute if pipelined else client.flushdb)()
        client._crossing.flush()
    finally:
        pair[1].resume()
    assert everything_is_named(pair[0])


def test_a_script_without_keys_that_failed_in_the_middle_may_have_changed_any_key(
    pair: Pair, dual: Dual
) -> None:
    client = dual()
    with pytest.raises(redis.ResponseError):
        client.eval("redis.call('set', 'hidden', 1) return redis.call('nosuch')", 0)
    client._crossing.flush()
    assert everything_is_named(pair[0])


def test_an_entry_ahead_of_a_pipeline_with_a_flush_is_for_every_key(pair: Pair, dual: Dual) -> None:
    client = dual(ledger="ahead", retry=Retry(NoBackoff(), 0))
    client.set("other", 1)
    client._crossing.flush()
    with FaultProxy(HOST, pair[0].port) as proxy:
        through = dual(source=proxy.url, ledger="ahead", ledger_name="cut", retry=Retry(NoBackoff(), 0))
        through.set("key", 1)
        through._crossing.flush()
        proxy.cut_after(0, "to_client")
        proxy.cut()
        proxy.cut_after(0, "to_client", times=50)
        with pytest.raises(redis.ConnectionError):
            through.pipeline().set("key", 2).flushdb().execute()
    opened = client_of(pair[0]).hvals(ledger_keys("cut").open)
    assert opened in ([b"*"], [])  # whether it has arrived or not


def test_a_key_that_went_to_another_database_is_named_there(pair: Pair, dual: Dual) -> None:
    client = dual()
    client.set("key", "value")
    pair[1].pause()
    try:
        client.copy("key", "copied", destination_db=1)
        client.pipeline().move("key", 2).execute()
        client._crossing.flush()
    finally:
        pair[1].resume()
    assert {(1, b"copied"), (2, b"key")} <= (reported(pair[0], "default") or set())


def test_after_databases_changed_places_what_was_named_before_may_be_anywhere(pair: Pair, dual: Dual) -> None:
    client = dual()
    client.eval("return redis.call('set', KEYS[1], 1)", 1, "key")
    client._crossing.flush()
    client.swapdb(0, 1)
    client._crossing.flush()
    assert settle(*pair, "default") == -1
    assert not differences(*pair)


def test_a_reply_that_was_decoded_with_losses_is_not_repeated(pair: Pair, dual: Dual) -> None:
    client = dual(decode_responses=True, encoding_errors="ignore")
    client.sadd("set", b"\xffab", "ab")
    client.srem("set", "ab")
    client_of(pair[1]).sadd("set", "ab")  # as if the mirror side were behind
    client.spop("set")
    client._crossing.flush()
    settle(*pair, "default")
    assert not differences(*pair)


def test_each_client_writes_in_its_own_encoding_to_both_sides(pair: Pair, dual: Dual) -> None:
    for encoding in ("utf-8", "latin-1"):
        dual(encoding=encoding).set(f"key in {encoding} é", "é")
    target = redis.Redis.from_url(pair[1].url)
    client: Any = keyferry.Redis.from_urls(pair[0].url, pair[1].url, phase="dual")
    other = keyferry.Redis(
        source=redis.Redis.from_url(pair[0].url, encoding="latin-1"), target=target, phase="dual"
    )
    other.set("third é", "é")
    client._crossing.flush()
    assert not differences(*pair)
    other.close()
    client.close()


def test_a_pop_that_was_waiting_while_others_wrote_is_named(pair: Pair, dual: Dual) -> None:
    """The member comes back between the pop on the source and its repetition: the repetition takes the new one away."""
    client = dual(mirror="background")
    source = client_of(pair[0])
    for _ in range(60):
        popped = threading.Thread(target=lambda: client.bzpopmin("z", timeout=5))
        popped.start()
        while not source.info("clients")["blocked_clients"]:
            time.sleep(0.001)
        source.execute_command("CLIENT", "NO-EVICT", "on")
        client.zadd("z", {"member": 1})
        client.zadd("z", {"member": 2})
        popped.join()
        client._crossing.flush()
        settle(*pair, "default")
        assert not differences(*pair)
        client.delete("z")


# What the application sees


def test_second_legs_that_do_not_get_a_reply_in_time_are_given_up_as_a_whole(pair: Pair, dual: Dual) -> None:
    with FaultProxy(HOST, pair[1].port) as proxy:
        client = dual(target=proxy.url, target_timeout_ms=500)
        client.set("warm", 1)
        proxy.delay(0.2)
        for _ in range(2):
            began = time.monotonic()
            client.set("key", "value")
            assert time.monotonic() - began < 1.2
        proxy.delay(0.0)


def test_a_cluster_target_that_is_away_is_no_exception(
    pair: Pair, start_cluster: Callable[..., Cluster]
) -> None:
    cluster = start_cluster("redis-7.0", 1)
    url = cluster.primaries[0].url.replace("redis://", "redis+cluster://")
    client: Any = keyferry.Redis.from_urls(pair[0].url, url, phase="dual", target_timeout_ms=300)
    client.set("a", 1)
    for node in cluster.nodes:
        node.kill()
    began = time.monotonic()
    for value in range(20):
        assert client.set("a", value)
    assert time.monotonic() - began < 8.0
    client._crossing.flush()
    assert b"a" in names(pair[0])
    client.close()


def test_keys_in_several_slots_of_a_cluster_target_are_named(
    pair: Pair, cluster: Callable[..., Cluster]
) -> None:
    url = cluster("redis-7.0", 3).primaries[0].url.replace("redis://", "redis+cluster://")
    client: Any = keyferry.Redis.from_urls(pair[0].url, url, phase="dual")
    client.mset({"a": 1, "b": 2, "c": 3})
    client.rename("a", "d")
    client.sunionstore("to", ["from", "other"])
    assert client.delete("b", "c", "d") == 3
    client._crossing.flush()
    assert {b"a", b"b", b"c", b"d"} <= names(pair[0])
    client.close()


def test_told_to_raise_a_skipped_leg_raises_as_well(pair: Pair, dual: Dual) -> None:
    client = dual(target="redis://127.0.0.1:1", on_target_error="raise")
    for value in range(10):
        with pytest.raises(redis.RedisError, match="second leg"):
            client.set("key", value)
        assert client_of(pair[0]).get("key") == b"%d" % value


def test_a_source_that_hangs_holds_up_each_caller_as_long_as_redis_py_would(pair: Pair, dual: Dual) -> None:
    """Turns on a key do not add up what each of those before has waited."""
    with FaultProxy(HOST, pair[0].port) as proxy:
        client = dual(source=proxy.url, socket_timeout=0.5, retry=Retry(NoBackoff(), 0))
        client.set("key", 0)
        proxy.stall(True)
        took: list[float] = []

        def write() -> None:
            began = time.monotonic()
            with pytest.raises(redis.TimeoutError):
                client.incr("key")
            took.append(time.monotonic() - began)

        threads = [threading.Thread(target=write) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        proxy.stall(False)
    assert len(took) == 10
    assert max(took) < 2.0


def test_a_client_for_threads_inside_of_an_event_loop_does_not_wait_for_that_loops_own_tasks(
    pair: Pair, dual: Dual
) -> None:
    client = dual()

    async def both() -> None:
        tasks = keyferry.asyncio.Redis.from_urls(
            pair[0].url, pair[1].url, phase="dual", target_timeout_ms=300
        )
        call: Any = tasks.set("key", "of a task")
        pending: asyncio.Task[Any] = asyncio.create_task(call)
        await asyncio.sleep(0)  # it has its turn now, and waits for its reply
        client.set("key", "of a thread")
        await pending
        await tasks.aclose()

    began = time.monotonic()
    asyncio.run(both())
    assert time.monotonic() - began < 5.0
    client._crossing.flush()
    settle(*pair, "default")
    assert not differences(*pair)


# The end


AT_EXIT = """
import keyferry, sys
client = keyferry.Redis.from_urls(sys.argv[1], sys.argv[2], phase="dual", mirror="background", target_timeout_ms=300)
client.set("before", 1)
for number in range(3000):
    client.incr("counter")
    client.rpush("list", number)
"""


@pytest.mark.parametrize("away", [False, True])
def test_what_waits_in_the_background_is_sent_or_named_when_the_program_ends(pair: Pair, away: bool) -> None:
    if away:
        pair[1].pause()
    try:
        subprocess.run([sys.executable, "-c", AT_EXIT, pair[0].url, pair[1].url], check=True, timeout=60)
    finally:
        if away:
            pair[1].resume()
    time.sleep(0.2)
    named = settle(*pair, "default")
    assert not differences(*pair)
    assert named == 0 or away


def test_what_was_begun_in_the_background_is_done_when_flush_says_so(pair: Pair, dual: Dual) -> None:
    with FaultProxy(HOST, pair[1].port) as proxy:
        client = dual(target=proxy.url, mirror="background", target_timeout_ms=2_000)
        client.set("warm", 1)
        client._crossing.flush()
        proxy.delay(0.1)
        client.set("key", 1)
        assert client._crossing.flush()
        assert client_of(pair[1]).get("key") == b"1"
        proxy.delay(0.0)


# The record


def test_a_ledger_entry_carries_the_name_under_which_its_writer_is_registered(pair: Pair) -> None:
    steps = Steps("found", *pair)
    client: Any = keyferry.Redis.from_urls(pair[0].url, pair[1].url, migration="found", ledger="ahead")
    client.set("key", 1)
    steps.step(Phase.DUAL)
    source = client_of(pair[0])
    seen: set[bytes] = set()

    def look() -> None:
        while thread.is_alive():
            seen.update(source.hkeys(ledger_keys("found").open))

    thread = threading.Thread(target=lambda: [client.incr("key") for _ in range(200)])
    thread.start()
    look()
    registered = set(source.hkeys(writers_key("found")))
    assert seen
    assert {name.rpartition(b":")[0] for name in seen} == registered
    client.close()
    steps.close()


def test_an_unknown_command_is_not_sent_on_the_strength_of_an_old_phase(pair: Pair) -> None:
    steps = Steps("found", *pair)
    client: Any = keyferry.Redis.from_urls(pair[0].url, pair[1].url, migration="found")
    client.set("key", 1)
    steps.step(Phase.DUAL)
    steps.close()
    membership = client._crossing.membership
    assert membership is not None
    with pytest.raises(redis.ResponseError):
        client.execute_command("NOSUCH", "key")
    attempts = client._crossing.counts.unknown_commands["NOSUCH"]
    assert attempts == 1
    client.close()


def test_whoever_waits_for_a_turn_in_a_loop_that_is_closed_stands_in_nobodys_way() -> None:
    order = KeyOrder()
    first, second, third = (order.take([b"k"]) for _ in range(3))
    loop = asyncio.new_event_loop()

    async def begin() -> asyncio.Task[bool]:
        waiting = asyncio.create_task(wait_turn(second, 60.0))
        await asyncio.sleep(0)
        return waiting

    waiting = loop.run_until_complete(begin())
    loop.close()
    first.leave()
    second.leave()
    assert third.ready
    third.leave()
    waiting._log_destroy_pending = False  # type: ignore[attr-defined]
