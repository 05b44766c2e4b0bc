"""The packed encodings: listpack, ziplist, intset, zipmap. Each function takes a blob and gives its items.

Layouts: Redis src/listpack.c, src/ziplist.c, src/intset.c, src/zipmap.c (the comments at their heads).
Integers come out in decimal, as every command shows them. What the headers claim about sizes is not trusted:
the items are walked to the end byte, and the walk stays inside the blob.
"""

from __future__ import annotations

import struct

from keyferry.payload.errors import PayloadError

_SMALL_INTS = tuple(b"%d" % number for number in range(128))
_END = 0xFF
_LISTPACK_HEADER_BYTES = 6
_ZIPLIST_HEADER_BYTES = 10
_ZIPLIST_INTS = {0xC0: 2, 0xD0: 4, 0xE0: 8, 0xF0: 3, 0xFE: 1}
_LISTPACK_INTS = {0xF1: 2, 0xF2: 3, 0xF3: 4, 0xF4: 8}
_INTSET_FORMATS = {2: "h", 4: "i", 8: "q"}
_BREAKS_OFF = "A {} breaks off in the middle of an item."


def _backlen_bytes(size: int) -> int:
    """How many bytes tell a reader that walks backwards that the item before has ``size`` bytes."""
    if size < 128:
        return 1
    if size < 16384:
        return 2
    if size < 2097152:
        return 3
    return 4 if size < 268435456 else 5


def listpack(blob: bytes) -> list[bytes]:
    """The items of a listpack.

    Raises:
        PayloadError: It breaks off, or something stands behind its end.
    """
    items: list[bytes] = []
    append = items.append
    small, from_bytes = _SMALL_INTS, int.from_bytes
    pos, end = _LISTPACK_HEADER_BYTES, len(blob)
    try:
        while (head := blob[pos]) != _END:
            if head < 0x80:
                append(small[head])
                pos += 2
                continue
            if head < 0xC0:
                start = pos + 1
                stop = start + (head & 0x3F)
                append(blob[start:stop])
            elif head < 0xE0:
                number = (head & 0x1F) << 8 | blob[pos + 1]
                append(b"%d" % (number - 8192 if number >= 4096 else number))
                pos += 3
                continue
            elif head < 0xF0:
                start = pos + 2
                stop = start + ((head & 0x0F) << 8 | blob[pos + 1])
                append(blob[start:stop])
            elif head == 0xF0:
                start = pos + 5
                stop = start + from_bytes(blob[pos + 1 : start], "little")
                append(blob[start:stop])
            else:
                start = pos + 1
                stop = start + _int_bytes(_LISTPACK_INTS, head, "listpack")
                append(b"%d" % from_bytes(blob[start:stop], "little", signed=True))
            if stop > end:
                raise PayloadError(_BREAKS_OFF.format("listpack"))
            size = stop - pos
            pos = stop + 1 if size < 128 else stop + _backlen_bytes(size)
    except IndexError:
        raise PayloadError(_BREAKS_OFF.format("listpack")) from None
    if pos + 1 != end:
        raise PayloadError("A listpack has bytes behind its end.")
    return items


def ziplist(blob: bytes) -> list[bytes]:
    """The items of a ziplist.

    Raises:
        PayloadError: It breaks off, or something stands behind its end.
    """
    items: list[bytes] = []
    pos, end = _ZIPLIST_HEADER_BYTES, len(blob)
    try:
        while (before := blob[pos]) != _END:
            pos += 5 if before == 0xFE else 1
            head = blob[pos]
            if head < 0xC0:
                start, size = _ziplist_string(blob, pos, head)
                stop = start + size
                items.append(blob[start:stop])
            elif 0xF1 <= head <= 0xFD:
                items.append(_SMALL_INTS[head - 0xF1])
                stop = pos + 1
            else:
                start = pos + 1
                stop = start + _int_bytes(_ZIPLIST_INTS, head, "ziplist")
                items.append(b"%d" % int.from_bytes(blob[start:stop], "little", signed=True))
            if stop > end:
                raise PayloadError(_BREAKS_OFF.format("ziplist"))
            pos = stop
    except IndexError:
        raise PayloadError(_BREAKS_OFF.format("ziplist")) from None
    if pos + 1 != end:
        raise PayloadError("A ziplist has bytes behind its end.")
    return items


def _ziplist_string(blob: bytes, pos: int, head: int) -> tuple[int, int]:
    """Where the bytes of the string at ``pos`` begin, and how many they are."""
    if head < 0x40:
        return pos + 1, head
    if head < 0x80:
        return pos + 2, (head & 0x3F) << 8 | blob[pos + 1]
    return pos + 5, int.from_bytes(blob[pos + 1 : pos + 5], "big")


def _int_bytes(sizes: dict[int, int], head: int, what: str) -> int:
    size = sizes.get(head)
    if size is None:
        raise PayloadError(f"The byte 0x{head:02x} begins no item of a {what}.")
    return size


def intset(blob: bytes) -> list[bytes]:
    """The members of an intset: width (4 bytes), count (4), integers, all little-endian.

    Raises:
        PayloadError: The width is none, or the count does not fit the bytes.
    """
    if len(blob) < 8:
        raise PayloadError("An intset is shorter than its header.")
    width, count = struct.unpack_from("<II", blob)
    code = _INTSET_FORMATS.get(width)
    if code is None:
        raise PayloadError(f"An intset has integers of {width} bytes.")
    if 8 + width * count != len(blob):
        raise PayloadError("An intset's count does not fit its bytes.")
    return [b"%d" % number for number in struct.unpack_from(f"<{count}{code}", blob, 8)]


def zipmap(blob: bytes) -> list[tuple[bytes, bytes]]:
    """The fields and values of a zipmap.

    Raises:
        PayloadError: It breaks off, or something stands behind its end.
    """
    fields: list[tuple[bytes, bytes]] = []
    pos = 1
    try:
        while blob[pos] != _END:
            size, pos = _zipmap_size(blob, pos)
            name = blob[pos : pos + size]
            size, pos = _zipmap_size(blob, pos + size)
            unused = blob[pos]
            start = pos + 1
            fields.append((name, blob[start : start + size]))
            pos = start + size + unused
    except IndexError:
        raise PayloadError(_BREAKS_OFF.format("zipmap")) from None
    if pos + 1 != len(blob):
        raise PayloadError("A zipmap has bytes behind its end.")
    return fields


def _zipmap_size(blob: bytes, pos: int) -> tuple[int, int]:
    """A size (one byte, or 254 and four little-endian), and where it ends."""
    head = blob[pos]
    if head < 0xFE:
        return head, pos + 1
    if head == _END:
        raise PayloadError(_BREAKS_OFF.format("zipmap"))
    return int.from_bytes(blob[pos + 1 : pos + 5], "little"), pos + 5
