"""CRC-64/Jones as the servers compute it over a payload (Redis src/crc64.c: reflected, initial value 0, no final xor).

Because neither an initial value nor a final xor is used, the checksum is linear: see ``resign_mask``.
"""

from __future__ import annotations

from functools import lru_cache

from keyferry.model.build import wanted

_POLYNOMIAL = 0x95AC9329AC4BC9B5


def _table() -> tuple[int, ...]:
    rows = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ _POLYNOMIAL if crc & 1 else crc >> 1
        rows.append(crc)
    return tuple(rows)


_TABLE = _table()


def crc64_pure(data: bytes | bytearray | memoryview, crc: int = 0) -> int:
    """The reference. ``crc`` is the checksum of what came before ``data``."""
    table = _TABLE
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc


crc64 = crc64_pure
if wanted() != "pure":
    try:
        from keyferry.payload import _crc64

        crc64 = _crc64.crc64
    except ImportError:
        if wanted() == "compiled":
            raise


@lru_cache(maxsize=64)
def resign_mask(version_from: int, version_to: int) -> bytes:
    """What to XOR over the last 10 bytes of a payload (RDB version, CRC64) to change its version.

    The CRC is linear, so the checksum of the re-signed payload is the old one XOR the checksum of the
    difference: two version bytes. A payload that arrived damaged keeps a wrong checksum, so the target
    still refuses it; nothing is ever signed that was not whole.
    """
    difference = (version_from ^ version_to).to_bytes(2, "little")
    return difference + crc64_pure(difference).to_bytes(8, "little")
