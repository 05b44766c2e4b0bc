"""RESP2 and RESP3, without I/O: commands to bytes, bytes to replies.

The pure-Python parser for everything off the hot path: handshakes, INFO, pieces of big keys, probes.
The relay in ``transfer`` reads the bulk of the replies itself.

Source: https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from keyferry.model.errors import KeyferryError

DEPTH_MAX = 64
"""Nesting of aggregates; deeper input is broken or hostile."""
BULK_BYTES_MAX = 2 << 30
LINE_BYTES_MAX = 1 << 20
SHORT_LINE_BYTES = 12
REPEATED = ", with args beginning with:"
DOLLAR, COLON = b"$:"


class ProtocolError(KeyferryError):
    """The peer sent bytes that are not RESP."""


@dataclass(frozen=True, slots=True)
class ReplyError:
    """A ``-`` reply: a result, not an exception."""

    message: str

    @property
    def code(self) -> str:
        return self.message.partition(" ")[0]


def error_words(line: bytes) -> str:
    """An error as text, without its ``-``, and without what it repeats of a command that the server does not know.

    That is names of keys, and values (server.c: ``unknown command '%.128s', with args beginning with: %s``).
    """
    return line.decode("utf-8", "backslashreplace").partition(REPEATED)[0]


@dataclass(frozen=True, slots=True)
class Push:
    """A RESP3 ``>`` frame, out of band."""

    items: list[Reply]


class Status(bytes):
    """A ``+`` reply; compares as bytes."""

    __slots__ = ()


Reply: TypeAlias = "bytes | int | float | bool | None | ReplyError | Push | list[Reply]"
Argument: TypeAlias = bytes | str | int


def encode_command(*args: Argument) -> bytes:
    """One command as an array of bulk strings. ``str`` as UTF-8, ``int`` in decimal."""
    out = [b"*%d\r\n" % len(args)]
    for arg in args:
        data = arg if isinstance(arg, bytes) else str(arg).encode()
        out.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(out)


def encode_commands(commands: list[tuple[Argument, ...]]) -> bytes:
    return b"".join(encode_command(*command) for command in commands)


@dataclass(slots=True)
class _Frame:
    """An aggregate whose elements are still to come."""

    kind: int
    count: int
    items: list[Reply]


class ReplyParser:
    """Bytes in with ``feed``, replies out with ``replies``.

    Maps and attributes arrive as flat lists of key, value, key, value; sets and arrays as lists; verbatim and
    big-number replies as bytes. Every byte is looked at once, however large a reply is and however it is cut.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._needed = 0
        self._open: list[_Frame] = []

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        self._buffer += data

    @property
    def buffered_bytes(self) -> int:
        return len(self._buffer)

    def replies(self) -> list[Reply]:
        """All complete replies that are there now.

        Raises:
            ProtocolError: The bytes are not RESP.
        """
        found: list[Reply] = []
        if len(self._buffer) < self._needed:
            return found
        self._needed = 0
        data = bytes(self._buffer)
        position = 0
        while True:
            if self._open:
                position = _read_short(data, position, self._open[-1])
            end = data.find(b"\r\n", position)
            if end < 0:
                if len(data) - position > LINE_BYTES_MAX:
                    raise ProtocolError("The server sent a line without an end.")
                break
            kind, after = data[position], end + 2
            if kind in _BULKS:
                length = _integer(data[position + 1 : end])
                if length >= 0 and len(data) < after + length + 2:
                    _check_bulk_length(length)
                    self._needed = after + length + 2 - position
                    break
                value, after = _bulk(kind, data, after, length)
            elif kind in _AGGREGATES:
                count = _integer(data[position + 1 : end])
                if count > 0:
                    self._begin(kind, count)
                    position = after
                    continue
                if count == 0 and kind == _ATTRIBUTE:
                    position = after
                    continue
                value = _empty(kind, count)
            elif kind == COLON:
                value = _integer(data[position + 1 : end])
            else:
                value = _scalar(kind, data[position + 1 : end])
            position = after
            if self._open:
                self._complete(value, found)
            else:
                found.append(value)
        del self._buffer[:position]
        return found

    def _begin(self, kind: int, count: int) -> None:
        if len(self._open) >= DEPTH_MAX:
            raise ProtocolError("The server sent a reply that is nested too deeply.")
        self._open.append(_Frame(kind, count * 2 if kind in _PAIRED else count, []))

    def _complete(self, value: Reply, found: list[Reply]) -> None:
        """Puts a value into the aggregate it belongs to, and that into its own when it was the last."""
        while self._open:
            frame = self._open[-1]
            frame.items.append(value)
            if len(frame.items) < frame.count:
                return
            self._open.pop()
            if frame.kind == _ATTRIBUTE:  # about the next reply; none of ours to keep
                return
            value = Push(frame.items) if frame.kind == _PUSH else frame.items
        found.append(value)


def _read_short(data: bytes, position: int, frame: _Frame) -> int:
    """Reads the strings at ``position`` in place, up to all but the last of the frame; the index after them.

    Nearly everything nested is a short string: several times as fast as the way for everything.
    """
    append = frame.items.append
    for _ in range(frame.count - len(frame.items) - 1):
        end = data.find(b"\r\n", position, position + SHORT_LINE_BYTES)
        size = data[position + 1 : end]
        if end < 0 or data[position] != DOLLAR or not size.isdigit():
            break
        start = end + 2
        end = start + int(size)
        if data[end : end + 2] != b"\r\n":
            break
        append(data[start:end])
        position = end + 2
    return position


_BULKS = frozenset(b"$=!")
_AGGREGATES = frozenset(b"*~>%|")
_PAIRED = frozenset(b"%|")
_PUSH, _ATTRIBUTE = b">|"


def _bulk(kind: int, data: bytes, start: int, length: int) -> tuple[Reply, int]:
    """The string of ``length`` bytes at ``start``, complete with its end, and the index after that."""
    if length == -1:
        return None, start
    _check_bulk_length(length)
    end = start + length
    if data[end : end + 2] != b"\r\n":
        raise ProtocolError("The server sent a string without its end.")
    value = data[start:end]
    if kind == 0x21:  # "!"
        return ReplyError(error_words(value)), end + 2
    return value[4:] if kind == 0x3D else value, end + 2  # "=": three letters and a colon say the format


def _check_bulk_length(length: int) -> None:
    if not 0 <= length <= BULK_BYTES_MAX:
        raise ProtocolError(f"The server announced a string of {length} bytes.")


def _empty(kind: int, count: int) -> Reply:
    if count == -1:
        return None
    if count < 0:
        raise ProtocolError(f"The server announced an array of {count} elements.")
    return Push([]) if kind == _PUSH else []


def _scalar(kind: int, rest: bytes) -> Reply:
    match bytes((kind,)):
        case b"+":
            return Status(rest)
        case b"-":
            return ReplyError(error_words(rest))
        case b"_":
            return None
        case b"#":
            return rest == b"t"
        case b",":
            return _double(rest)
        case b"(":
            return rest
        case other:
            raise ProtocolError(
                f"The server sent {other!r} where a reply begins; is it a Redis-compatible server?"
            )


def _integer(text: bytes) -> int:
    try:
        return int(text)
    except ValueError:
        raise ProtocolError(f"The server sent {text[:32]!r} where a number belongs.") from None


def _double(text: bytes) -> float:
    try:
        return float(text)
    except ValueError:
        raise ProtocolError(f"The server sent {text[:32]!r} where a number belongs.") from None
