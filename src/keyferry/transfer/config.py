"""What a relay is told once, and the words in which it answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from struct import iter_unpack
from typing import NamedTuple

from keyferry.payload.names import SLOTS


class ExpiryMode(IntEnum):
    """How a key's expiry is asked for."""

    NONE = 0
    """Not at all: INFO says that no key of the database expires. The driver proves it after each page."""
    ABSOLUTE = 1
    """PEXPIRETIME (Redis >= 7.0): exact, nothing to correct."""
    REMAINING = 2
    """PTTL with the server's TIME right after it, so that it becomes absolute."""


class HintMode(IntEnum):
    """Which eviction hint travels with a key."""

    NONE = 0
    IDLETIME = 1
    FREQ = 2


class Outcome(IntEnum):
    """What became of one key."""

    COPIED = 0
    SKIPPED = 1
    VANISHED = 2
    FAILED = 3
    UNSELECTED = 4
    """Of a type that was not asked for; it does not count as scanned."""


class AsideKind(IntEnum):
    """Why a key leaves the fast path."""

    CONVERT = 0
    """Its payload cannot be restored as it is: the action table says so."""
    OVERSIZE = 1
    """Its payload is larger than ``payload_bytes_max``; it was read and thrown away."""
    VANISHED = 2
    """It was gone when DUMP came."""
    SOURCE_ERROR = 3
    TARGET_ERROR = 4
    DOUBT = 5
    """REMAINING mode: the server was held up around the PTTL, so its expiry is not known to the millisecond."""
    BIG = 6
    """MEMORY USAGE says more than ``look_bytes``, so it was not asked for; ``payload`` is that size in decimal digits."""


class Aside(NamedTuple):
    """A key that somebody must decide about. It counts as unresolved until ``store``, ``resolve`` or ``again``.

    ``index`` is the key's place in its page; page and index are -1 where the key is in none (an error of SCAN).
    ``payload`` is the DUMP payload, the error's text, or what its kind says. ``expires_at_ms`` is Unix time on the
    target's clock, 0 for never. ``hint`` is the eviction hint, -1 for none.
    """

    kind: AsideKind
    page: int
    index: int  # type: ignore[assignment]  # It hides tuple.index, which is of no use here.
    key: bytes
    payload: bytes
    expires_at_ms: int
    hint: int


SHORT_BYTES_MAX = 16_000
"""Lengths below 16,384 take two bytes in a payload."""
LANES_MAX = SLOTS
"""A cluster has no more primaries than slots."""
SIZE_BYTES_MAX = 1 << 50
"""Sizes of values above it are nonsense; sums of those below it fit into 64 bits."""
LOOK_KEYS = 256
"""After so many keys it is decided anew whether most are short strings."""
DOUBT_MS = 1
"""Two TIMEs around a PTTL that are further apart leave its expiry in doubt."""


MOVE_MAX_MS = 1 << 60
"""Expiries within this of the largest number are not moved by the clocks' difference: it would not fit."""


class Settled(NamedTuple):
    """Pages that are done since the last look, counted together.

    ``cursor`` is where SCAN goes on after them: everything before it is acknowledged by the target.
    """

    cursor: bytes
    outcomes: tuple[int, int, int, int, int]
    """Keys by ``Outcome``."""
    payload_bytes: int
    methods: tuple[int, int, int, int]
    """Copied keys by ``Method``."""
    pages: tuple[int, ...]
    """Their numbers, in order."""


@dataclass(frozen=True, slots=True)
class RelayConfig:
    """Constants of one run over one database.

    Attributes:
        actions: 256 ``Method`` numbers by payload type byte.
        wanted: 256 flags by payload type byte; keys of other types are UNSELECTED.
        source_version: RDB version that the source writes into its payloads; another one goes aside.
        target_version: RDB version under which RESIGNED payloads are signed.
        resign_mask: 10 bytes, from ``payload.crc64.resign_mask``.
        clock_offset_ms: Target's clock minus source's, added to every expiry.
        absolute: Send ABSTTL (Redis >= 5.0); else the time that remains.
        replace: Send REPLACE.
        scan_match: Sent as MATCH when not empty; ``scan_type`` as TYPE.
        key_filter: Called per key where globs must be checked on our side; the reserved prefix is always left out.
        payload_bytes_max: Larger payloads are not kept in memory.
        short_bytes: Ask for a key's first so many bytes with GETRANGE before DUMP, while most keys are shorter
            strings: the source does less for it, and the payload is made here. 0 is off.
        look_bytes: Ask for the memory of every key that is not known to be a short string before DUMP, and set those
            above so many bytes aside as BIG: a DUMP of one stalls the source for everybody. 0 is off.
        lanes: Connections to the target, one per primary of a cluster.
        slots: Each cluster slot's lane, 16,384 times 2 bytes, little-endian; empty: all keys go to lane 0.
        wanted_slots: 16,384 flags; scanned keys of other slots are left out like reserved names. Empty: all are
            wanted.
    """

    actions: bytes
    source_version: int
    target_version: int
    resign_mask: bytes
    expiry: ExpiryMode
    wanted: bytes = b"\x01" * 256
    clock_offset_ms: int = 0
    absolute: bool = True
    replace: bool = True
    hints: HintMode = HintMode.NONE
    scan_count: int = 1000
    scan_match: bytes = b""
    scan_type: bytes = b""
    key_filter: Callable[[bytes], bool] | None = None
    payload_bytes_max: int = 32 << 20
    short_bytes: int = 0
    look_bytes: int = 0
    lanes: int = 1
    slots: bytes = b""
    wanted_slots: bytes = b""

    def __post_init__(self) -> None:
        if not 0 <= self.short_bytes <= SHORT_BYTES_MAX:
            raise ValueError(f"short_bytes is at most {SHORT_BYTES_MAX}")
        if len(self.actions) != 256 or len(self.wanted) != 256 or len(self.resign_mask) != 10:
            raise ValueError("actions and wanted are 256 bytes, resign_mask is 10")
        if not 0 <= self.look_bytes <= SIZE_BYTES_MAX:
            raise ValueError(f"look_bytes is at most {SIZE_BYTES_MAX}")
        if not 1 <= self.lanes <= LANES_MAX:
            raise ValueError(f"lanes are 1 to {LANES_MAX}")
        if len(self.slots) not in (0, 2 * SLOTS) or len(self.wanted_slots) not in (0, SLOTS):
            raise ValueError(f"slots is {2 * SLOTS} bytes, wanted_slots {SLOTS}, or they are empty")
        if any(lane >= self.lanes for lane in lanes_by_slot(self.slots)):
            raise ValueError(f"slots names a lane beyond the {self.lanes} there are")


def lanes_by_slot(slots: bytes) -> list[int]:
    """``RelayConfig.slots`` as numbers, one per slot; empty where it is."""
    return [number for (number,) in iter_unpack("<H", slots)]
