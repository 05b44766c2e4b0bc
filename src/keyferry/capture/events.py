"""Cuts keyspace notifications into keys by database; pure.

Source: https://redis.io/docs/latest/develop/use/keyspace-notifications/ : the channel ``__keyspace@<db>__:<key>``,
and the event's name as the message.
"""

from __future__ import annotations

from keyferry.model.keys import is_reserved
from keyferry.wire.resp import ProtocolError, Reply, ReplyParser

PREFIX = b"__keyspace@"
MISS = b"keymiss"
"""A read that found nothing (class m): no change."""

Named = list[tuple[int | None, list[bytes]]]
"""Database and names, in order of arrival."""


class EventCutter:
    """Bytes in with ``feed``; keys out with ``take_keys``, all other replies with ``take_replies``."""

    def __init__(self) -> None:
        self._parser = ReplyParser()
        self._named: Named = []
        self._database: int | None = None
        self._replies: list[Reply] = []

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Raises:
        ProtocolError: It is not RESP, or a notification from a channel that has another form.
        """
        self._parser.feed(data)
        for reply in self._parser.replies():
            match reply:
                case [b"pmessage", _, bytes(channel), event]:
                    if event != MISS:
                        self._take(channel)
                case _:
                    self._replies.append(reply)

    def take_keys(self) -> Named:
        """Names since the last take, without those that begin with ``keyferry:``."""
        named, self._named, self._database = self._named, [], None
        return named

    def take_replies(self) -> list[Reply]:
        replies, self._replies = self._replies, []
        return replies

    def _take(self, channel: bytes) -> None:
        # A name may hold "__:" itself: the first one ends the number.
        number, colon, key = channel[len(PREFIX) :].partition(b"__:")
        if not (channel.startswith(PREFIX) and colon and number.isdigit()):
            raise ProtocolError(f"The server notifies of something else than a key: {channel[:40]!r}.")
        if is_reserved(key):
            return
        database = int(number)
        if database != self._database:
            self._database = database
            self._named.append((database, []))
        self._named[-1][1].append(key)
