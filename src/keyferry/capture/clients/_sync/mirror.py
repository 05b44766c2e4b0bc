# Written by `make generate` from _async/mirror.py: change that one.
"""Second legs: what succeeded on the authority is repeated on the mirror side, and never breaks the application.

A leg has a time budget, is never sent twice, and tells what became of every key: done, refused, unknown, differed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from keyferry.capture.clients._sync.ends import End, close_pool, get_connection, mirror_pool
from keyferry.capture.clients._sync.nodes import Nodes
from keyferry.capture.clients._sync.platform import ConnectionPool
from keyferry.capture.clients.breaker import Breaker
from keyferry.capture.clients.counts import Reason
from keyferry.capture.clients.errors import MirrorError
from keyferry.capture.clients.packing import packed
from keyferry.capture.clients.seldom import Seldom
from keyferry.model.second import UNTOLD

if TYPE_CHECKING:
    from keyferry.capture.clients._sync.crossing import Crossing

log = logging.getLogger("keyferry.clients")

# A server seldom closes a connection that was used so short a while ago; should it, the leg is reported as unknown.
_FRESH_SECONDS = 1.0
DIALS_AHEAD: ContextVar[bool] = ContextVar("keyferry_dials_ahead", default=False)
"""The connection that this thread or task makes is for second legs to the side that still has authority."""


class Batch:
    """What one operation has to say to the mirror side.

    Attributes:
        commands: the commands, as redis-py packs them.
        keys: the keys of each.
        expected: the authority's reply to each, or UNTOLD where the two need not be alike.
        atomic: all or nothing, as the application's own transaction was.
        entry: the ledger entry that is over when this is, or None.
        everything: one of the commands changes keys that it does not name.
    """

    __slots__ = ("atomic", "commands", "entry", "everything", "expected", "keys")

    def __init__(self, *, atomic: bool = False) -> None:
        self.commands: list[Sequence[Any]] = []
        self.keys: list[Sequence[bytes]] = []
        self.expected: list[Any] = []
        self.atomic = atomic
        self.entry: Any = None
        self.everything = False

    def add(self, command: Sequence[Any], keys: Sequence[bytes], expected: Any) -> None:
        """One more command."""
        self.commands.append(command)
        self.keys.append(keys)
        self.expected.append(expected)

    @property
    def all_keys(self) -> list[bytes]:
        return [key for keys in self.keys for key in keys]


class Mirror:
    """Takes second legs to one side.

    Args:
        crossing: whose counts, ledger and registration it uses.
        end: the side.
    """

    def __init__(self, crossing: Crossing, end: End) -> None:
        self._crossing = crossing
        self._end = end
        self.breaker = Breaker()
        self._seldom = Seldom()
        # Kept beside the pool: to take one from there costs as much as to use it.
        self._idle: dict[ConnectionPool, list[tuple[Any, float]]] = {}
        seconds, greeting = crossing.options.target_timeout_ms / 1000, crossing.on_mirror_connect
        self._pool = None if end.pool is None else mirror_pool(end.pool, seconds, greeting(end.side))
        self._nodes = None
        if end.pool is None:
            self._nodes = Nodes(end.cluster, seconds, lambda node: greeting(end.side, node))

    def carry(self, batches: Sequence[Batch]) -> None:
        """Sends what several operations have to say, in order, and reports what did not arrive.

        Raises:
            MirrorError: something failed and the client was made with on_target_error="raise".
        """
        crossing = self._crossing
        if not self.breaker.allows(time.monotonic()):
            self._give_up(batches, Reason.SKIPPED)
            return
        commands: list[Sequence[Any]] = []
        keys = [its for batch in batches for its in batch.keys]
        for batch in batches:
            if batch.atomic and self._pool is not None:
                commands.append(("MULTI",))
                commands.extend(batch.commands)
                commands.append(("EXEC",))
            else:
                commands.extend(batch.commands)
        try:
            replies = self._send(commands, keys)
        except (RedisConnectionError, RedisTimeoutError, OSError) as error:
            self.breaker.failed(time.monotonic())
            count = self._seldom.due("silent", time.monotonic())
            if count is not None:
                log.warning(
                    "the %s did not answer a second leg: %s",
                    self._end.side,
                    type(error).__name__,
                    extra=crossing.facts(side=str(self._end.side), count=count),
                )
            self._give_up(batches, Reason.UNKNOWN, error)
            return
        except RedisError as error:
            self._give_up(batches, Reason.UNKNOWN, error)
            return
        except BaseException:
            # Cancelled: it may have been sent.
            self._give_up(batches, Reason.UNKNOWN)
            raise
        self.breaker.succeeded()
        begin = 0
        failed: Exception | None = None
        for batch in batches:
            count = len(batch.commands)
            if batch.atomic and self._pool is not None:
                part = replies[begin + count + 1]
                begin += count + 2
                if not isinstance(part, list) or len(part) != count:
                    # Refused as a whole: the reasons stand at the single commands.
                    said = part if isinstance(part, Exception) else ResponseError("EXEC gave no replies")
                    part = [said] * count
            else:
                part = replies[begin : begin + count]
                begin += count
            failed = self._look_at(batch, part) or failed
            if batch.entry is not None:
                crossing.ledger.close(batch.entry)
        if failed is not None and crossing.options.on_target_error == "raise":
            raise MirrorError(f"the second leg failed on the {self._end.side}: {failed}") from failed

    def _look_at(self, batch: Batch, replies: Sequence[Any]) -> Exception | None:
        failed: Exception | None = None
        for command, keys, expected, reply in zip(
            batch.commands, batch.keys, batch.expected, replies, strict=True
        ):
            if isinstance(reply, Exception):
                failed = reply
                self._refused(command, reply)
                self._crossing.report(keys, Reason.FAILED)
                if batch.everything:
                    self._crossing.report_everything(Reason.FAILED)
            elif expected is not UNTOLD and _differ(expected, reply):
                self._crossing.report(keys, Reason.DIFFERED)
        return failed

    def _refused(self, command: Sequence[Any], reply: Exception) -> None:
        word = _first_word(reply)
        count = self._seldom.due(word, time.monotonic())
        if count is not None:
            log.warning(
                "the %s refused a second leg (%s): %s",
                self._end.side,
                command[0],
                word,
                extra=self._crossing.facts(side=str(self._end.side), command=str(command[0]), count=count),
            )

    def _give_up(self, batches: Sequence[Batch], reason: Reason, error: Exception | None = None) -> None:
        for batch in batches:
            self._crossing.report(batch.all_keys, reason)
            if batch.everything:
                self._crossing.report_everything(reason)
            # An unknown leg may still arrive: its entry stays open until the connection is known to be gone.
            if batch.entry is not None and reason is not Reason.UNKNOWN:
                self._crossing.ledger.close(batch.entry)
        if self._crossing.options.on_target_error == "raise":
            if error is not None:
                raise MirrorError(f"the second leg got no answer from the {self._end.side}") from error
            if reason is Reason.SKIPPED:
                raise MirrorError(f"the second leg was skipped: the {self._end.side} does not answer")

    def _send(self, commands: Sequence[Sequence[Any]], keys: Sequence[Sequence[bytes]]) -> list[Any]:
        if self._nodes is not None:
            return self._nodes.send(commands, keys, self._exchange)
        assert self._pool is not None
        return self._exchange(self._pool, commands)

    def _exchange(self, pool: ConnectionPool, commands: Sequence[Sequence[Any]]) -> list[Any]:
        deadline = time.monotonic() + self._crossing.options.target_timeout_ms / 1000
        connection = self._take(pool)
        if time.monotonic() > deadline:
            # Greetings took all the time there is; the next one finds it ready.
            self._put_back(pool, connection)
            raise RedisTimeoutError("a connection was made too late")
        try:
            replies = []
            connection.send_packed_command(packed(self._crossing.encode, commands), check_health=False)
            for _ in commands:
                try:
                    replies.append(connection.read_response(disable_decoding=True))
                except ResponseError as error:
                    replies.append(error)
                if time.monotonic() > deadline and len(replies) < len(commands):
                    raise RedisTimeoutError("replies came too slowly")
        except BaseException:
            # Half a conversation: what is still to come must not be taken for another one's reply.
            connection.disconnect()
            pool.release(connection)
            raise
        self._put_back(pool, connection)
        return replies

    def _put_back(self, pool: ConnectionPool, connection: Any) -> None:
        self._idle.setdefault(pool, []).append((connection, time.monotonic()))

    def _take(self, pool: ConnectionPool) -> Any:
        """A connection: the last one used if that was just now, else one that the pool has looked at."""
        idle = self._idle.get(pool)
        while idle:
            try:
                connection, since = idle.pop()  # in one step: other threads take from here, too
            except IndexError:
                break
            if time.monotonic() - since < _FRESH_SECONDS:
                return connection
            pool.release(connection)
        return get_connection(pool)

    def dial(self) -> None:
        """Has a connection ready, while second legs go to the other side; a cluster's are made when they are needed.

        Raises:
            RedisError: It cannot be had.
        """
        if self._pool is None:
            return
        before = DIALS_AHEAD.set(True)
        try:
            self._pool.release(get_connection(self._pool))
        finally:
            DIALS_AHEAD.reset(before)

    def close(self) -> None:
        """Closes its connections."""
        for pool, idle in list(self._idle.items()):
            while idle:
                pool.release(idle.pop()[0])
        if self._pool is not None:
            close_pool(self._pool)
        if self._nodes is not None:
            self._nodes.close()

    def forked(self) -> None:
        """In a child process: the parent's connections are not ours to use."""
        self._idle = {}
        self.breaker = Breaker()


def _differ(expected: Any, reply: Any) -> bool:
    """Whether two raw replies differ, where they are of a kind that can be compared at a glance."""
    if reply is UNTOLD:
        return False
    if isinstance(expected, str):
        return isinstance(reply, bytes) and expected.encode("utf-8", "surrogateescape") != reply
    if expected is None or isinstance(expected, (int, bytes)):
        return (reply is None or isinstance(reply, (int, bytes))) and reply != expected
    return False


def _first_word(error: Exception) -> str:
    """What kind of refusal it is; an error's text may hold names of keys."""
    text = str(error).split(" ", 1)[0]
    return text if text.isupper() else type(error).__name__
