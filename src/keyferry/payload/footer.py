"""The last ten bytes of a payload: RDB version (2 bytes), CRC64 over all before it (8), both little-endian.

Source: Redis src/cluster.c, createDumpPayload and verifyDumpPayload. RESTORE refuses a version above the
server's own and a checksum that does not match; a checksum of zero is no exception.
"""

from __future__ import annotations

from keyferry.payload.crc64 import crc64, resign_mask
from keyferry.payload.errors import PayloadError

FOOTER_BYTES = 10
_VERSION_BYTES = 2


def rdb_version(payload: bytes) -> int:
    """The RDB version in the footer; the checksum is not looked at.

    Raises:
        PayloadError: The payload is shorter than a type byte and a footer.
    """
    if len(payload) <= FOOTER_BYTES:
        raise PayloadError(f"The payload has {len(payload)} bytes, fewer than a type byte and a footer.")
    return int.from_bytes(payload[-10:-8], "little")


def check(payload: bytes) -> bytes:
    """The body (type byte and value) of a payload that is whole.

    Raises:
        PayloadError: It is too short, or its checksum is wrong.
    """
    if len(payload) <= FOOTER_BYTES:
        raise PayloadError(f"The payload has {len(payload)} bytes, fewer than a type byte and a footer.")
    if crc64(memoryview(payload)[:-8]) != int.from_bytes(payload[-8:], "little"):
        raise PayloadError("The payload's checksum does not match its bytes.")
    return payload[:-FOOTER_BYTES]


def sign(body: bytes, rdb_version: int) -> bytes:
    """A payload of ``body`` (type byte and value) under ``rdb_version``."""
    signed = body + rdb_version.to_bytes(_VERSION_BYTES, "little")
    return signed + crc64(signed).to_bytes(8, "little")


def resign(payload: bytes, rdb_version: int) -> bytes:
    """The same value under another RDB version, without a pass over it.

    A payload that arrived damaged stays refused: see ``crc64.resign_mask``.

    Raises:
        PayloadError: The payload is shorter than a type byte and a footer.
    """
    if len(payload) <= FOOTER_BYTES:
        raise PayloadError(f"The payload has {len(payload)} bytes, fewer than a type byte and a footer.")
    mask = resign_mask(int.from_bytes(payload[-10:-8], "little"), rdb_version)
    footer = int.from_bytes(payload[-FOOTER_BYTES:], "little") ^ int.from_bytes(mask, "little")
    return payload[:-FOOTER_BYTES] + footer.to_bytes(FOOTER_BYTES, "little")
