"""What a reply is, or the end of the carry: every server says the same here, so anything else is a tear."""

from __future__ import annotations

from typing import cast

from keyferry.payload.exchange import TORN, Refused, Stop
from keyferry.wire.resp import Reply


def items_of(reply: Reply) -> list[Reply]:
    if isinstance(reply, list):
        return reply
    raise unexpected(reply)


def all_bytes(reply: Reply) -> list[bytes]:
    items = items_of(reply)
    if set(map(type, items)) <= {bytes}:
        return cast("list[bytes]", items)
    raise unexpected(reply)


def bytes_of(reply: Reply) -> bytes:
    if isinstance(reply, bytes):
        return reply
    raise unexpected(reply)


def integer_of(reply: Reply) -> int:
    if isinstance(reply, int):
        return reply
    raise unexpected(reply)


def unexpected(reply: Reply) -> Stop:
    return Stop(
        Refused(f"an unexpected reply of {type(reply).__name__} while the value was read", TORN, "source")
    )
