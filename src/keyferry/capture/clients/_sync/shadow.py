# Written by `make generate` from _async/shadow.py: change that one.
"""Shadow reads: a sample of the application's reads is repeated on the other side, off the caller's path, and compared.

What differs is counted by command, logged with its keys (never values) and reported for settling. Under load a read
may differ because a write came between its two halves: a count that stays is the sign, not a single one.
"""

from __future__ import annotations

import logging
import random
from collections import deque
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError

from keyferry.capture.clients._sync.ends import get_connection
from keyferry.capture.clients._sync.platform import Event, Worker, spawn, wait_event
from keyferry.capture.clients.compare import alike
from keyferry.capture.clients.counts import Reason
from keyferry.model.commands import CommandInfo, Replies, keys_of
from keyferry.model.phases import Side

if TYPE_CHECKING:
    from keyferry.capture.clients._sync.crossing import Crossing

log = logging.getLogger("keyferry.clients")

_WAITING_MAX = 1_000  # reads that wait to be repeated; more are left out of the sample
_IDLE_SECONDS = 5.0


class Shadow:
    """The sample and its worker.

    Args:
        crossing: whose reads they are.
    """

    def __init__(self, crossing: Crossing) -> None:
        self._crossing = crossing
        self._share = crossing.options.shadow_share
        self._waiting: deque[tuple[Side, CommandInfo, tuple[Any, ...], Any]] = deque()
        self._wake = Event()
        self._worker: Worker | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def offer(self, side: Side, info: CommandInfo, args: tuple[Any, ...], reply: Any) -> None:
        """A read that the authority has answered; perhaps it is one of the sample.

        Args:
            side: where to repeat it.
            info: what the table says of the command.
            args: the command.
            reply: the authority's raw reply.
        """
        if info.replies is Replies.VARIES or info.blocking or random.random() >= self._share:
            return
        if len(self._waiting) >= _WAITING_MAX:
            return
        self._waiting.append((side, info, args, reply))
        if self._worker is None or not self._worker.alive():
            self._worker = spawn(self._work, "keyferry-shadow")
        self._wake.set()

    def _work(self) -> None:
        while True:
            if not self._waiting:
                if not wait_event(self._wake, _IDLE_SECONDS):
                    self._worker = None
                    if not self._waiting:
                        return
                self._wake.clear()
                continue
            side, info, args, reply = self._waiting.popleft()
            try:
                other = self._repeat(side, args)
            except (RedisError, OSError):
                continue  # the mirror side is away or refuses: nothing is learned
            crossing = self._crossing
            crossing.counts.shadow_reads += 1
            if not alike(reply, other, unordered=info.replies is Replies.UNORDERED):
                keys = [crossing.encode(key) for key in keys_of(info, args)]
                crossing.counts.shadow_differences[info.name] += 1
                log.warning(
                    "a shadow read differs: %s of %s",
                    info.name,
                    keys,
                    extra=crossing.facts(command=info.name, keys=keys),
                )
                crossing.report(keys, Reason.SHADOW)

    def _repeat(self, side: Side, args: tuple[Any, ...]) -> Any:
        end = self._crossing.ends[side]
        if end.pool is None:
            return end.cluster.execute_command(*args)
        pool = self._crossing.speaker(side).connection_pool
        connection = get_connection(pool)
        try:
            connection.send_command(*args)
            return connection.read_response(disable_decoding=True)
        except RedisError:
            connection.disconnect()
            raise
        finally:
            pool.release(connection)
