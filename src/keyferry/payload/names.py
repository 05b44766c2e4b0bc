"""The name under which a value is built before it takes the place of the key.

Building beside the key is what keeps half a value from every reader; RENAME needs both names in one slot.
"""

from __future__ import annotations

import binascii
import hashlib

from keyferry.model.keys import RESERVED_PREFIX, hash_tag

SLOTS = 16384
TEMPORARY_PREFIX = RESERVED_PREFIX + b"tmp:"
_DIGEST_BYTES = 16
_POLYNOMIAL = 0x1021


def slot(key: bytes) -> int:
    """The cluster slot of a key: CRC-16/XMODEM of its hash tag, modulo 16384.

    Source: https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/
    """
    return binascii.crc_hqx(hash_tag(key), 0) % SLOTS


def temporary_prefix(owner: bytes) -> bytes:
    """What the temporary names of one copy begin with."""
    return TEMPORARY_PREFIX + owner + b":" if owner else TEMPORARY_PREFIX


def temporary_name(key: bytes, owner: bytes = b"") -> bytes:
    """``keyferry:tmp:<owner>:<digest>{tag}``: another name for every key, always the same one, in the key's slot.

    A run that finds the name taken knows it as the left-over of an earlier one and removes it. The tag is the
    key's own where it can be one; else (``a}b``, the empty name, ``{}x``, ``}``) a short one of the same
    slot.

    ``owner``: of the copy, letters and digits, so that two copies into one target leave each other's alone.
    """
    tag = hash_tag(key)
    if not tag or b"}" in tag:
        tag = _short_tag(slot(key))
    digest = hashlib.blake2b(key, digest_size=_DIGEST_BYTES).hexdigest().encode()
    return temporary_prefix(owner) + digest + b"{" + tag + b"}"


def _short_tag(wanted: int) -> bytes:
    """Two bytes whose CRC is ``wanted`` in its lower 14 bits.

    The CRC of two bytes is their polynomial times x^16; dividing by x^16 finds them again. Four CRCs belong to
    a slot, and for each slot the bytes of at least one hold no brace (tests/payload/test_names.py).
    """
    candidates = (_divide(wanted + index * SLOTS).to_bytes(2, "big") for index in range(4))
    return next(tag for tag in candidates if b"}" not in tag)


def _divide(crc: int) -> int:
    """``crc`` / x^16 modulo the CRC's polynomial."""
    for _ in range(16):
        crc = ((crc ^ _POLYNOMIAL) >> 1) | 0x8000 if crc & 1 else crc >> 1
    return crc
