"""A reply as a server gave it, from what redis-py's cluster client made of it.

The client of one server lets us hear its replies; a cluster client gives them shaped. What cannot be told for sure
is not guessed: its keys are reported.
"""

from __future__ import annotations

from typing import Any, Final


class _Unheard:
    __slots__ = ()

    def __repr__(self) -> str:
        return "UNHEARD"


UNHEARD: Final = _Unheard()
_OK = frozenset({"SET", "SETEX", "PSETEX", "MSET", "RENAME", "LSET", "LTRIM", "HMSET", "XGROUP CREATE"})


class Shaped:
    """The reply of a first leg through a cluster client.

    Args:
        reply: as the application gets it.
    """

    __slots__ = ("reply",)

    def __init__(self, reply: Any) -> None:
        self.reply = reply

    def raw(self, name: str) -> Any:
        """What the server had said to the command of this name; UNHEARD when that cannot be told."""
        reply = self.reply
        if isinstance(reply, bool):
            if name in _OK:
                return b"OK" if reply else None
            return int(reply)
        if reply is None or isinstance(reply, (int, bytes, str)):
            return reply
        if isinstance(reply, (list, tuple, set, frozenset)):
            parts = list(reply)
            if all(part is None or isinstance(part, (bytes, str)) for part in parts):
                return parts
        return UNHEARD
