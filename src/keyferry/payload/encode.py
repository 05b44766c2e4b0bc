"""Writing the primitives of RDB and of listpacks; the counterpart of ``cursor`` and ``packed``."""

from __future__ import annotations

_LENGTHS = tuple(bytes((size,)) for size in range(64))


def length(size: int) -> bytes:
    """An unsigned length of up to 64 bits."""
    if size < 0x40:
        return _LENGTHS[size]
    if size < 0x4000:
        return (size | 0x4000).to_bytes(2, "big")
    if size <= 0xFFFFFFFF:
        return b"\x80" + size.to_bytes(4, "big")
    return b"\x81" + size.to_bytes(8, "big")


def string(data: bytes) -> bytes:
    """A string: its length and its bytes. Never compressed, never an integer: every server takes that."""
    size = len(data)
    return (_LENGTHS[size] if size < 0x40 else length(size)) + data


def listpack_string(data: bytes) -> bytes:
    """One item of a listpack."""
    size = len(data)
    if size < 64:
        head = bytes((0x80 | size,))
    elif size < 4096:
        head = (0xE000 | size).to_bytes(2, "big")
    else:
        head = b"\xf0" + size.to_bytes(4, "little")
    return head + data + _backlen(len(head) + size)


def listpack_int(number: int) -> bytes:
    """One integer item of a listpack, signed 64-bit at most."""
    if 0 <= number < 128:
        return bytes((number, 1))
    for head, size in ((b"\xf1", 2), (b"\xf2", 3), (b"\xf3", 4)):
        if -(1 << 8 * size - 1) <= number < 1 << 8 * size - 1:
            return head + number.to_bytes(size, "little", signed=True) + bytes((size + 1,))
    return b"\xf4" + number.to_bytes(8, "little", signed=True) + b"\x09"


def listpack_of(items: list[bytes]) -> bytes:
    """A listpack of items that ``listpack_string`` and ``listpack_int`` made."""
    packed = b"".join(items)
    count = min(len(items), 0xFFFF)
    return (len(packed) + 7).to_bytes(4, "little") + count.to_bytes(2, "little") + packed + b"\xff"


def _backlen(size: int) -> bytes:
    """The size of an item for a reader that walks backwards: groups of 7 bits, the upper ones first.

    All but the first byte have their top bit set, which is how the walk knows that there is one more.
    """
    if size < 128:
        return bytes((size,))
    groups = [size & 0x7F | 0x80]
    size >>= 7
    while size >= 128:
        groups.append(size & 0x7F | 0x80)
        size >>= 7
    groups.append(size)
    return bytes(reversed(groups))
