"""The footer: version and checksum, and re-signing as the algebra of the CRC allows it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyferry.payload import footer
from keyferry.payload.errors import PayloadError

VERSIONS = st.integers(0, 0xFFFF)
BODIES = st.binary(min_size=1, max_size=200)


@given(BODIES, VERSIONS)
def test_what_is_signed_is_whole(body: bytes, version: int) -> None:
    payload = footer.sign(body, version)
    assert footer.check(payload) == body
    assert footer.rdb_version(payload) == version


@given(BODIES, VERSIONS, VERSIONS)
def test_resigning_is_signing_anew(body: bytes, before: int, after: int) -> None:
    assert footer.resign(footer.sign(body, before), after) == footer.sign(body, after)


@given(BODIES, VERSIONS, st.data())
def test_a_flipped_bit_is_found_before_and_after_resigning(
    body: bytes, version: int, data: st.DataObject
) -> None:
    payload = bytearray(footer.sign(body, version))
    bit = data.draw(st.integers(0, 8 * len(payload) - 1))
    payload[bit // 8] ^= 1 << bit % 8
    for damaged in (bytes(payload), footer.resign(bytes(payload), 9)):
        with pytest.raises(PayloadError, match="checksum"):
            footer.check(damaged)


@pytest.mark.parametrize("size", [0, 1, 9, 10])
def test_what_is_too_short_is_refused(size: int) -> None:
    for read in (footer.check, footer.rdb_version, lambda payload: footer.resign(payload, 9)):
        with pytest.raises(PayloadError, match=f"has {size} bytes"):
            read(bytes(size))
