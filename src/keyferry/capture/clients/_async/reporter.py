"""Sends what a ledger has to say to the side with authority, in the background, and at once when it is asked to.

Whatever cannot be said waits in the ledger, which is bounded: it says "everything" when it can again.
"""

from __future__ import annotations

import functools
import logging
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

from redis.exceptions import RedisClusterException, RedisError

from keyferry.capture.clients._async.platform import Event, Worker, at_exit, spawn, wait_event
from keyferry.capture.clients.ledger import Command, Ledger, Reports, Steps
from keyferry.capture.ledger_format import Mode

logger = logging.getLogger("keyferry.clients")

EVERY_S = 0.05
BITE = 1000
IDLE_S = 30.0
RETRY_S, RETRY_S_MAX = 0.1, 2.0
STOP_S = 1.0


class AsyncReporter:
    """Of one ledger.

    Args:
        authority: Gives the client of the side that has authority now: one of redis-py's own, standalone or cluster,
            in the ledger's database, and with socket timeouts: they bound how long a flush may hang.
        ahead: The ledger has an entry for each operation.
        announces: Says at once that this ledger has writers; else together with its first report, so that an
            application finds no key of ours before there is something to say.
        every_s: Between two flushes.
    """

    def __init__(
        self,
        ledger: Ledger,
        authority: Callable[[], Any],
        *,
        ahead: bool = False,
        announces: bool = True,
        every_s: float = EVERY_S,
    ) -> None:
        self._ledger, self._authority, self._every_s = ledger, authority, every_s
        self._mode = Mode.AHEAD if ahead else Mode.FAILURES
        self._announces = announces
        self._introduced: object = None
        self._worker: Worker | None = None
        self._something, self._now = Event(), Event()
        self._asked: deque[Any] = deque()
        self._stopping = self._sending = False
        self.failures = 0
        """Flushes that could not be sent, in a row."""
        self.last_error: BaseException | None = None
        ledger.wake = self._something.set

    @property
    def silent(self) -> bool:
        """Whether a ``flush`` would have nothing to send: all is said that was there before this was asked."""
        return not (self._sending or len(self._ledger)) and (
            self._introduced is not None or not self._announces
        )

    def start(self) -> None:
        """Begins to send, and says that this ledger has writers; again without effect while it runs.

        To be called before the first write goes to both sides; in a child process its ledger needs another reporter.
        """
        if self._worker is not None and self._worker.alive():
            return
        self._stopping = False
        self._something.set()
        self._worker = spawn(self._work, "keyferry-reporter")
        at_exit(functools.partial(_stop_at_exit, weakref.ref(self)))

    async def flush(self, timeout_s: float) -> bool:
        """Sends all that there was to say when this was called; False: it is not known to have been said in time."""
        if self._worker is None or not self._worker.alive():
            return not len(self._ledger)
        said = Event()
        self._asked.append(said)
        self._now.set()
        self._something.set()
        return await wait_event(said, timeout_s)

    async def stop(self, timeout_s: float = STOP_S) -> bool:
        """Sends what there is to say, and ends; False: something is left that could not be said in time."""
        worker, self._worker = self._worker, None
        if worker is None:
            return not len(self._ledger)
        self._stopping = True
        self._now.set()
        self._something.set()
        await worker.stop(timeout_s)
        return not worker.alive() and not len(self._ledger)

    async def _work(self) -> None:
        while True:
            await wait_event(self._something, IDLE_S)
            self._something.clear()
            self._now.clear()
            stopping = self._stopping
            asked = [self._asked.popleft() for _ in range(len(self._asked))]
            self._sending = True  # before anything is taken out of the ledger
            sent = await self._send_all()
            self._sending = False
            if sent:
                for said in asked:
                    said.set()
            else:
                self._asked.extendleft(reversed(asked))
                self._something.set()
            if stopping:
                return
            pause_s = (
                min(RETRY_S_MAX, RETRY_S * 2.0 ** min(self.failures, 10)) if self.failures else self._every_s
            )
            await wait_event(self._now, pause_s)

    async def _send_all(self) -> bool:
        """Whether all is said that there was to say when this began."""
        try:
            client = self._authority()
            if client is not self._introduced and (self._announces or len(self._ledger)):
                await self._exchange(client, [("SADD", self._ledger.keys.modes, self._mode)])
                self._introduced = client
            members, entries = self._ledger.backlog
            while (reports := self._ledger.take(BITE)) is not None:
                await self._send(client, reports)
                members, entries = members - len(reports.members), entries - len(reports.entries)
                if members <= 0 and entries <= 0:
                    break  # what has come since is the next flush's
        except (RedisError, RedisClusterException, OSError) as error:
            self.failures += 1
            if self.failures == 1:
                logger.warning("The ledger cannot be written now; it is kept: %s", error)
            self.last_error = error
            return False
        self.failures = 0
        return True

    async def _send(self, client: Any, reports: Reports) -> None:
        said = False
        try:
            steps = self._ledger.steps(reports)
            replies: list[Any] | None = None
            while (commands := _next_step(steps, replies)) is not None:
                replies = await self._exchange(client, commands)
            said = True
        finally:  # also when this task is cancelled
            if not said:
                self._ledger.put_back(reports)

    async def _exchange(self, client: Any, commands: list[Command]) -> list[Any]:
        """Raises RedisError or OSError when one of them could not be done."""
        pipeline = client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        return list(await pipeline.execute())


def _next_step(steps: Steps, replies: list[Any] | None) -> list[Command] | None:
    try:
        return next(steps) if replies is None else steps.send(replies)
    except StopIteration:
        return None


async def _stop_at_exit(reporter: weakref.ref[AsyncReporter]) -> None:
    its = reporter()
    if its is not None:
        await its.stop()


__all__ = ["AsyncReporter"]
