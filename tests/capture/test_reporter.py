"""Both forms of the reporter against real servers: what was to be said is on the server, however it went."""

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
from redis.backoff import NoBackoff
from redis.retry import Retry

from copying import wait_until
from keyferry.capture.clients._async.reporter import AsyncReporter
from keyferry.capture.clients._sync.reporter import Reporter
from keyferry.capture.clients.ledger import Ledger
from keyferry.capture.ledger_format import Mode, ledger_keys, unpack
from keyferry.testing.binaries import server_names
from keyferry.testing.cluster import Cluster
from keyferry.testing.proxy import FaultProxy
from keyferry.testing.servers import Server

KEYS = ledger_keys("orders")


def client_of(port: int, database: int = 0) -> Any:
    retry = Retry(NoBackoff(), 0)
    return redis.Redis(host="127.0.0.1", port=port, db=database, socket_timeout=1, retry=retry)


@pytest.fixture
def client(server: Server) -> Iterator[Any]:
    """Of a server that is empty."""
    with client_of(server.port) as its:
        yield its


def _threads() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


def names(client: Any) -> set[bytes]:
    return set(client.smembers(KEYS.dirty))


def test_what_is_named_arrives_by_itself(client: Any) -> None:
    ledger = Ledger("orders", 0, writer=b"w1")
    reporter = Reporter(ledger, lambda: client, ahead=True)
    reporter.start()
    reporter.start()
    ledger.add([b"a"], "failed")
    wait_until(lambda: names(client) == {b"0:a"}, "the key is named")
    entry = ledger.open([b"b", b"c"])
    client.hset(entry[1], entry[2], entry[3])
    assert unpack(client.hgetall(KEYS.open)[entry[2]]) == [b"0:b", b"0:c"]
    ledger.close(entry)
    wait_until(lambda: not client.exists(KEYS.open), "the entry is gone")
    assert names(client) == {b"0:a", b"0:b", b"0:c"}
    assert client.smembers(KEYS.modes) == {Mode.AHEAD}
    assert reporter.stop()


def test_a_flush_says_all_that_was_named_before_it(client: Any) -> None:
    ledger = Ledger("orders")
    reporter = Reporter(ledger, lambda: client, every_s=60)
    reporter.start()
    ledger.add([b"%d" % number for number in range(2500)], "failed")
    assert reporter.flush(5)
    assert len(names(client)) == 2500
    ledger.add([b"more"], "failed")
    assert reporter.flush(5)
    assert b"0:more" in names(client)
    assert reporter.stop()


def test_no_key_of_ours_is_there_before_there_is_something_to_say(client: Any) -> None:
    ledger = Ledger("orders")
    reporter = Reporter(ledger, lambda: client, announces=False)
    reporter.start()
    assert reporter.flush(5)
    assert not client.keys()
    ledger.add([b"a"], "failed")
    assert reporter.flush(5)
    assert client.smembers(KEYS.modes) == {Mode.FAILURES}
    assert names(client) == {b"0:a"}
    assert reporter.stop()


def test_what_cannot_be_said_waits_for_the_server(client: Any, server: Server) -> None:
    with FaultProxy("127.0.0.1", server.port) as proxy, client_of(proxy.port) as through:
        ledger = Ledger("orders")
        reporter = Reporter(ledger, lambda: through)
        reporter.start()
        assert reporter.flush(5)
        proxy.refuse(True)
        proxy.cut()
        ledger.add([b"a"], "failed")
        assert not reporter.flush(0.5)
        wait_until(lambda: reporter.failures, "the flush has failed")
        assert not names(client)
        proxy.refuse(False)
        assert reporter.flush(10)
        assert names(client) == {b"0:a"}
        assert not reporter.failures
        assert reporter.stop()


def test_a_flush_ends_in_time_when_the_server_is_silent(client: Any, server: Server) -> None:
    with FaultProxy("127.0.0.1", server.port) as proxy, client_of(proxy.port) as through:
        ledger = Ledger("orders")
        reporter = Reporter(ledger, lambda: through)
        reporter.start()
        assert reporter.flush(5)
        proxy.stall(True)
        ledger.add([b"a"], "failed")
        began_s = time.monotonic()
        assert not reporter.flush(0.3)
        assert not reporter.stop(0.3)
        assert time.monotonic() - began_s < 2
        proxy.stall(False)
        wait_until(lambda: "keyferry-reporter" not in _threads(), "its thread has ended")


def test_more_than_can_be_kept_is_everything_when_it_can_be_said(client: Any, server: Server) -> None:
    with FaultProxy("127.0.0.1", server.port) as proxy, client_of(proxy.port) as through:
        ledger = Ledger("orders", keys_max=10)
        reporter = Reporter(ledger, lambda: through)
        reporter.start()
        proxy.refuse(True)
        proxy.cut()
        ledger.add([b"%d" % number for number in range(11)], "failed")
        assert not reporter.flush(0.3)
        assert ledger.overflowed
        proxy.refuse(False)
        assert reporter.flush(10)
        assert client.exists(KEYS.full)
        assert reporter.stop()


def test_it_follows_the_authority(client: Any, server: Server) -> None:
    with client_of(server.port, 1) as other:
        ledger, sides = Ledger("orders"), [client]
        reporter = Reporter(ledger, lambda: sides[0])
        reporter.start()
        ledger.add([b"a"], "failed")
        assert reporter.flush(5)
        sides[0] = other
        ledger.add([b"b"], "failed")
        assert reporter.flush(5)
        assert names(client) == {b"0:a"}
        assert names(other) == {b"0:b"}
        assert other.smembers(KEYS.modes) == {Mode.FAILURES}
        assert reporter.stop()


def test_tasks_do_the_same(client: Any, server: Server) -> None:
    async def run() -> None:
        async with redis.asyncio.Redis(host="127.0.0.1", port=server.port, socket_timeout=1) as its:
            ledger = Ledger("orders", writer=b"w1")
            reporter = AsyncReporter(ledger, lambda: its, ahead=True)
            reporter.start()
            ledger.add([b"a"], "failed")
            entry = ledger.open([b"b"])
            await its.hset(entry[1], entry[2], entry[3])
            ledger.close(entry)
            assert await reporter.flush(5)
            assert await its.smembers(KEYS.dirty) == {b"0:a", b"0:b"}
            assert not await its.exists(KEYS.open)
            ledger.add([b"c"], "failed")
            assert await reporter.stop()
            assert await its.smembers(KEYS.dirty) == {b"0:a", b"0:b", b"0:c"}

    asyncio.run(run())


def test_a_task_that_is_cancelled_gives_back_what_it_has_not_said(client: Any, server: Server) -> None:
    async def run() -> None:
        with FaultProxy("127.0.0.1", server.port) as proxy:
            its = redis.asyncio.Redis(host="127.0.0.1", port=proxy.port, socket_timeout=30)
            ledger = Ledger("orders")
            reporter = AsyncReporter(ledger, lambda: its)
            reporter.start()
            assert await reporter.flush(5)
            proxy.stall(True)
            ledger.add([b"a"], "failed")
            assert not await reporter.flush(0.2)
            assert not len(ledger)  # under way
            assert not await reporter.stop(0.2)
            assert len(ledger) == 1
            await its.aclose()

    asyncio.run(run())


AT_EXIT = """
import sys, redis
from keyferry.capture.clients._sync.reporter import Reporter
from keyferry.capture.clients.ledger import Ledger
ledger = Ledger("orders")
client = redis.Redis(host="127.0.0.1", port=int(sys.argv[1]), socket_timeout=1)
reporter = Reporter(ledger, lambda: client, every_s=60)
reporter.start()
assert reporter.flush(5)
ledger.add([b"last"], "failed")
"""


def test_a_process_says_it_before_it_ends(client: Any, server: Server) -> None:
    subprocess.run([sys.executable, "-c", AT_EXIT, str(server.port)], check=True, timeout=30)
    assert names(client) == {b"0:last"}


def test_a_cluster_has_it_on_one_node(cluster: Callable[..., Cluster]) -> None:
    its = cluster(server_names()[0])
    node = its.primaries[0]
    with redis.RedisCluster(host="127.0.0.1", port=node.port, socket_timeout=1) as client:
        ledger = Ledger("orders", writer=b"w1")
        reporter = Reporter(ledger, lambda: client, ahead=True)
        reporter.start()
        ledger.add([b"%d" % number for number in range(100)], "failed")
        entry = ledger.open([b"b"])
        client.hset(entry[1], entry[2], entry[3])
        ledger.close(entry)
        assert reporter.flush(5)
        assert len(client.smembers(KEYS.dirty)) == 101
        assert not client.exists(KEYS.open)
        assert reporter.stop()


def test_tasks_do_the_same_with_a_cluster(cluster: Callable[..., Cluster]) -> None:
    its = cluster(server_names()[0])

    async def run() -> None:
        async with redis.asyncio.RedisCluster(host="127.0.0.1", port=its.primaries[0].port) as client:
            ledger = Ledger("orders")
            reporter = AsyncReporter(ledger, lambda: client)
            reporter.start()
            ledger.add([b"a"], "failed")
            assert await reporter.flush(5)
            assert await client.smembers(KEYS.dirty) == {b"0:a"}
            assert await reporter.stop()

    asyncio.run(run())
