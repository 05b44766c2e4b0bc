"""Whether two payloads that differ in their bytes hold the same strings, lists, sets, sorted sets or hashes.

Servers of different versions pack the same value differently, and two of the same version list a large set in
different orders, so this is asked of a good part of all keys that are no strings.
"""

from __future__ import annotations

from keyferry.model.build import wanted
from keyferry.model.identity import Family
from keyferry.payload.equal import same_value
from keyferry.payload.errors import PayloadError
from keyferry.payload.footer import FOOTER_BYTES
from keyferry.payload.reader import decode_body

TYPES = frozenset((0, 1, 10, 14, 18, 2, 11, 20, 3, 5, 12, 17, 4, 13, 16))
"""Type bytes of plain values, which mean the same to all servers (payload.types)."""


def same_elements_pure(source: bytes, target: bytes) -> bool | None:
    """Compares two payloads of ``TYPES``, as ``payload.equal.same_value`` does.

    Checksums are not looked at: no damage makes two values equal that are not.

    Returns:
        None where one is of another type, or broken: whoever can read it more closely decides.
    """
    if min(len(source), len(target)) <= FOOTER_BYTES or not {source[0], target[0]} <= TYPES:
        return None
    try:
        # Up to type 21 both families write the same.
        here, there = (decode_body(payload[:-FOOTER_BYTES], Family.REDIS) for payload in (source, target))
    except PayloadError:
        return None
    return same_value(here, there)


same_elements = same_elements_pure
if wanted() != "pure":
    try:
        from keyferry.transfer import _comparing_values

        same_elements = _comparing_values.same_elements
    except ImportError:
        if wanted() == "compiled":
            raise
