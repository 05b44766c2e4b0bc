"""Whether two raw replies say the same. One may come decoded, one from a server that speaks the other RESP."""

from __future__ import annotations

from typing import Any


def plain(reply: Any) -> Any:
    """A reply in one form: strings as bytes, maps as flat lists, sets as lists."""
    if isinstance(reply, str):
        return reply.encode("utf-8", "surrogateescape")
    if isinstance(reply, dict):
        return [plain(part) for pair in reply.items() for part in pair]
    if isinstance(reply, (list, tuple, set, frozenset)):
        return [plain(part) for part in reply]
    if isinstance(reply, float):
        return b"%r" % reply if reply != int(reply) else b"%d" % int(reply)
    return reply


def holds_text(reply: Any) -> bool:
    """Whether a connection has decoded any of it."""
    if isinstance(reply, dict):
        return any(holds_text(part) for pair in reply.items() for part in pair)
    if isinstance(reply, (list, tuple, set, frozenset)):
        return any(holds_text(part) for part in reply)
    return isinstance(reply, str)


def alike(first: Any, second: Any, *, unordered: bool = False) -> bool:
    """Whether they are equal; as collections without an order where the servers promise none."""
    first, second = plain(first), plain(second)
    if first == second:
        return True
    if unordered and isinstance(first, list) and isinstance(second, list):
        return sorted(map(repr, first)) == sorted(map(repr, second))
    return False
