"""Subscriptions that follow the phase: made on the new side before they are left on the old one.

PUBLISH goes to the side with authority alone. So a subscriber has to listen there before authority moves, and may not
leave the old side before it has read all that was said there:

1. hold begins       SUBSCRIBE on the other side too; the hold is acknowledged when that is confirmed
2. authority moves   the old side gets PING a, UNSUBSCRIBE, PING b, and the new connection takes its place
3. the reader        delivers what the old side still has to say up to b, then goes on with the new one

Confirmations between a and b answer us and are hidden; one before a answers the application. The answer to PING a
also wakes a reader that waits on an idle connection. No message is published on the new side before 2, so none is
delivered twice, and those of one publisher stay in order.

In a cluster one subscriber has one connection, as long as it lives: shard channels of one node, beside any others.
"""

from __future__ import annotations

import logging
import time
import uuid
import weakref
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from keyferry.capture.clients._async.crossing import Crossing, State
from keyferry.capture.clients._async.ends import End, node_pool
from keyferry.capture.clients._async.platform import (
    BasePubSub,
    Event,
    Lock,
    hang_up,
    sleep,
    spawn,
    wait_event,
)
from keyferry.capture.clients.errors import LookAgain
from keyferry.model.phases import Side

if TYPE_CHECKING:
    from keyferry.capture.clients._async.client import Redis

log = logging.getLogger("keyferry.clients")

_KINDS = {"": "channels", "P": "patterns", "S": "shard_channels"}
_MESSAGES = frozenset({b"message", b"pmessage", b"smessage"})
_FAREWELLS = frozenset({b"unsubscribe", b"punsubscribe", b"sunsubscribe"})
_MARK = b"keyferry-mark-"
_CONFIRM_SECONDS = 2.0
_REPEAT_SECONDS = 0.5  # an unanswered mark is sent again: the connection may have been replaced meanwhile
_DRAIN_SECONDS = 5.0  # an old side that says nothing for so long has nothing to say any more
_PAUSE_SECONDS, _PAUSE_SECONDS_MAX = 0.05, 1.0


class Feed(BasePubSub):
    """What one side has to say to a subscriber: redis-py's own, with one connection.

    After a lost connection it subscribes again to what its owner has subscribed to; not when it is being left.

    Attributes:
        side: which side.
        kept: messages that came while confirmations were read.
        waited_for: a reader waits for it, perhaps for ever.
        leaving: it gets no commands any more, and is read to its end.
        drained: its end has been read.
        over: set when it is of no use any more.
    """

    def __init__(self, owner: PubSub, side: Side, pool: Any, arguments: Mapping[str, Any]) -> None:
        self._owner = weakref.ref(owner)
        self.side = side
        self.kept: deque[Any] = deque()
        self.waited_for = self.leaving = self.drained = False
        self.over = Event()
        self.connection: Any = None
        self.encoder: Any = None
        self._parting = False
        self._first = self._last = b""
        super().__init__(pool, **arguments)

    @property
    def subscribed(self) -> bool:
        """Whether its owner has subscriptions."""
        owner = self._owner()
        return owner is not None and bool(owner.subscribed or owner.has_names)

    async def on_connect(self, connection: Any) -> None:
        """A lost connection was replaced."""
        owner = self._owner()
        if owner is None or self.leaving:
            raise RedisConnectionError("this side has been left")
        for command in owner.commands_again():
            await connection.send_command(*command, check_health=False)

    # What redis-py calls before it sends or reads again on a new connection; versions differ in the name.

    async def _reconnect(self, conn: Any, error: Any = None, *rest: Any, **more: Any) -> Any:
        if self.leaving:
            raise error or RedisConnectionError("this side has been left")
        if error is None:
            return await super()._reconnect(conn, *rest, **more)
        return await super()._reconnect(conn, error, *rest, **more)

    async def _disconnect_raise_connect(self, conn: Any, error: Any) -> Any:
        if self.leaving:
            raise error
        return await super()._disconnect_raise_connect(conn, error)

    async def confirm(self, timeout_seconds: float) -> None:
        """Reads until all that was sent so far is answered. Messages are kept, confirmations are not.

        Raises:
            RedisError: there was no answer.
        """
        ends = time.monotonic() + timeout_seconds
        while time.monotonic() < ends:
            mark = _new_mark()
            await self.execute_command("PING", mark)
            again = min(ends, time.monotonic() + _REPEAT_SECONDS)
            while (left := again - time.monotonic()) > 0:
                response = await self.parse_response(block=False, timeout=left)
                if self._word(response) == mark:
                    return
                if _kind(response) in _MESSAGES:
                    self.kept.append(response)
        raise RedisTimeoutError(f"the {self.side} does not confirm subscriptions")

    async def leave(self, kinds: list[str]) -> None:
        """Unsubscribes, without waiting for the answer.

        Args:
            kinds: "" for channels, "P" for patterns, "S" for shard channels.
        """
        self._first, self._last = _new_mark(), _new_mark()
        self.leaving = True
        connection: Any = self.connection
        commands = [("PING", self._first), *((f"{kind}UNSUBSCRIBE",) for kind in kinds), ("PING", self._last)]
        try:
            await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
        except (RedisError, OSError) as error:
            log.debug("the %s was away when it was left: %s", self.side, error)
            await hang_up(connection)

    def hides(self, response: Any) -> bool:
        """Whether a response is not for the application."""
        word = self._word(response)
        if word is not None and word.startswith(_MARK):
            self._parting = self._parting or word == self._first
            self.drained = self.drained or (self.leaving and word == self._last)
            return True
        return self._parting and _kind(response) in _FAREWELLS

    def _word(self, response: Any) -> bytes | None:
        """What a PING's answer says: an array while there are subscriptions, the bare word otherwise."""
        if isinstance(response, list) and len(response) == 2 and _kind(response) == b"pong":
            response = response[1]
        if isinstance(response, (bytes, str)):
            word: bytes = self.encoder.encode(response)
            return word
        return None


class PubSub(BasePubSub):
    """redis-py's PubSub for a client with a migration record.

    Args:
        client: who made it; it is kept, so that the phase is followed as long as somebody listens.
        crossing: whose phase counts.
        ends: the two servers.
        arguments: redis-py's own.
    """

    def __init__(self, client: Redis, crossing: Crossing, ends: Mapping[Side, End], **arguments: Any) -> None:
        self._client = client
        self._crossing = crossing
        self._ends = ends
        self._arguments = arguments
        self._switching = Lock()
        self._current: Feed | None = None
        self._ahead: Feed | None = None
        self._left: deque[Feed] = deque()
        self._names: dict[str, dict[bytes, None]] = {kind: {} for kind in _KINDS}
        self.encoder: Any = None
        super().__init__(client.connection_pool, **arguments)
        crossing.add_subscription(self)

    @property
    def connection(self) -> Any:
        """Where commands go; None before the first."""
        return None if self._current is None else self._current.connection

    @connection.setter
    def connection(self, value: Any) -> None:
        """redis-py's own __init__ and reset clear it; the feeds keep theirs."""

    # Commands

    async def execute_command(self, *args: Any) -> None:
        """As redis-py's own."""
        async with self._switching:
            shard = self.encoder.encode(args[1]) if str(args[0]).upper() == "SSUBSCRIBE" else None
            feed = await self._come(shard)
            await feed.execute_command(*args)
            self._note(args)
            ahead = self._ahead
            if ahead is not None:
                try:
                    await ahead.execute_command(*args)
                    await ahead.confirm(_CONFIRM_SECONDS)
                except (RedisError, OSError) as error:
                    log.warning("the %s takes no subscriptions: %s", ahead.side, error)
                    await self._drop_ahead()

    async def connect(self) -> None:
        """As redis-py's own."""
        async with self._switching:
            await (await self._come()).execute_command("PING", _new_mark())

    async def _come(self, shard_channel: bytes | None = None) -> Feed:
        """The feed of the side with authority."""
        crossing = self._crossing
        if self._current is None:
            side = await self._authority()
            self._current = await self._new_feed(side, shard_channel)
            self.connection_pool = self._current.connection_pool
        try:
            await self._move(crossing.state)
        except (RedisError, OSError) as error:
            log.debug("a subscriber cannot follow the phase yet: %s", error)
        return self._current

    async def _authority(self) -> Side:
        """As the record says; the first command of all reads it."""
        crossing = self._crossing
        while True:
            state = crossing.enter()
            try:
                await crossing.sure(state)
                return state.authority
            except LookAgain:
                continue
            finally:
                crossing.leave(state)

    def _note(self, args: tuple[Any, ...]) -> None:
        """Keeps what is subscribed to, from the moment it was sent."""
        word = str(args[0]).upper()
        for kind, names in self._names.items():
            if word == f"{kind}SUBSCRIBE":
                names.update(dict.fromkeys(map(self.encoder.encode, args[1:])))
            elif word == f"{kind}UNSUBSCRIBE":
                for name in [self.encoder.encode(name) for name in args[1:]] or list(names):
                    names.pop(name, None)

    @property
    def has_names(self) -> bool:
        """Whether anything is subscribed to, by what was sent."""
        return any(self._names.values())

    def commands_again(self) -> list[tuple[Any, ...]]:
        """What a new connection has to be told to stand where a lost one stood."""
        commands: list[tuple[Any, ...]] = []
        for kind, attribute in _KINDS.items():
            names = list(self._names[kind])
            pending = getattr(self, f"pending_unsubscribe_{attribute}", ())
            going = [name for name in map(self.encoder.encode, list(pending)) if name not in names]
            if names:
                commands.append((f"{kind}SUBSCRIBE", *names))
            if going:
                commands.append((f"{kind}UNSUBSCRIBE", *going))
        return commands

    # Steps

    async def follow(self, state: State) -> None:
        """Takes a step; returns when it is taken, or another one has come."""
        pause = _PAUSE_SECONDS
        while True:
            try:
                async with self._switching:
                    if state is self._crossing.state and self._current is not None:
                        await self._move(state)
                    return
            except (RedisError, OSError) as error:
                log.warning("a subscriber cannot follow to phase %s yet: %s", state.standing.phase, error)
            await sleep(pause)
            pause = min(pause * 2, _PAUSE_SECONDS_MAX)

    async def _move(self, state: State) -> None:
        """To where the state wants it. Raises RedisError when the other side cannot be subscribed to."""
        current = self._current
        assert current is not None
        if state.authority is not current.side:
            if self._ahead is None:
                self._ahead = await self._made(state.authority)
            # In this order: a reader that looks in between finds the old one.
            self._left.append(current)
            self._current, self._ahead = self._ahead, None
            self.connection_pool = self._current.connection_pool
            cluster = self._ends[current.side].cluster
            if cluster is not None:
                await _fence(cluster, current)
            await current.leave([kind for kind in _KINDS if kind != "S" or self._names[kind]])
            spawn(_guard(weakref.ref(current)), "keyferry-subscriber")
        elif state.waits and self._ahead is None:
            self._ahead = await self._made(current.side.other)
        elif not state.waits and self._ahead is not None:
            await self._drop_ahead()

    async def _made(self, side: Side) -> Feed:
        """A feed of that side with all subscriptions, confirmed."""
        await self._crossing.speaker(side).execute_command(
            "PING"
        )  # with a short time-out, unlike what follows
        feed = await self._new_feed(side, next(iter(self._names["S"]), None))
        try:
            for kind, names in self._names.items():
                if names:
                    await feed.execute_command(f"{kind}SUBSCRIBE", *names)
            await feed.confirm(_CONFIRM_SECONDS)
        except BaseException:
            await feed.aclose()
            raise
        return feed

    async def _new_feed(self, side: Side, shard_channel: bytes | None) -> Feed:
        end = self._ends[side]
        pool = await node_pool(end, shard_channel) if end.pool is None else end.pool
        return Feed(self, side, pool, self._arguments)

    async def _drop_ahead(self) -> None:
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            await ahead.aclose()

    # Reading

    async def parse_response(self, block: bool = True, timeout: float | None = 0) -> Any:  # noqa: ASYNC109 - redis-py's
        """As redis-py's own."""
        ends = None if block else time.monotonic() + (timeout or 0)
        while True:
            feed = self._left[0] if self._left else self._current
            if feed is None:
                return await super().parse_response(block, timeout or 0)
            if feed.kept:
                return feed.kept.popleft()
            response = await (self._read_rest(feed, ends) if feed.leaving else self._read(feed, ends))
            if response is not None and not feed.hides(response):
                return response
            if feed.drained:
                await self._put_away(feed)
            elif response is None and not (feed.leaving and ends is None) and _left(ends) <= 0:
                return None

    async def _read(self, feed: Feed, ends: float | None) -> Any:
        feed.waited_for = True
        try:
            return await feed.parse_response(ends is None, _left(ends))
        except (RedisError, OSError):
            if not feed.leaving:
                raise
            feed.drained = True  # left while we waited
            return None
        finally:
            feed.waited_for = False

    async def _read_rest(self, feed: Feed, ends: float | None) -> Any:
        """Of a feed that is being left; one that says nothing is not waited for for long."""
        patience = _DRAIN_SECONDS if ends is None else min(_DRAIN_SECONDS, _left(ends))
        try:
            response = await feed.parse_response(block=False, timeout=patience)
        except (RedisError, OSError) as error:
            log.debug("the %s broke off before its end: %s", feed.side, error)
            response, feed.drained = None, True
        if response is None and patience == _DRAIN_SECONDS:
            feed.drained = True
        return response

    async def _put_away(self, feed: Feed) -> None:
        if self._left and self._left[0] is feed:
            self._left.popleft()
        feed.over.set()
        await feed.aclose()

    # The end

    async def aclose(self) -> None:
        """As redis-py's own."""
        await self._close_feeds()
        await super().aclose()

    async def reset(self) -> None:
        """As redis-py's own."""
        await self._close_feeds()
        await super().reset()

    async def _close_feeds(self) -> None:
        async with self._switching:
            feeds = [feed for feed in (*self._left, self._current, self._ahead) if feed is not None]
            self._left.clear()
            self._current = self._ahead = None
            for names in self._names.values():
                names.clear()
        for feed in feeds:
            feed.over.set()
            await feed.aclose()


async def _fence(cluster: Any, feed: Feed) -> None:
    """Returns when a node of a cluster has told its subscribers all that was published on any node until now.

    PUBLISH is answered before the other nodes have the message. But each sends to each in order: when a mark that was
    published everywhere has come from everywhere, so has what was published before.
    """
    witness = BasePubSub(feed.connection_pool)
    channel = _new_mark()
    ends = time.monotonic() + _CONFIRM_SECONDS
    missing: set[bytes] = set()
    try:
        await witness.subscribe(channel)
        while time.monotonic() < ends:
            message = await witness.get_message(timeout=_left(ends))
            if message is not None and message["type"] == "subscribe":
                for number, node in enumerate(cluster.get_nodes()):
                    try:
                        await cluster.execute_command("PUBLISH", channel, number, target_nodes=node)
                        missing.add(b"%d" % number)
                    except (RedisConnectionError, RedisTimeoutError) as error:
                        log.debug("a node that is away publishes nothing: %s", error)
            elif message is not None:
                data = message["data"]
                missing.discard(data if isinstance(data, bytes) else str(data).encode())
            if message is not None and not missing:
                return
        log.warning("not every node of the %s has passed on what was published", feed.side)
    except (RedisError, OSError) as error:
        log.warning("the %s does not say when all is passed on that was published: %s", feed.side, error)
    finally:
        await witness.aclose()


def _guard(reference: weakref.ref[Feed]) -> Any:
    """Work for the background: wakes a reader that waits on an old side which does not answer."""
    feed = reference()
    over = feed.over if feed is not None else Event()

    async def work() -> None:
        if await wait_event(over, _DRAIN_SECONDS):
            return
        feed = reference()
        if feed is not None and feed.waited_for and feed.connection is not None:
            await hang_up(feed.connection)

    return work


def _new_mark() -> bytes:
    return _MARK + uuid.uuid4().hex.encode()


def _kind(response: Any) -> bytes | None:
    """The word with which a pushed array begins."""
    if not isinstance(response, list) or not response:
        return None
    word = response[0]
    return word.encode("utf-8", "replace") if isinstance(word, str) else word


def _left(ends: float | None) -> float:
    return 0.0 if ends is None else max(0.0, ends - time.monotonic())
