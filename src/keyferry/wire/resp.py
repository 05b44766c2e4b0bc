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
DOLLAR = ord("$")


class ProtocolError(KeyferryError):
    """The peer sent bytes that are not RESP."""


@dataclass(frozen=True, slots=True)
class ReplyError:
    """A ``-`` reply: a result, not an exception."""

    message: str

    @property
    def code(self) -> str:
        return self.message.partition(" ")[0]


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


class _Incomplete(Exception):
    """More bytes are needed."""


class ReplyParser:
    """Bytes in with ``feed``, replies out with ``replies``.

    Maps and attributes arrive as flat lists of key, value, key, value; sets and arrays as lists; verbatim and
    big-number replies as bytes.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._needed = 0

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
        position = 0
        if len(self._buffer) < self._needed:
            return found
        while True:
            try:
                reply, position = self._read(position, 0)
            except _Incomplete:
                break
            found.append(reply)
        if position:
            del self._buffer[:position]
            self._needed = max(0, self._needed - position)
        return found

    def _line(self, position: int) -> tuple[bytes, int]:
        end = self._buffer.find(b"\r\n", position)
        if end < 0:
            if len(self._buffer) - position > LINE_BYTES_MAX:
                raise ProtocolError("The server sent a line without an end.")
            self._needed = 0
            raise _Incomplete
        return bytes(self._buffer[position:end]), end + 2

    def _read(self, position: int, depth: int) -> tuple[Reply, int]:
        if depth > DEPTH_MAX:
            raise ProtocolError("The server sent a reply that is nested too deeply.")
        line, after = self._line(position)
        kind, rest = line[:1], line[1:]
        match kind:
            case b"+":
                return Status(rest), after
            case b"-":
                return ReplyError(rest.decode("utf-8", "backslashreplace")), after
            case b":":
                return _integer(rest), after
            case b"$" | b"=" | b"!":
                return self._bulk(kind, _integer(rest), after)
            case b"*" | b"~" | b">" | b"%" | b"|":
                return self._aggregate(kind, _integer(rest), after, depth)
            case b"_":
                return None, after
            case b"#":
                return rest == b"t", after
            case b",":
                return _double(rest), after
            case b"(":
                return rest, after
            case _:
                raise ProtocolError(
                    f"The server sent {kind!r} where a reply begins; is it a Redis-compatible server?"
                )

    def _bulk(self, kind: bytes, length: int, after: int) -> tuple[Reply, int]:
        if length == -1:
            return None, after
        if not 0 <= length <= BULK_BYTES_MAX:
            raise ProtocolError(f"The server announced a string of {length} bytes.")
        end = after + length
        if len(self._buffer) < end + 2:
            self._needed = end + 2
            raise _Incomplete
        if self._buffer[end : end + 2] != b"\r\n":
            raise ProtocolError("The server sent a string without its end.")
        data = bytes(self._buffer[after:end])
        if kind == b"!":
            return ReplyError(data.decode("utf-8", "backslashreplace")), end + 2
        return data[4:] if kind == b"=" else data, end + 2

    def _aggregate(self, kind: bytes, count: int, after: int, depth: int) -> tuple[Reply, int]:
        if count == -1:
            return None, after
        if count < 0:
            raise ProtocolError(f"The server announced an array of {count} elements.")
        items: list[Reply] = []
        buffer = self._buffer
        for _ in range(count * 2 if kind in b"%|" else count):
            # Nearly everything nested is a short bulk string: read in place, three times as fast.
            start = buffer.find(b"\r\n", after, after + SHORT_LINE_BYTES) + 2
            size = buffer[after + 1 : start - 2]
            if start > 1 and buffer[after] == DOLLAR and size.isdigit():
                end = start + int(size)
                if buffer[end : end + 2] == b"\r\n":
                    items.append(bytes(buffer[start:end]))
                    after = end + 2
                    continue
            item, after = self._read(after, depth + 1)
            items.append(item)
        if kind == b"|":
            return self._read(after, depth + 1)
        return Push(items) if kind == b">" else items, after


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
