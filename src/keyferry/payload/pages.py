"""Pages of a big value as the bytes that came: what their replies begin with, how large the next one may be.

A page is passed on without an object for each element; ``bulks`` cuts it into commands of bounded size.
"""

from __future__ import annotations

from collections.abc import Iterator

from keyferry.payload import bulks
from keyferry.payload.exchange import TORN, Batch, Exchange, Refused, Steps, Stop
from keyferry.payload.write_commands import COMMAND_BYTES_MAX, ELEMENTS_MAX
from keyferry.wire.resp import encode_command

PAGE_BYTES = 256 << 10
"""What a page should bring."""
FIRST_PAGE_ELEMENTS = 4
PAGE_ELEMENTS_MAX = 256
PAGE_GROWTH = 4


class Page:
    """How many elements to ask for: as many as make ``PAGE_BYTES``, judging by the last page."""

    def __init__(self) -> None:
        self.elements = FIRST_PAGE_ELEMENTS

    def had(self, size_bytes: int, elements: int) -> None:
        if elements:
            wanted = PAGE_BYTES * elements // max(1, size_bytes)
            self.elements = max(1, min(wanted, self.elements * PAGE_GROWTH, PAGE_ELEMENTS_MAX))


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


def pass_on(exchange: Exchange, command: str, reply: bytes, start: int, count: int, unit: int) -> Steps[None]:
    """Sends ``count`` strings of a reply to the target as arguments of ``command``.

    Args:
        start: Where the first of them begins; behind the last one the reply ends.
        unit: Strings that belong together (2: field and value).

    Raises:
        Stop: The target refuses, one of them is too long for it, or the reply is not what it should be.
    """
    for batch in _batches(exchange, command, reply, start, count, unit):
        yield from exchange.put(batch)


def _batches(
    exchange: Exchange, command: str, reply: bytes, start: int, count: int, unit: int
) -> Iterator[Batch]:
    head = encode_command(command, exchange.name)[len(b"*2") :]
    try:
        if len(reply) > exchange.destination.proto_max_bulk_bytes:
            exchange.check_length(bulks.longest(reply, start, count))
        pieces = bulks.cut(reply, start, count, unit, ELEMENTS_MAX * unit, COMMAND_BYTES_MAX)
    except ValueError:
        raise unexpected_bytes() from None
    for end, strings in pieces:
        yield Batch(b"".join((b"*%d" % (strings + 2), head, memoryview(reply)[start:end])), 1)
        start = end


def unexpected_bytes() -> Stop:
    return Stop(Refused("an unexpected reply while the value was read", TORN, "source"))
