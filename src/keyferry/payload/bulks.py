"""Bulk strings of a reply that stay bytes: walked, cut, swapped, framed anew, without an object for each.

What HSCAN, SSCAN, LRANGE, ZRANGE and XRANGE answer with holds the arguments of HSET, SADD, RPUSH, ZADD and
XADD byte for byte, or nearly. So a page of a big value travels as the bytes that came.

Source: https://redis.io/docs/latest/develop/reference/protocol-spec/ (RESP2: ``$<length>\\r\\n<bytes>\\r\\n``).
"""

from __future__ import annotations

from keyferry.model.build import wanted

_LENGTH_DIGITS_MAX = 10
_NOT_BULKS = "not the bulk strings that were announced"


def cut_pure(
    data: bytes, start: int, count: int, unit: int, strings_max: int, bytes_max: int
) -> list[tuple[int, int]]:
    """Where to cut strings into commands of bounded size.

    Args:
        data: A reply; from ``start`` on nothing but ``count`` bulk strings.
        unit: Strings that belong together (2: field and value); ``count`` is a multiple of it.
        strings_max: Strings in one piece, at most.
        bytes_max: Bytes in one piece, frames included; a single larger unit makes a piece alone.

    Returns:
        For each piece the index behind its last byte, and how many strings it has.

    Raises:
        ValueError: The bytes are something else.
    """
    pieces: list[tuple[int, int]] = []
    first, strings, position = start, 0, start
    for _ in range(_units(count, unit)):
        begin = position
        for _ in range(unit):
            position = _after(data, position)
        if strings and (strings + unit > strings_max or position - first > bytes_max):
            pieces.append((begin, strings))
            first, strings = begin, 0
        strings += unit
    if position != len(data):
        raise ValueError(_NOT_BULKS)
    if strings:
        pieces.append((position, strings))
    return pieces


def longest_pure(data: bytes, start: int, count: int) -> int:
    """The length in bytes of the longest of ``count`` bulk strings; 0 for none. Raises as ``cut``."""
    found, position = 0, start
    for _ in range(count):
        begin, end = _span(data, position)
        found, position = max(found, end - begin), end + 2
    return found


def swapped_pure(data: bytes, start: int, count: int) -> bytes:
    """``count`` bulk strings, each first of a pair behind its second: member, score -> score, member.

    Raises:
        ValueError: The bytes from ``start`` on are something else.
    """
    parts: list[bytes] = []
    position = start
    for _ in range(_units(count, 2)):
        middle = _after(data, position)
        end = _after(data, middle)
        parts += (data[middle:end], data[position:middle])
        position = end
    if position != len(data):
        raise ValueError(_NOT_BULKS)
    return b"".join(parts)


def xadds_pure(data: bytes, start: int, count: int, name: bytes) -> tuple[bytes, bytes, int]:
    """Entries as XRANGE lists them, as one XADD each.

    Args:
        data: A reply; from ``start`` on nothing but ``count`` entries, each an array of an id and an array of
            fields and values.
        name: The stream that they are added to.

    Returns:
        The commands, the id of the last entry (b"" for no entry), and the length of the longest string.

    Raises:
        ValueError: The bytes are something else.
    """
    head = b"\r\n$4\r\nXADD\r\n$%d\r\n%b\r\n" % (len(name), name)
    parts: list[bytes] = []
    position, last, longest_bytes = start, b"", 0
    for _ in range(count):
        if data[position : position + 4] != b"*2\r\n":
            raise ValueError(_NOT_BULKS)
        position += 4
        begin, end = _span(data, position)
        entry_id, last = data[position : end + 2], data[begin:end]
        strings, fields = _number(data, end + 2, b"*")
        position = fields
        for _ in range(_units(strings, 2)):
            for _ in range(2):
                first, after = _span(data, position)
                longest_bytes, position = max(longest_bytes, after - first), after + 2
        parts += (b"*%d" % (strings + 3), head, entry_id, data[fields:position])
    if position != len(data):
        raise ValueError(_NOT_BULKS)
    return b"".join(parts), last, longest_bytes


def _units(count: int, unit: int) -> int:
    units, rest = divmod(count, unit)
    if rest:
        raise ValueError(_NOT_BULKS)
    return units


def _number(data: bytes, position: int, kind: bytes) -> tuple[int, int]:
    """The number on the line that begins with ``kind``, and the index behind that line."""
    end = data.find(b"\r\n", position, position + _LENGTH_DIGITS_MAX + 3)
    digits = data[position + 1 : end]
    if end < 0 or data[position : position + 1] != kind or not digits.isdigit():
        raise ValueError(_NOT_BULKS)
    return int(digits), end + 2


def _span(data: bytes, position: int) -> tuple[int, int]:
    """Where the bytes of the bulk string at ``position`` begin and end."""
    size, begin = _number(data, position, b"$")
    end = begin + size
    if data[end : end + 2] != b"\r\n":
        raise ValueError(_NOT_BULKS)
    return begin, end


def _after(data: bytes, position: int) -> int:
    return _span(data, position)[1] + 2


cut, longest, swapped, xadds = cut_pure, longest_pure, swapped_pure, xadds_pure
if wanted() != "pure":
    try:
        from keyferry.payload import _bulks

        cut, longest, swapped, xadds = _bulks.cut, _bulks.longest, _bulks.swapped, _bulks.xadds
    except ImportError:
        if wanted() == "compiled":
            raise
