"""Cuts what a feed's connection sends: names of changed keys, and the few replies between them.

Client tracking: a server names every changed key once per turn of its event loop, all of a turn in one push, which may
be as long as a script or a pipeline made it. So names are handed out as they come, not when their push is complete,
and of what came no more is kept than one unfinished name or reply.

Source: https://redis.io/docs/latest/develop/reference/client-side-caching/ and sendTrackingMessage() in
src/tracking.c: ``>2 $10 invalidate *N`` and N strings, or a null instead of the array after FLUSHALL and FLUSHDB.

Keyspace notifications (RESP2): ``*4 $8 pmessage``, pattern, channel ``__keyspace@<db>__:<key>``, event.
Source: https://redis.io/docs/latest/develop/use/keyspace-notifications/
"""

from __future__ import annotations

import re

from keyferry.model.keys import RESERVED_PREFIX
from keyferry.wire.resp import BULK_BYTES_MAX, ProtocolError, Push, Reply, ReplyParser

MESSAGE = b"*4\r\n$8\r\npmessage\r\n"
KEYSPACE = b"__keyspace@"
MISS = b"keymiss"
"""A read that found nothing (class m): no change."""
INVALIDATE = b">2\r\n$10\r\ninvalidate\r\n"
NULLS = frozenset((b"_", b"*-1", b"$-1"))
REPLY_BYTES_MAX = 1 << 20
"""Everything but names is small here: PONGs, confirmations, HELLO."""
HEAD_BYTES_MAX = 16
"""Of ``*N`` and ``$N`` with their line ends."""

Named = list[tuple[int | None, list[bytes]]]
"""Database and names, in order of arrival."""

_WINDOW_BYTES = 4096
_DATABASE = re.compile(rb"[0-9]{1,9}")
_HEAD = re.compile(rb"[0-9]{1,10}")
_PLAIN, _BULKS, _ARRAYS, _MAPS, _ATTRIBUTE = b"+-:_#,(", b"$=!", b"*~>", b"%", b"|"
_COUNTED = _BULKS + _ARRAYS + _MAPS + _ATTRIBUTE


class _Held:
    """Bytes that are not cut yet: at most one unfinished message."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._needed = 0
        """So many bytes must be there before another look is worth it."""
        self._replies: list[Reply] = []

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        self._held += data
        if len(self._held) < self._needed:
            return
        self._needed = 0
        held = bytes(self._held)
        position = 0
        while True:
            after = self._step(held, position)
            if after == position:
                break
            position = after
        del self._held[:position]

    def take_replies(self) -> list[Reply]:
        replies, self._replies = self._replies, []
        return replies

    def _step(self, data: bytes, position: int) -> int:
        """Takes what begins here; the index after it, or ``position`` when it is not complete."""
        raise NotImplementedError

    def _string(self, data: bytes, position: int) -> tuple[int, int] | None:
        """Where the bytes of the string begin and end; None: it is not complete."""
        head = _line(data, position)
        if head is None:
            return None
        length = _number(head, 0x24)
        begin = position + len(head) + 2
        end = begin + length
        if len(data) < end + 2:
            self._needed = end + 2 - position
            return None
        if data[end : end + 2] != b"\r\n":
            raise ProtocolError("The server sent a string without its end.")
        return begin, end

    def _other(self, data: bytes, position: int) -> int:
        """Takes a reply."""
        for size in (_WINDOW_BYTES, REPLY_BYTES_MAX):
            cut = cut_reply(data[position : position + size])
            if cut is not None:
                self._replies.append(cut[0])
                return position + cut[1]
        return position


class PureCutter(_Held):
    """The reference; documented at ``pushes.Cutter``."""

    def __init__(self) -> None:
        super().__init__()
        self._names_left = 0
        self._keys: list[bytes] = []
        self._everything = False

    def take_keys(self) -> list[bytes]:
        keys, self._keys = self._keys, []
        return keys

    def take_everything(self) -> bool:
        everything, self._everything = self._everything, False
        return everything

    def _step(self, data: bytes, position: int) -> int:
        if self._names_left:
            return self._take_names(data, position)
        begin = data[position : position + len(INVALIDATE)]
        if begin == INVALIDATE:
            line = _line(data, position + len(INVALIDATE))
            if line is None:
                return position
            if line in NULLS:
                self._everything = True
            else:
                self._names_left = _number(line, 0x2A)
            return position + len(INVALIDATE) + len(line) + 2
        if INVALIDATE.startswith(begin):
            return position
        return self._other(data, position)

    def _take_names(self, data: bytes, position: int) -> int:
        while self._names_left:
            found = self._string(data, position)
            if found is None:
                break
            begin, end = found
            if not data.startswith(RESERVED_PREFIX, begin, end):
                self._keys.append(data[begin:end])
            self._names_left -= 1
            position = end + 2
        return position


class PureEventCutter(_Held):
    """The reference; documented at ``pushes.EventCutter``."""

    def __init__(self) -> None:
        super().__init__()
        self._named: Named = []

    def take_keys(self) -> Named:
        named, self._named = self._named, []
        return named

    def _step(self, data: bytes, position: int) -> int:
        begin = data[position : position + len(MESSAGE)]
        if begin == MESSAGE:
            return self._take_message(data, position)
        if MESSAGE.startswith(begin):
            return position
        return self._other(data, position)

    def _take_message(self, data: bytes, position: int) -> int:
        spans: list[tuple[int, int]] = []
        after = position + len(MESSAGE)
        for _ in range(3):  # pattern, channel, event
            found = self._string(data, after)
            if found is None:
                self._needed += (after - position) if self._needed else 0
                return position
            spans.append(found)
            after = found[1] + 2
        if data[slice(*spans[2])] != MISS:
            self._take(data[slice(*spans[1])])
        return after

    def _take(self, channel: bytes) -> None:
        # A name may hold "__:" itself: the first one ends the number.
        number, colon, key = channel[len(KEYSPACE) :].partition(b"__:")
        if not (channel.startswith(KEYSPACE) and colon and _DATABASE.fullmatch(number)):
            raise ProtocolError("The server notifies of something else than a key.")
        if key.startswith(RESERVED_PREFIX):
            return
        database = int(number)
        if not self._named or self._named[-1][0] != database:
            self._named.append((database, []))
        self._named[-1][1].append(key)


def cut_reply(window: bytes) -> tuple[Reply, int] | None:
    """The reply that begins ``window`` and its length, a push as a list; None: it is not complete yet.

    Raises:
        ProtocolError: It is no RESP, or as long as ``REPLY_BYTES_MAX`` and still not complete.
    """
    end = _reply_end(window)
    if end is None:
        if len(window) >= REPLY_BYTES_MAX:
            raise ProtocolError("The server sent an endless reply.")
        return None
    parser = ReplyParser()
    parser.feed(window[:end])
    replies = parser.replies()
    if len(replies) != 1 or parser.buffered_bytes:
        raise ProtocolError("The server sent a reply that is not well formed.")
    reply = replies[0]
    return reply.items if isinstance(reply, Push) else reply, end


def _reply_end(data: bytes) -> int | None:
    """Where the reply that begins ``data`` ends; None: not in here."""
    position, left = 0, 1
    while left:
        end = data.find(b"\r\n", position)
        if end < 0:
            return None
        kind, line = data[position : position + 1], data[position + 1 : end]
        if kind not in _PLAIN + _COUNTED:
            raise ProtocolError(f"The server sent {kind!r} where a reply begins.")
        position, left = end + 2, left - 1
        if kind in _PLAIN or (line == b"-1" and kind not in _ATTRIBUTE):
            continue
        count = _count(line)
        if kind in _BULKS:
            position += count + 2
        elif kind in _ARRAYS:
            left += count
        else:
            left += 2 * count + (kind == _ATTRIBUTE)  # an attribute is followed by what it is about
    return position if position <= len(data) else None


def _line(data: bytes, position: int) -> bytes | None:
    """The short line at ``position`` without its end; None: not complete yet."""
    end = data.find(b"\r\n", position, position + HEAD_BYTES_MAX)
    if end < 0:
        if len(data) - position >= HEAD_BYTES_MAX:
            raise ProtocolError("The server sent a line without an end.")
        return None
    return data[position:end]


def _number(line: bytes, kind: int) -> int:
    """N of ``*N`` or ``$N``."""
    if not line or line[0] != kind:
        raise ProtocolError(f"The server sent {line!r} where {bytes((kind,))!r} belongs.")
    return _count(line[1:])


def _count(text: bytes) -> int:
    if not _HEAD.fullmatch(text) or int(text) > BULK_BYTES_MAX:
        raise ProtocolError(f"The server announced a length of {text[:32]!r}.")
    return int(text)
