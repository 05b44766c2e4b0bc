"""Cuts replies out of bytes, with an exact place to go on from when they are not whole. Pure Python only.

``Incomplete`` is no error: it says where the unfinished reply begins, and how far it reaches where that is known,
so that a large payload is not looked at again with every fragment of it.
"""

from __future__ import annotations

from keyferry.wire.resp import BULK_BYTES_MAX, LINE_BYTES_MAX, ProtocolError

_DEPTH_MAX = 64
_NUMBER_MAX = (1 << 63) - 1


class Incomplete(Exception):
    """The reply that begins at ``start`` is not whole yet; ``need`` is where it ends, 0 when unknown."""

    def __init__(self, need: int = 0, start: int = 0) -> None:
        self.need = need
        self.start = start


def bulks(buffer: bytes, position: int, count: int) -> tuple[list[bytes], int]:
    """``count`` bulk strings. Where no name holds a line's end, they are split in one go."""
    lines = buffer[position:].split(b"\r\n", 2 * count) if count else []
    if len(lines) == 2 * count + 1:
        names = lines[1::2]
        if lines[0:-1:2] == [b"$%d" % len(name) for name in names]:
            return names, len(buffer) - len(lines[-1])
    names = []
    for _ in range(count):
        name, position = bulk(buffer, position)
        if name is None:
            raise ProtocolError("The source answered SCAN with something else.")
        names.append(name)
    return names, position


def line_of(buffer: bytes, position: int) -> tuple[bytes, int]:
    end = buffer.find(b"\r\n", position)
    if end < 0:
        if len(buffer) - position > LINE_BYTES_MAX:
            raise ProtocolError("The server sent a line without an end.")
        raise Incomplete
    return buffer[position:end], end + 2


def reply_line(buffer: bytes, position: int) -> tuple[bytes, int]:
    """The text of an answer to RESTORE that is not +OK."""
    if buffer[position] not in b"-+":
        raise ProtocolError("The target answered RESTORE with something else.")
    line, end = line_of(buffer, position)
    return line[1:], end


def integer(text: bytes) -> int:
    digits = text[1:] if text.startswith(b"-") else text
    if not digits.isdigit() or len(digits) > 19 or int(digits) > _NUMBER_MAX:
        raise ProtocolError(f"The server sent {text[:32]!r} where a number belongs.")
    return int(text)


def sizes_of(buffer: bytes, position: int, count: int, digits_max: int) -> tuple[list[int], int]:
    """Up to ``count`` integer replies at once, while they are whole and have at most about ``digits_max`` digits.

    Returns:
        The integers and where the next reply begins. None does not mean that no integer is there: the first
        reply is for ``number_or_error`` then.
    """
    if buffer[position] != 58:
        return [], position
    chunk = buffer[position + 1 : position + count * (digits_max + 3)]
    digits = chunk.split(b"\r\n:", count - 1)
    last, ended, rest = digits[-1].partition(b"\r\n")
    if ended:
        digits[-1] = last
    else:
        rest = digits.pop()
    if not b"".join(digits).isdigit() or not all(digits) or max(map(len, digits)) > 18:
        return [], position
    return list(map(int, digits)), position + 1 + len(chunk) - len(rest) - (0 if ended else 1)


def length_of(buffer: bytes, position: int, kind: bytes) -> tuple[int, int]:
    if position < len(buffer) and buffer[position : position + 1] != kind:
        raise ProtocolError(f"The server sent {buffer[position : position + 1]!r} where {kind!r} belongs.")
    line, after = line_of(buffer, position)
    length = integer(line[1:])
    if not -1 <= length <= BULK_BYTES_MAX:
        raise ProtocolError(f"The server announced a length of {length}.")
    return length, after


def bulk(buffer: bytes, position: int) -> tuple[bytes | None, int]:
    length, after = length_of(buffer, position, b"$")
    if length < 0:
        return None, after
    end = after + length
    if len(buffer) < end + 2:
        raise Incomplete(end + 2)
    if buffer[end : end + 2] != b"\r\n":
        raise ProtocolError("The server sent a string without its end.")
    return buffer[after:end], end + 2


def number_or_error(buffer: bytes, position: int) -> tuple[int, int, bytes | None]:
    """An integer reply, where it ends and None, or -1 and an error's text; a nil counts as -1."""
    line, after = line_of(buffer, position)
    kind = line[:1]
    if kind == b":":
        return integer(line[1:]), after, None
    if kind == b"-":
        return -1, after, line[1:]
    if line in (b"$-1", b"*-1", b"_"):
        return -1, after, None
    raise ProtocolError(f"The server sent {line[:32]!r} where a number belongs.")


def replies_end(buffer: bytes, start: int, replies: int) -> int:
    """Where ``replies`` complete replies that begin at ``start`` end."""
    position = start
    left = [replies]
    try:
        while left:
            if left[-1] == 0:
                left.pop()
                continue
            left[-1] -= 1
            line, after = line_of(buffer, position)
            kind = line[:1]
            if kind in (b"$", b"=", b"!"):
                length = integer(line[1:])
                if length > BULK_BYTES_MAX:
                    raise ProtocolError(f"The server announced a length of {length}.")
                after += length + 2 if length >= 0 else 0
                if after > len(buffer):
                    raise Incomplete(after)
            elif kind in (b"*", b"~", b">", b"%"):
                count = integer(line[1:])
                if len(left) >= _DEPTH_MAX:
                    raise ProtocolError("The server sent a reply that is nested too deeply.")
                left.append(max(0, count) * (2 if kind == b"%" else 1))
            elif kind not in (b"+", b"-", b":", b"_", b"#", b",", b"("):
                raise ProtocolError(f"The server sent {kind!r} where a reply begins.")
            position = after
    except Incomplete as more:
        raise Incomplete(more.need, start) from None
    return position
