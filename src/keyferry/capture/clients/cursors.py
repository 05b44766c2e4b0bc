"""Where a cursor came from: one that the old side gave means nothing on the new side.

An iteration that is under way when authority moves begins anew there, so that it misses nothing; keys may come twice,
as with SCAN itself. This holds for cursors that were given within this process.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from keyferry.model.phases import Side

SCANS = {"SCAN": 1, "HSCAN": 2, "SSCAN": 2, "ZSCAN": 2}
"""Where the cursor stands among the arguments."""
_GIVEN_MAX = 10_000


class Cursors:
    """The cursors that were given last, each with the side that gave it."""

    def __init__(self) -> None:
        self._given: OrderedDict[Any, Side] = OrderedDict()

    def told(self, side: Side, name: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """A command as the side understands it: from the beginning, if its cursor is the other side's."""
        at = SCANS[name]
        if len(args) <= at or self._given.get(_place(name, args, args[at]), side) is side:
            return args
        return (*args[:at], 0, *args[at + 1 :])

    def given(self, side: Side, name: str, args: tuple[Any, ...], reply: Any) -> None:
        """Remembers the cursor of a reply, as redis-py shapes it."""
        cursor = reply[0] if isinstance(reply, (list, tuple)) and reply else 0
        if not isinstance(cursor, int) or not cursor:
            return
        place = _place(name, args, cursor)
        self._given[place] = side
        self._given.move_to_end(place)
        if len(self._given) > _GIVEN_MAX:
            self._given.popitem(last=False)


def _place(name: str, args: tuple[Any, ...], cursor: Any) -> Any:
    text = cursor.decode("ascii", "replace") if isinstance(cursor, bytes) else str(cursor)
    return (name, str(args[1]) if SCANS[name] == 2 else "", text)
