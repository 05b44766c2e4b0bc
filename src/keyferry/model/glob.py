"""Key patterns, byte for byte as the servers match them (Redis src/util.c, stringmatchlen)."""

from __future__ import annotations

import re
from collections.abc import Callable


def compile_glob(pattern: bytes) -> Callable[[bytes], bool]:
    r"""A matcher for one glob: ``*``, ``?``, ``[abc]``, ``[^a]``, ``[a-z]``, ``\x``.

    Follows the server in the corners: a class that is never closed ends with the pattern, a reversed range
    counts as its ordered form, ``\`` at the very end stands for itself, and the empty name matches the empty
    pattern and ``*`` alone.
    """
    expression = re.compile(_translate(pattern), re.DOTALL)
    empty_matches = pattern in (b"", b"*")
    return lambda key: expression.fullmatch(key) is not None if key else empty_matches


def _translate(pattern: bytes) -> bytes:
    """One expression that never goes back over a ``*``: the first place where a part fits is always good enough."""
    first, *others = _parts(pattern)
    if not others:
        return first
    *middle, last = others
    return first + b"".join(b"(?>.*?" + part + b")" for part in middle if part) + b".*" + last


def _parts(pattern: bytes) -> list[bytes]:
    """Expressions for what stands between the stars, each of a fixed length."""
    parts: list[list[bytes]] = [[]]
    i = 0
    while i < len(pattern):
        byte = pattern[i : i + 1]
        if byte == b"*":
            parts.append([])
        elif byte == b"?":
            parts[-1].append(b".")
        elif byte == b"[":
            expression, i = _class(pattern, i + 1)
            parts[-1].append(expression)
        elif byte == b"\\" and i + 1 < len(pattern):
            i += 1
            parts[-1].append(re.escape(pattern[i : i + 1]))
        else:
            parts[-1].append(re.escape(byte))
        i += 1
    return [b"".join(part) for part in parts]


def _signed(byte: int) -> int:
    """The servers compare C chars, which are signed on x86: a range from ``z`` to 0xFF runs from -1 up to ``z``."""
    return byte - 256 if byte > 127 else byte


def _class(pattern: bytes, i: int) -> tuple[bytes, int]:
    """The class that begins at ``i`` (after its ``[``) and the index of its last byte."""
    negated = pattern[i : i + 1] == b"^"
    if negated:
        i += 1
    members: set[int] = set()
    while i < len(pattern):
        byte = pattern[i]
        if byte == 0x5C and i + 1 < len(pattern):
            i += 1
            members.add(pattern[i])
        elif byte == 0x5D:
            break
        elif i + 2 < len(pattern) and pattern[i + 1] == 0x2D:
            low, high = sorted((_signed(byte), _signed(pattern[i + 2])))
            members.update(code & 0xFF for code in range(low, high + 1))
            i += 2
        else:
            members.add(byte)
        i += 1
    if negated:
        members = set(range(256)) - members
    if not members:
        return b"(?!)", i
    return b"[" + b"".join(b"\\x%02x" % byte for byte in sorted(members)) + b"]", i
