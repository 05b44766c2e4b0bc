"""Function libraries in a switch: carried while nobody waits, and again under the gate only when they have changed."""

from __future__ import annotations

from collections.abc import Callable

from keyferry.copy.connect import Sides
from keyferry.follow.functions import carry_functions
from keyferry.wire.resp import Reply


class Libraries:
    """Of one switch.

    Args:
        sides: Their source is the side that is losing authority.
        wanted: They are carried at all.
    """

    def __init__(self, sides: Sides, tell: Callable[[str], None], *, wanted: bool) -> None:
        self._sides, self._tell, self._wanted = sides, tell, wanted
        self._carried: Reply = None

    def carry(self) -> None:
        """Raises ServerAway when a server cannot be reached now."""
        if self._wanted:
            self._carried = self._dump()
            carry_functions(self._sides, self._tell)

    def carry_if_changed(self) -> None:
        """Raises as ``carry``."""
        if self._wanted and self._dump() != self._carried:
            self.carry()

    def _dump(self) -> Reply:
        with self._sides.session("source") as session:
            return session.call("FUNCTION", "DUMP")
