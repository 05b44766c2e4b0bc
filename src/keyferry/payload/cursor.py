"""Reading the primitives of RDB: lengths, strings, ids.

Source: Redis src/rdb.c, rdbLoadLenByRef and rdbGenericLoadStringObject. A length is 6 bits (``00``), 14 bits
(``01``), or after 0x80 and 0x81 32 and 64 bits, big-endian. A string is a length and its bytes, or one of:
0xC0, 0xC1, 0xC2 an integer of 1, 2, 4 bytes (little-endian, signed); 0xC3 the compressed size, the size, and
LZF data.

Bounds: an index beyond the data raises IndexError, which ``reader`` turns into a PayloadError at one place; a
slice, which Python would cut short in silence, is checked here.
"""

from __future__ import annotations

from keyferry.model.values import StreamId
from keyferry.payload.errors import PayloadError
from keyferry.payload.lzf import decompress

BREAKS_OFF = "The payload breaks off in the middle of a value."
_INT_BYTES = {0xC0: 1, 0xC1: 2, 0xC2: 4}
_LZF = 0xC3


class Cursor:
    """A place in the body of a payload that only moves forward. ``pos`` may be set by tight loops."""

    __slots__ = ("data", "end", "pos")

    def __init__(self, data: bytes, pos: int = 0) -> None:
        self.data = data
        self.pos = pos
        self.end = len(data)

    def length(self) -> int:
        """An unsigned length of up to 64 bits."""
        data, pos = self.data, self.pos
        head = data[pos]
        if head < 0x40:
            self.pos = pos + 1
            return head
        if head < 0x80:
            self.pos = pos + 2
            return (head & 0x3F) << 8 | data[pos + 1]
        if head == 0x80:
            return int.from_bytes(self._after_head(4), "big")
        if head == 0x81:
            return int.from_bytes(self._after_head(8), "big")
        raise PayloadError(f"The byte 0x{head:02x} begins no length.")

    def count(self, bytes_each: int = 1) -> int:
        """A length that counts items of at least ``bytes_each`` bytes; the bytes that are left bound it."""
        count = self.length()
        if count * bytes_each > self.end - self.pos:
            raise PayloadError("The payload claims more items than it has bytes for.")
        return count

    def string(self) -> bytes:
        """A string; integers in decimal, compressed ones decompressed."""
        data, pos = self.data, self.pos
        head = data[pos]
        if head < 0x40:
            start = pos + 1
            stop = start + head
        elif head < 0x80:
            start = pos + 2
            stop = start + ((head & 0x3F) << 8 | data[pos + 1])
        elif head >= 0xC0:
            return self._encoded(head)
        else:
            size = self.length()
            start = self.pos
            stop = start + size
        if stop > self.end:
            raise PayloadError(BREAKS_OFF)
        self.pos = stop
        return data[start:stop]

    def skip_string(self) -> None:
        """Moves behind a string without making it."""
        head = self.data[self.pos]
        if head < 0xC0:
            size = self.length()
            self.raw_skip(size)
        elif head == _LZF:
            self.pos += 1
            size = self.length()
            self.length()
            self.raw_skip(size)
        else:
            self._after_head(self._int_bytes(head))

    def raw(self, size: int) -> bytes:
        """The next ``size`` bytes."""
        start = self.pos
        self.raw_skip(size)
        return self.data[start : self.pos]

    def raw_skip(self, size: int) -> None:
        if size > self.end - self.pos:
            raise PayloadError(BREAKS_OFF)
        self.pos += size

    def signed_ms(self) -> int:
        """A time: 8 bytes little-endian, signed, Unix milliseconds."""
        return int.from_bytes(self.raw(8), "little", signed=True)

    def stream_id(self) -> StreamId:
        """An id as two lengths."""
        return self.length(), self.length()

    def raw_stream_id(self) -> StreamId:
        """An id as 16 bytes, big-endian."""
        data = self.raw(16)
        return int.from_bytes(data[:8], "big"), int.from_bytes(data[8:], "big")

    def _encoded(self, head: int) -> bytes:
        if head == _LZF:
            self.pos += 1
            packed_size = self.length()
            size = self.length()
            return decompress(self.raw(packed_size), size)
        return b"%d" % int.from_bytes(self._after_head(self._int_bytes(head)), "little", signed=True)

    @staticmethod
    def _int_bytes(head: int) -> int:
        size = _INT_BYTES.get(head)
        if size is None:
            raise PayloadError(f"The byte 0x{head:02x} begins no string.")
        return size

    def _after_head(self, size: int) -> bytes:
        self.pos += 1
        return self.raw(size)
