"""What differs between tasks and threads; `_sync/platform.py` has the same names for threads. Both by hand."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from redis.asyncio import BlockingConnectionPool, Connection, ConnectionPool, RedisCluster
from redis.asyncio import Redis as BaseRedis
from redis.asyncio.client import Monitor
from redis.asyncio.client import Pipeline as BasePipeline
from redis.asyncio.client import PubSub as BasePubSub
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import SSLConnection, UnixDomainSocketConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool

from keyferry.capture.clients.order import Turn

__all__ = [
    "IS_ASYNC",
    "BasePipeline",
    "BasePubSub",
    "BaseRedis",
    "BlockingConnectionPool",
    "ClusterNode",
    "Connection",
    "ConnectionPool",
    "Event",
    "Lock",
    "Monitor",
    "RedisCluster",
    "Retry",
    "SSLConnection",
    "SentinelConnectionPool",
    "UnixDomainSocketConnection",
    "Worker",
    "arrival",
    "at_exit",
    "context_key",
    "drop",
    "hang_up",
    "interrupt",
    "parse_url",
    "settled",
    "sleep",
    "spawn",
    "transactional",
    "wait_event",
    "wait_turn",
]

IS_ASYNC = True

Event = asyncio.Event
Lock = asyncio.Lock
sleep = asyncio.sleep


class Worker:
    """A task in the background."""

    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task = task

    def alive(self) -> bool:
        """Whether it runs; not after a fork, and not when its event loop is gone."""
        return not self._task.done() and not self._task.get_loop().is_closed()

    async def join(self, timeout_seconds: float) -> bool:
        """Waits for its end; False when it is still running after the time."""
        done, _ = await asyncio.wait({self._task}, timeout=timeout_seconds)
        return bool(done)

    async def stop(self, timeout_seconds: float = 1.0) -> None:
        """Ends it: by its own end if it comes in time, else by cancelling."""
        if not self._task.done() and not await self.join(timeout_seconds):
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=max(timeout_seconds, 1.0))


def spawn(work: Callable[[], Coroutine[Any, Any, None]], name: str) -> Worker:
    """Starts work in the background of the running event loop."""
    task = asyncio.get_running_loop().create_task(work(), name=name)
    _WORKERS.add(task)
    return Worker(task)


_WORKERS: weakref.WeakSet[asyncio.Task[None]] = weakref.WeakSet()


def _end_if_cancelled() -> None:
    """Ends a worker that was cancelled and does not know it.

    redis-py sends under `asyncio.wait_for`, which before Python 3.12 forgets a cancellation that comes just when the
    sending is done. The worker would go on, and `asyncio.run` wait for it for ever.
    """
    task = asyncio.current_task()
    if task in _WORKERS and task is not None and task.cancelling():
        raise asyncio.CancelledError


async def wait_event(event: asyncio.Event, timeout_seconds: float) -> bool:
    """Waits until the event is set; False when it is not after the time."""
    _end_if_cancelled()
    if event.is_set():
        return True
    try:
        async with asyncio.timeout(timeout_seconds):
            await event.wait()
    except TimeoutError:
        return event.is_set()
    return True


async def wait_turn(turn: Turn, timeout_seconds: float) -> bool:
    """Waits until it is this operation's turn on all its keys; False when it is not after the time."""
    loop = asyncio.get_running_loop()
    come: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not come.done():
            come.set_result(None)

    def tell() -> None:
        with contextlib.suppress(RuntimeError):  # a loop that is closed: nobody waits any more
            loop.call_soon_threadsafe(wake)

    if turn.when_come(tell):
        await asyncio.wait({come}, timeout=timeout_seconds)
        return come.done()
    return True


def context_key() -> object:
    """What clients must share to share connections: the event loop that runs them, None outside of one."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


async def settled(value: Awaitable[Any] | Any) -> Any:
    """A result that may have to be waited for."""
    return await value if isinstance(value, Awaitable) else value


async def arrival(connection: Any, timeout_seconds: float) -> Any:
    """What a subscribed connection brings next; None when nothing comes in the time."""
    _end_if_cancelled()
    return await connection.read_response(disable_decoding=True, timeout=timeout_seconds)


async def drop(connection: Any) -> None:
    """Closes a connection without waiting for the other end."""
    await connection.disconnect(nowait=True)


def interrupt(connection: Any) -> None:
    """Ends an `arrival` that somebody waits for: a task is cancelled instead."""


async def hang_up(connection: Any) -> None:
    """Ends a connection that somebody may be reading: they get an error."""
    await connection.disconnect(nowait=True)


def at_exit(work: Callable[[], Any]) -> None:
    """Before the interpreter ends there is no event loop to do anything in."""


def transactional(pipeline: Any) -> bool:
    """Whether a pipeline was asked to be a transaction; its `transaction` is a method here."""
    return bool(pipeline.is_transaction)
