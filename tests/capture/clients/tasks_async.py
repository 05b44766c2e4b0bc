"""What the tests of both clients do differently with tasks and threads; `tasks_sync.py` has the same names."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any

import redis.asyncio
from redis.asyncio.retry import Retry

from keyferry.asyncio import Redis

__all__ = ["PlainRedis", "Redis", "Retry", "Running", "aside", "in_a_loop", "kept", "pause", "start"]

PlainRedis = redis.asyncio.Redis
pause = asyncio.sleep
_kept: list[Any] = []


def kept(client: Any) -> Any:
    """A client or subscriber that is closed when the test ends, however it ends."""
    _kept.append(client)
    return client


def in_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Makes a test of a coroutine function."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(within(*args, **kwargs))

    async def within(*args: Any, **kwargs: Any) -> None:
        try:
            await test(*args, **kwargs)
        finally:
            while _kept:
                await _kept.pop().aclose()

    return run


async def aside(work: Callable[..., Any], *args: Any) -> Any:
    """Does what waits for a server or sleeps, while everything else goes on."""
    return await asyncio.to_thread(work, *args)


class Running:
    """Work that goes on beside the test."""

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self._task = task

    @property
    def done(self) -> bool:
        return self._task.done()

    async def result(self, timeout_seconds: float = 10.0) -> Any:
        """What it gave, or its error."""
        return await asyncio.wait_for(self._task, timeout_seconds)


def start(work: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> Running:
    """Starts work beside the test."""
    return Running(asyncio.get_running_loop().create_task(work(*args)))
