"""What the source's replies mean, one function per command. Pure Python only.

All raise ``Incomplete`` when the reply is not whole, and ProtocolError when it is not one of this command's.
Errors are texts; ``None`` is no error.
"""

from __future__ import annotations

from keyferry.transfer.cutting import Incomplete, bulk, bulks, length_of, line_of, number_or_error
from keyferry.wire.resp import ProtocolError

_CLOCK_DIGITS_MAX = 15


def error_text(buffer: bytes, position: int) -> tuple[bytes, int] | None:
    """The text of an error and where it ends, where one is there."""
    if not buffer.startswith(b"-", position):
        return None
    try:
        line, end = line_of(buffer, position)
    except Incomplete:
        raise Incomplete(0, position) from None
    return line[1:], end


def scan_reply(buffer: bytes, start: int) -> tuple[bytes, list[bytes], int]:
    """The cursor, the keys, and where the reply ends."""
    try:
        count, position = length_of(buffer, start, b"*")
        if count != 2:
            raise ProtocolError("The source answered SCAN with something else.")
        cursor, position = bulk(buffer, position)
        if cursor is None or not cursor.isdigit():
            raise ProtocolError("The source answered SCAN with something else.")
        count, position = length_of(buffer, position, b"*")
        if count < 0:
            raise ProtocolError("The source answered SCAN with something else.")
        keys, position = bulks(buffer, position, count)
    except Incomplete:
        raise Incomplete(0, start) from None
    return cursor, keys, position


def time_reply(buffer: bytes, position: int) -> tuple[int, int, bytes | None]:
    """Unix milliseconds (0 for an error), where the reply ends, an error."""
    if refused := error_text(buffer, position):
        return 0, refused[1], refused[0]
    count, position = length_of(buffer, position, b"*")
    if count != 2:
        raise ProtocolError("The source answered TIME with something else.")
    seconds, position = _clock(buffer, position)
    micros, position = _clock(buffer, position)
    return seconds * 1000 + micros // 1000, position, None


def _clock(buffer: bytes, position: int) -> tuple[int, int]:
    """One of TIME's two numbers."""
    text, position = bulk(buffer, position)
    if text is None or not text.isdigit() or len(text) > _CLOCK_DIGITS_MAX:
        raise ProtocolError("The source answered TIME with something else.")
    return int(text), position


def range_reply(buffer: bytes, position: int, bytes_max: int) -> tuple[bytes | None, int, bytes | None]:
    """The answer to GETRANGE (None for an error), where it ends, an error."""
    if refused := error_text(buffer, position):
        return None, refused[1], refused[0]
    length, _ = length_of(buffer, position, b"$")
    if not 0 <= length <= bytes_max:
        raise ProtocolError("The source answered GETRANGE with something else.")
    return (*bulk(buffer, position), None)


def size_reply(buffer: bytes, start: int) -> tuple[int, int, bytes | None]:
    """The answer to MEMORY USAGE (-1 for an error, or when there is no such key), where it ends, an error."""
    try:
        size, end, error = number_or_error(buffer, start)
    except Incomplete:
        raise Incomplete(0, start) from None
    if size < 0 and buffer.startswith(b":", start):
        raise ProtocolError("The source answered MEMORY USAGE with something else.")
    return size, end, error
