"""Key names: the reserved prefix, hash tags, and how a name is written for people and machines."""

from __future__ import annotations

import base64

RESERVED_PREFIX = b"keyferry:"
"""Names that belong to Keyferry: never copied, never content."""


def is_reserved(key: bytes) -> bool:
    return key.startswith(RESERVED_PREFIX)


def escape(key: bytes) -> str:
    """The key as printable ASCII: backslash, control and non-ASCII bytes as ``\\xNN``; reversible."""
    return "".join(chr(b) if 32 <= b < 127 and b != 92 else f"\\x{b:02x}" for b in key)


def machine_names(key: bytes) -> dict[str, str]:
    """``key`` (escaped) and ``key_base64``, as every machine-readable file writes a key."""
    return {"key": escape(key), "key_base64": base64.b64encode(key).decode("ascii")}


def hash_tag(key: bytes) -> bytes:
    """The part of the key that chooses its slot (https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/).

    The bytes between the first ``{`` and the first ``}`` after it, if there is at least one; else the key.
    """
    start = key.find(b"{")
    if start >= 0:
        end = key.find(b"}", start + 1)
        if end > start + 1:
            return key[start + 1 : end]
    return key
