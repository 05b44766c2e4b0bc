"""What redis-py's own retries do to a counter over a cut connection, and the setting that prevents it.

The server runs INCR, the connection breaks before the reply is there, redis-py sends INCR again: one call counts
twice, with redis-py alone as with ours. docs/clients.md says so.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

import keyferry
import keyferry.asyncio
from keyferry.testing.proxy import FaultProxy
from keyferry.testing.servers import Server

REPLY_TAKES_S = 0.5
WAIT_S = 10.0

RETRIES_BY_DEFAULT = int(redis.__version__.split(".")[0]) >= 6


@pytest.fixture
def servers(flushed: Callable[..., Server]) -> tuple[Server, Server]:
    return flushed("redis-7.0"), flushed("valkey-9.1")


def value(server: Server) -> int:
    with server.session() as session:
        reply = session.call("GET", "counter")
    return int(reply) if isinstance(reply, bytes) else 0


@contextmanager
def losing_the_reply(source: Server) -> Iterator[FaultProxy]:
    """A way to the source on which the first reply to an INCR is lost, after the server has counted."""
    with FaultProxy("127.0.0.1", source.port) as proxy:
        proxy.delay(REPLY_TAKES_S / 2)

        def cut() -> None:
            until_s = time.monotonic() + WAIT_S
            while not value(source) and time.monotonic() < until_s:
                time.sleep(0.01)
            proxy.cut()
            proxy.delay(0)

        thread = threading.Thread(target=cut)
        thread.start()
        yield proxy
        thread.join()


def client(kind: str, proxy: FaultProxy, target: Server, **more: Any) -> Any:
    where = {"host": "127.0.0.1", "port": proxy.port, **more}
    if kind == "redis-py":
        return redis.Redis(**where)
    return keyferry.Redis(**where, target=target.url, phase="dual")


@pytest.mark.skipif(not RETRIES_BY_DEFAULT, reason="redis-py retries by default since 6.0")
@pytest.mark.parametrize("kind", ["redis-py", "keyferry"])
def test_by_default_one_call_may_count_twice(kind: str, servers: tuple[Server, Server]) -> None:
    source, target = servers
    with losing_the_reply(source) as proxy, client(kind, proxy, target) as r:
        assert r.incr("counter") == 2, "one call"
        assert value(source) == 2
        if kind == "keyferry":
            assert r.migration.counts.reported["doubtful"] == 1, "the key is settled, whatever was mirrored"


@pytest.mark.parametrize("kind", ["redis-py", "keyferry"])
def test_without_retries_the_application_hears_of_it(kind: str, servers: tuple[Server, Server]) -> None:
    source, target = servers
    never = Retry(NoBackoff(), 0)
    with losing_the_reply(source) as proxy, client(kind, proxy, target, retry=never) as r:
        with pytest.raises(redis.ConnectionError):
            r.incr("counter")
        assert value(source) == 1
        if kind == "keyferry":
            assert r.migration.counts.reported["doubtful"] == 1
            assert value(target) == 0, "nothing is repeated of which nobody knows whether it counts"


def test_the_same_with_asyncio(servers: tuple[Server, Server]) -> None:
    source, target = servers

    async def incr(proxy: FaultProxy, **more: Any) -> int:
        async with keyferry.asyncio.Redis(
            host="127.0.0.1", port=proxy.port, target=target.url, phase="dual", **more
        ) as r:
            return int(await r.incr("counter"))

    if RETRIES_BY_DEFAULT:
        with losing_the_reply(source) as proxy:
            assert asyncio.run(incr(proxy)) == 2
    with source.session() as session:
        session.call("DEL", "counter")
    from redis.asyncio.retry import Retry as AsyncRetry

    with losing_the_reply(source) as proxy, pytest.raises(redis.ConnectionError):
        asyncio.run(incr(proxy, retry=AsyncRetry(NoBackoff(), 0)))
    assert value(source) == 1
    gc.collect()  # a connection that nobody closed is said here, and not in some other test


@pytest.mark.parametrize("kind", ["redis-py", "keyferry"])
@pytest.mark.parametrize("again", [False, True])
def test_from_url_sends_again_only_when_told_to(
    kind: str, again: bool, servers: tuple[Server, Server]
) -> None:
    source, target = servers
    told = {"retry": Retry(NoBackoff(), 1), "retry_on_error": [redis.ConnectionError]}
    more: dict[str, Any] = told if again else {}
    with losing_the_reply(source) as proxy:
        if kind == "redis-py":
            r = redis.Redis.from_url(proxy.url, **more)
        else:
            r = keyferry.Redis.from_urls(proxy.url, target.url, phase="dual", **more)
        with r:
            if again:
                assert r.incr("counter") == 2
            else:
                with pytest.raises(redis.ConnectionError):
                    r.incr("counter")
    assert value(source) == 1 + again
