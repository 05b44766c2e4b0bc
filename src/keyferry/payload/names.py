"""The name under which a value is built before it takes the place of the key.

Building beside the key is what keeps half a value from every reader; RENAME needs both names in one slot.
"""

from __future__ import annotations

import binascii
import hashlib
from functools import lru_cache
from itertools import count

from keyferry.model.keys import RESERVED_PREFIX, hash_tag

SLOTS = 16384
TEMPORARY_PREFIX = RESERVED_PREFIX + b"tmp:"
_DIGEST_BYTES = 16


def slot(key: bytes) -> int:
    """The cluster slot of a key: CRC-16/XMODEM of its hash tag, modulo 16384.

    Source: https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/
    """
    return binascii.crc_hqx(hash_tag(key), 0) % SLOTS


def temporary_name(key: bytes) -> bytes:
    """``keyferry:tmp:<digest>{tag}``: another name for every key, always the same one, in the key's slot.

    A run that finds the name taken knows it as the left-over of an earlier one and removes it. The tag is the
    key's own where it can be one; else (``a}b``, the empty name, ``{}x``, ``}``) a short one of the same
    slot.
    """
    tag = hash_tag(key)
    if not tag or b"}" in tag:
        tag = _short_tag(slot(key))
    digest = hashlib.blake2b(key, digest_size=_DIGEST_BYTES).hexdigest().encode()
    return TEMPORARY_PREFIX + digest + b"{" + tag + b"}"


@lru_cache(maxsize=SLOTS)
def _short_tag(wanted: int) -> bytes:
    """The smallest hexadecimal number whose slot is ``wanted``; each slot has one of at most 5 digits."""
    numbers = (b"%x" % number for number in count())
    return next(tag for tag in numbers if binascii.crc_hqx(tag, 0) % SLOTS == wanted)
