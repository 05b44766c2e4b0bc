"""What differs between threads and tasks; `_async/platform.py` has the same names for tasks. Both by hand."""

from __future__ import annotations

import atexit
import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from redis import BlockingConnectionPool, Connection, ConnectionPool, RedisCluster
from redis import Redis as BaseRedis
from redis.client import Monitor
from redis.client import Pipeline as BasePipeline
from redis.client import PubSub as BasePubSub
from redis.cluster import ClusterNode
from redis.connection import SSLConnection, UnixDomainSocketConnection, parse_url
from redis.retry import Retry
from redis.sentinel import SentinelConnectionPool

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

IS_ASYNC = False

Event = threading.Event
Lock = threading.Lock
sleep = time.sleep


class Worker:
    """A daemon thread."""

    def __init__(self, thread: threading.Thread) -> None:
        self._thread = thread

    def alive(self) -> bool:
        """Whether it runs; not after a fork."""
        return self._thread.is_alive()

    def join(self, timeout_seconds: float) -> bool:
        """Waits for its end; False when it is still running after the time."""
        if self._thread is threading.current_thread():
            return False
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def stop(self, timeout_seconds: float = 1.0) -> None:
        """Waits for its end. A thread cannot be cancelled: whoever stops it has told it to end before."""
        self.join(timeout_seconds)


def spawn(work: Callable[[], None], name: str) -> Worker:
    """Starts work in a daemon thread."""
    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    return Worker(thread)


def wait_event(event: threading.Event, timeout_seconds: float) -> bool:
    """Waits until the event is set; False when it is not after the time."""
    return event.wait(timeout_seconds)


def wait_turn(turn: Turn, timeout_seconds: float) -> bool:
    """Waits until it is this operation's turn on all its keys; False when it is not after the time."""
    come = threading.Lock()
    come.acquire()
    return not turn.when_come(come.release) or come.acquire(timeout=timeout_seconds)


def context_key() -> object:
    """What clients must share to share connections: nothing, threads share all."""
    return None


def settled(value: Any) -> Any:
    """A result, which is there already."""
    return value


def arrival(connection: Any, timeout_seconds: float) -> Any:
    """What a subscribed connection brings next; None when nothing comes in the time."""
    return connection.read_response(disable_decoding=True) if connection.can_read(timeout_seconds) else None


def drop(connection: Any) -> None:
    """Closes a connection without waiting for the other end."""
    connection.disconnect()


def interrupt(connection: Any) -> None:
    """Ends an `arrival` that another thread waits for, with an error there."""
    held = connection._sock
    if held is not None:
        with contextlib.suppress(OSError):
            held.shutdown(socket.SHUT_RDWR)


def hang_up(connection: Any) -> None:
    """Ends a connection that another thread may be reading: it gets an error, and closes it."""
    interrupt(connection)


def at_exit(work: Callable[[], Any]) -> None:
    """Has it done before the interpreter ends."""
    atexit.register(work)


def transactional(pipeline: Any) -> bool:
    """Whether a pipeline was asked to be a transaction."""
    return bool(pipeline.transaction)
