"""LZF, as the servers compress strings of more than 20 bytes (Redis src/lzf_d.c).

A control byte below 32 is followed by that many literal bytes plus one. Any other is a reference back:
the upper three bits are the length minus two (7: one more byte adds to it), the lower five and the byte
after it the distance minus one.
"""

from __future__ import annotations

from keyferry.payload.errors import PayloadError

_GROWTH_MAX = 88
"""Three bytes of input stand for 264 bytes of output at most: a bound before anything is allocated."""


def decompress(data: bytes, size: int) -> bytes:
    """The ``size`` bytes that ``data`` stands for.

    Raises:
        PayloadError: ``data`` breaks off, refers to before its start, or does not give ``size`` bytes.
    """
    if size > len(data) * _GROWTH_MAX:
        raise PayloadError("A compressed string claims more bytes than its data can give.")
    out = bytearray()
    pos, end = 0, len(data)
    try:
        while pos < end:
            control = data[pos]
            pos += 1
            if control < 32:
                stop = pos + control + 1
                if stop > end:
                    raise PayloadError("A compressed string breaks off in its literal bytes.")
                out += data[pos:stop]
                pos = stop
            else:
                length = control >> 5
                if length == 7:
                    length += data[pos]
                    pos += 1
                length += 2
                start = len(out) - ((control & 0x1F) << 8) - data[pos] - 1
                pos += 1
                if start < 0:
                    raise PayloadError("A compressed string refers to bytes before its start.")
                piece = out[start : start + length]
                while len(piece) < length:  # The reference overlaps what it writes: it repeats.
                    piece += piece[: length - len(piece)]
                out += piece
            if len(out) > size:
                raise PayloadError("A compressed string gives more bytes than it claims.")
    except IndexError:
        raise PayloadError("A compressed string breaks off in a reference.") from None
    if len(out) != size:
        raise PayloadError("A compressed string gives fewer bytes than it claims.")
    return bytes(out)
