"""Pages of a big value as the bytes that came: what their replies begin with, how large the next one may be.

A page is passed on without an object for each element; ``bulks`` cuts it into commands of bounded size.
"""

from __future__ import annotations

from keyferry.payload import bulks
from keyferry.payload.exchange import TORN, Exchange, Refused, Steps, Stop
from keyferry.payload.write_commands import COMMAND_BYTES_MAX, ELEMENTS_MAX
from keyferry.wire.resp import encode_command

PAGE_BYTES = 256 << 10
"""What a page should bring."""
FIRST_PAGE_ELEMENTS = 1
"""Nobody knows yet how large they are."""
PAGE_ELEMENTS_MAX = 256
"""Of a hash, a set, a sorted set: each costs either server 1 to 3 us, most of it waiting for memory."""
LIST_PAGE_ELEMENTS_MAX = 1000
STREAM_PAGE_ELEMENTS_MAX = 500
PAGE_GROWTH = 4

COMPACT_ENCODINGS = (b"listpack", b"ziplist", b"intset")
COMPACT_ELEMENTS = 1000
COMPACT_VISITS_MAX = 200_000
"""Elements that one command may pass by in a listpack; some ns each."""


class Page:
    """How many elements to ask for: as many as make ``PAGE_BYTES``, judging by the last page."""

    def __init__(self, elements_max: int = PAGE_ELEMENTS_MAX) -> None:
        self.elements = FIRST_PAGE_ELEMENTS
        self._elements_max = elements_max

    def had(self, size_bytes: int, elements: int) -> None:
        if elements:
            wanted = PAGE_BYTES * elements // max(1, size_bytes)
            self.elements = max(1, min(wanted, self.elements * PAGE_GROWTH, self._elements_max))


def array_of(reply: bytes, start: int = 0) -> tuple[int, int]:
    """How many elements the array at ``start`` has, and where the first of them begins."""
    end = reply.find(b"\r\n", start)
    digits = reply[start + 1 : end]
    if end < 0 or reply[start : start + 1] != b"*" or not digits.isdigit():
        raise unexpected_bytes()
    return int(digits), end + 2


def bulk_of(reply: bytes) -> tuple[int, int]:
    """How long the string is that the reply is, and where its bytes begin."""
    end = reply.find(b"\r\n")
    digits = reply[1:end]
    if end < 0 or reply[:1] != b"$" or not digits.isdigit():
        raise unexpected_bytes()
    return int(digits), end + 2


def scan_of(reply: bytes) -> tuple[bytes, int, int]:
    """The next cursor, how many strings came, and where the first of them begins (HSCAN, SSCAN)."""
    count, cursor_at = array_of(reply)
    end = reply.find(b"\r\n", cursor_at)
    array_at = reply.find(b"*", end)
    if count != 2 or end < 0 or array_at < 0:
        raise unexpected_bytes()
    cursor = reply[end + 2 : array_at - 2]
    return (cursor, *array_of(reply, array_at))


def pass_on(
    exchange: Exchange,
    command: str,
    reply: bytes,
    start: int,
    count: int,
    *,
    unit: int = 1,
    elements_max: int = ELEMENTS_MAX,
) -> Steps[None]:
    """Sends ``count`` strings of a reply to the target as arguments of ``command``.

    Args:
        start: Where the first of them begins; behind the last one the reply ends.
        unit: Strings that belong together and are one element (2: field and value).
        elements_max: Of one command.

    Raises:
        Stop: The target refuses, one of them is too long for it, or the reply is not what it should be.
    """
    head = encode_command(command, exchange.name)[len(b"*2") :]
    if command != "RPUSH":
        elements_max = yield from _bearable(exchange, elements_max)
    try:
        if len(reply) > exchange.destination.proto_max_bulk_bytes:
            exchange.check_length(bulks.longest(reply, start, count))
        pieces = bulks.cut(reply, start, count, unit, elements_max * unit, COMMAND_BYTES_MAX)
    except ValueError:
        raise unexpected_bytes() from None
    exchange.added_elements += count // unit
    for end, strings in pieces:
        yield from exchange.put_long(b"*%d%b" % (strings + 2, head), memoryview(reply)[start:end])
        start = end


def _bearable(exchange: Exchange, elements_max: int) -> Steps[int]:
    """How many elements one command may add, as the target keeps the value now.

    In a listpack or intset each is looked for from the front, or moves what is behind it. Its usual bounds
    (128, 512 elements) are soon passed; a target where they were raised far gets fewer and fewer at a time.
    """
    if exchange.is_spread or exchange.added_elements <= COMPACT_ELEMENTS:
        return elements_max
    (encoding,) = yield from exchange.tell(("OBJECT", "ENCODING", exchange.name))
    exchange.is_spread = encoding not in COMPACT_ENCODINGS
    if exchange.is_spread:
        return elements_max
    return max(1, min(elements_max, COMPACT_VISITS_MAX // exchange.added_elements))


def unexpected_bytes() -> Stop:
    return Stop(Refused("an unexpected reply while the value was read", TORN, "source"))
