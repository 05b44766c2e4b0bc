"""LZF: what a compressor makes is read back, what is broken is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyferry.payload.errors import PayloadError
from keyferry.payload.lzf import decompress


def compress(data: bytes) -> bytes:
    """A plain LZF compressor: the last place of every three bytes, references as long as they go."""
    out, literals = bytearray(), bytearray()
    places: dict[bytes, int] = {}
    pos = 0

    def flush() -> None:
        for start in range(0, len(literals), 32):
            piece = literals[start : start + 32]
            out.append(len(piece) - 1)
            out.extend(piece)
        literals.clear()

    while pos < len(data):
        key = data[pos : pos + 3]
        place = places.get(key)
        places[key] = pos
        if place is None or len(key) < 3 or pos - place > 8192:
            literals.append(data[pos])
            pos += 1
            continue
        length = 3
        while length < 264 and pos + length < len(data) and data[place + length] == data[pos + length]:
            length += 1
        flush()
        distance = pos - place - 1
        if length - 2 < 7:
            out.append((length - 2) << 5 | distance >> 8)
        else:
            out.extend((7 << 5 | distance >> 8, length - 2 - 7))
        out.append(distance & 0xFF)
        pos += length
    flush()
    return bytes(out)


@given(st.lists(st.sampled_from([b"a", b"ab", b"abc", b"the quick", b"\x00" * 300, bytes(range(256))])))
@settings(deadline=None)
def test_what_is_compressed_is_read_back(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    assert decompress(compress(data), len(data)) == data


def test_a_reference_may_overlap_what_it_writes() -> None:
    packed = b"\x00a\xe0\xff\x00"  # One literal, then 264 bytes from one byte back.
    assert decompress(packed, 265) == b"a" * 265


@pytest.mark.parametrize(
    ("packed", "size", "says"),
    [
        (b"\x05abc", 6, "literal"),
        (b"\x00a\x20", 4, "reference"),
        (b"\x00a\xe0", 4, "reference"),
        (b"\x00a\x20\x01", 4, "before its start"),
        (b"\x00a\x20\x00", 3, "more bytes than it claims"),
        (b"\x00a\x20\x00", 5, "fewer bytes than it claims"),
        (b"\x00a", 2**60, "can give"),
        (b"", 1, "can give"),
    ],
)
def test_what_is_wrong_is_said(packed: bytes, size: int, says: str) -> None:
    with pytest.raises(PayloadError, match=says):
        decompress(packed, size)


@given(st.binary(max_size=60), st.integers(0, 4000))
@settings(max_examples=500)
def test_random_bytes_give_their_size_or_an_error(data: bytes, size: int) -> None:
    try:
        assert len(decompress(data, size)) == size
    except PayloadError:
        pass
