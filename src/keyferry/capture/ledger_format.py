"""What the ledger looks like on a server: names of its keys, and how an entry is packed.

The writers' side (``capture.clients.ledger``) and the reading side (``ledger_feed``) share only this. All keys of a ledger
lie in one slot, and in the database that its writers work in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from keyferry.model.keys import RESERVED_PREFIX

DEFAULT_NAME = "default"
"""Of writers whose phase is fixed in code."""
EVERYTHING = b"*"
"""In place of packed members: any key of the database may differ."""

ONE, MANY = b"=", b"+"

Member = tuple[int, bytes]
"""Database and key."""


@dataclass(frozen=True, slots=True)
class LedgerKeys:
    """Names on the server.

    Attributes:
        dirty: SET of members (``member``): keys to be settled.
        full: Exists when any key may differ: more were to be named than are kept by name.
        open: Hash of operations under way, ``<writer>:<number>`` -> packed members (``pack``).
        modes: SET of the modes that writers of this ledger have run in (``Mode``); it stays, so it tells that there are any.
    """

    dirty: bytes
    full: bytes
    open: bytes
    modes: bytes


class Mode:
    """How much writers tell."""

    FAILURES = b"failures"
    """Keys whose second leg failed, is unknown, or differed."""
    AHEAD = b"ahead"
    """An entry per operation, opened before it (PROTOCOL.md, rule 6)."""


def ledger_keys(name: str) -> LedgerKeys:
    """Of the migration, or of the ledger, of this name."""
    begin = RESERVED_PREFIX + b"{%b}:" % name.encode()
    return LedgerKeys(begin + b"ledger", begin + b"ledger:full", begin + b"open", begin + b"ledger:modes")


def member(database: int, key: bytes) -> bytes:
    """``<database>:<key>``."""
    return b"%d:%b" % (database, key)


def split_member(raw: bytes) -> Member:
    """The reverse of ``member``. Raises ValueError when it is none."""
    database, colon, key = raw.partition(b":")
    if not colon or not database.isdigit():
        raise ValueError(f"not a member of a ledger: {raw[:80]!r}")
    return int(database), key


def pack(members: Sequence[bytes]) -> bytes:
    """``=<member>`` for one, which most operations have; else ``+`` and ``<length>:<member>`` for each."""
    if len(members) == 1:
        return ONE + members[0]
    return MANY + b"".join([b"%d:%b" % (len(one), one) for one in members])


def unpack(packed: bytes) -> list[bytes] | None:
    """The members of an entry; None: ``EVERYTHING``. Raises ValueError when it is no entry."""
    if packed == EVERYTHING:
        return None
    if packed.startswith(ONE):
        return [packed[1:]]
    found, at = [], 1
    while packed.startswith(MANY) and at < len(packed):
        colon = packed.find(b":", at)
        length = packed[at:colon] if colon > 0 else b""
        end = colon + 1 + int(length) if length.isdigit() else 0
        if not 0 < end <= len(packed):
            break
        found.append(packed[colon + 1 : end])
        at = end
    if at != len(packed) or not found:
        raise ValueError(f"not an entry of a ledger: {packed[:80]!r}")
    return found
