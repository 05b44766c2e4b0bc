"""What the tests of both clients do differently with threads and tasks; `tasks_async.py` has the same names."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from typing import Any

import redis
from redis.retry import Retry

from keyferry import Redis

__all__ = ["PlainRedis", "Redis", "Retry", "Running", "aside", "in_a_loop", "kept", "pause", "start"]

PlainRedis = redis.Redis
pause = time.sleep
_kept: list[Any] = []


def kept(client: Any) -> Any:
    """A client or subscriber that is closed when the test ends, however it ends."""
    _kept.append(client)
    return client


def in_a_loop(test: Callable[..., None]) -> Callable[..., None]:
    """The test itself."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            test(*args, **kwargs)
        finally:
            while _kept:
                _kept.pop().close()

    return run


def aside(work: Callable[..., Any], *args: Any) -> Any:
    """Does it."""
    return work(*args)


class Running:
    """Work that goes on beside the test."""

    def __init__(self, work: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._work, self._args = work, args
        self._value: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._value = self._work(*self._args)
        except BaseException as error:  # noqa: BLE001 - given to whoever asks for the result
            self._error = error

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    def result(self, timeout_seconds: float = 10.0) -> Any:
        """What it gave, or its error."""
        self._thread.join(timeout_seconds)
        if self._thread.is_alive():
            raise TimeoutError
        if self._error is not None:
            raise self._error
        return self._value


def start(work: Callable[..., Any], *args: Any) -> Running:
    """Starts work beside the test."""
    return Running(work, args)
