"""The four ways in which a value travels, best first, and the verdict that none is possible."""

from __future__ import annotations

from enum import IntEnum


class Method(IntEnum):
    """How a payload of one type byte gets to one target. The numbers index the relay's action table."""

    RESTORE = 0
    """As it is."""
    RESIGNED = 1
    """The same value bytes under the target's RDB version and a CRC64 to match."""
    TRANSCODED = 2
    """Decoded, and encoded anew with types that the target knows."""
    LOGICAL = 3
    """With the type's own commands under a temporary name, then put in the key's place."""
    IMPOSSIBLE = 4
    """The target cannot hold it; the key fails with the reason."""
