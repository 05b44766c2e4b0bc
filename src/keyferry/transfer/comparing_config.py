"""What a comparison is told, and the words in which it answers."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple

FOOTER_BYTES = 10
"""Of a payload: version and checksum (payload.footer)."""
FAR_MS = 1 << 61
"""Expiries beyond this (73 million years) count as this: sums with them fit into 64 bits."""


class Doubt(IntEnum):
    """What is to be done about a key, or known of it."""

    DIFFERS = 0
    """Its answers differ for certain, or one server does not have it."""
    LOOK = 1
    """GETRANGE does not tell: a longer string, another type, or perhaps no key."""
    DECODE = 2
    """Bodies differ; the values may be equal. Both payloads come with it."""
    SOURCE_ERROR = 3
    """With the error's text in the source's place."""
    TARGET_ERROR = 4
    UNSELECTED = 5
    """Of a type that was not asked for: the source's word, or the target's where the source does not have it."""
    STREAM = 6
    """The source has a stream here. In front of what else there is about the key."""
    BIG = 7
    """Its memory is above the bound on one side; the sizes stand in the answers' places, in digits."""


class Pair(NamedTuple):
    """One key's doubt. ``number`` is the key's place among those that were asked for."""

    number: int
    doubt: Doubt
    source: bytes = b""
    target: bytes = b""


class PairRules(NamedTuple):
    """What was asked, and what counts as equal.

    Attributes:
        ranged: GETRANGE 0 .. short_bytes - 1 was asked, else DUMP.
        short_bytes: Strings below so many bytes are short; 0: none is.
        expiring: An expiry was asked behind each value (PEXPIRETIME or PTTL).
        clock_offset_ms: The target's clock minus the source's.
        tolerance_ms: Expiries that may be further apart differ.
        wanted: 256 flags by payload type byte.
        streams: 256 flags by payload type byte: the source's streams that are to be named.
        same_types_max: Up to this type byte equal bodies are equal values on these two servers.
    """

    ranged: bool
    short_bytes: int
    expiring: bool
    clock_offset_ms: int
    tolerance_ms: int
    wanted: bytes
    streams: bytes
    same_types_max: int


Times = tuple[int, int]
"""A server's TIME in Unix milliseconds before and after it answered PTTL; (0, 0) where it answered PEXPIRETIME."""


class Names(NamedTuple):
    """``number`` names as bulk strings, one behind the other."""

    number: int
    data: bytes


class Sieve(NamedTuple):
    """Which keys of a page are meant, and who else has them.

    Attributes:
        lanes: How many connections the other side has.
        slots: Each cluster slot's lane, 16,384 times 2 bytes, little-endian; empty: all keys go to lane 0.
        wanted_slots: 16,384 flags; empty: all are meant.
        passes: Asked per key; None: all are meant. Reserved names never are.
    """

    lanes: int = 1
    slots: bytes = b""
    wanted_slots: bytes = b""
    passes: Callable[[bytes], bool] | None = None
