"""Names of keys that stay bytes: as SCAN lists them, framed as arguments, several thousand in one piece.

What a comparison asks about a page of keys is woven around these bytes; a name becomes an object only when there
is something to say about it.
"""

from __future__ import annotations

from collections.abc import Sequence

from keyferry.model.build import wanted
from keyferry.model.keys import RESERVED_PREFIX
from keyferry.payload.names import slot
from keyferry.transfer.comparing_config import Names, Sieve
from keyferry.transfer.cutting import Incomplete, bulk
from keyferry.transfer.replies import scan_reply
from keyferry.transfer.requests import argument, requests
from keyferry.wire.resp import ProtocolError

_EXISTS = b"*%d\r\n$6\r\nEXISTS\r\n%b"


def sifted_pure(reply: bytes, sieve: Sieve) -> tuple[bytes, list[tuple[int, Names]]]:
    """One complete answer to SCAN.

    Returns:
        The cursor, and the names by lane; no lane without any.

    Raises:
        ProtocolError: It is something else.
    """
    try:
        cursor, keys, end = scan_reply(reply, 0)
    except Incomplete:
        raise ProtocolError("A server answered SCAN with something else.") from None
    if end != len(reply):
        raise ProtocolError("A server answered SCAN with something else.")
    by_lane: dict[int, list[bytes]] = {}
    for key in keys:
        if key.startswith(RESERVED_PREFIX):
            continue
        place = 2 * slot(key) if sieve.slots or sieve.wanted_slots else 0
        if sieve.wanted_slots and not sieve.wanted_slots[place // 2]:
            continue
        if sieve.passes is not None and not sieve.passes(key):
            continue
        lane = int.from_bytes(sieve.slots[place : place + 2], "little") if sieve.slots else 0
        by_lane.setdefault(lane, []).append(key)
    return cursor, [(lane, framed(names)) for lane, names in sorted(by_lane.items())]


def framed(keys: Sequence[bytes]) -> Names:
    """Keys as ``Names``."""
    return Names(len(keys), b"".join(map(argument, keys)))


def woven_pure(names: Names, pieces: list[bytes]) -> bytes:
    """The pieces around each name: ``pieces[0]``, name, ``pieces[1]``, name, ... ``pieces[-1]``, key by key."""
    return requests(pieces, [argument(key) for key in _keys(names)])


def exists_pure(names: Names, each: int) -> bytes:
    """EXISTS for all names, ``each`` of them in one command."""
    keys = [argument(key) for key in _keys(names)]
    chunks = [keys[begin : begin + each] for begin in range(0, len(keys), each)]
    return b"".join(_EXISTS % (len(chunk) + 1, b"".join(chunk)) for chunk in chunks)


def picked_pure(names: Names, numbers: list[int]) -> list[bytes]:
    """The keys at these places, which rise."""
    keys = _keys(names)
    return [keys[number] for number in numbers]


def parted_pure(names: Names, count: int) -> tuple[Names, Names]:
    """The first ``count`` names, and the others."""
    keys = _keys(names)
    return framed(keys[:count]), framed(keys[count:])


def _keys(names: Names) -> list[bytes]:
    """Raises ValueError for bytes that are no such names."""
    found, position = [], 0
    try:
        for _ in range(names.number):
            key, position = bulk(names.data, position)
            if key is None:
                raise ValueError("no name")
            found.append(key)
    except (Incomplete, ProtocolError):
        raise ValueError("not the names that were announced") from None
    if position != len(names.data):
        raise ValueError("not the names that were announced")
    return found


sifted, woven, exists, picked, parted = sifted_pure, woven_pure, exists_pure, picked_pure, parted_pure
if wanted() != "pure":
    try:
        from keyferry.transfer import _comparing

        sifted, woven, exists = _comparing.sifted, _comparing.woven, _comparing.exists
        picked, parted = _comparing.picked, _comparing.parted
    except ImportError:
        if wanted() == "compiled":
            raise
