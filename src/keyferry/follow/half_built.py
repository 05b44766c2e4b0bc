"""Values that were being built when their connections ended: what is left of them on the target is removed.

The next carry of a key begins by removing it; but a key that has gone from the source meanwhile is carried no more. A
run that was killed cannot do this; the next one sweeps (``copy.leftovers``).
"""

from __future__ import annotations

from collections.abc import Iterable

from keyferry.copy.connect import Sides
from keyferry.copy.replies import ServerBusy
from keyferry.model.errors import ServerAway
from keyferry.payload.names import temporary_name
from keyferry.verify.routes import Routes


class HalfBuilt:
    """Of one run. Args: owner: Of the temporary names."""

    def __init__(self, sides: Sides, owner: bytes) -> None:
        self._sides, self._owner = sides, owner
        self._left: set[tuple[int, bytes]] = set()

    def add(self, places: Iterable[tuple[int, bytes]]) -> None:
        """Target databases and keys whose carries have ended in the middle."""
        self._left.update(places)

    def remove(self) -> None:
        """Removes them; nothing may be carried meanwhile, and old connections must have ended.

        Raises:
            ServerAway: The target cannot be reached; what is left is tried the next time.
        """
        if not self._left:
            return
        with Routes(self._sides) as routes:
            for database, key in list(self._left):
                name = temporary_name(key, self._owner)
                try:
                    shard = routes.shard_of("target", key)
                    routes.exchange("target", database, shard, [[("UNLINK", name)]])
                except ServerBusy as busy:
                    raise ServerAway("target", busy.sentence) from None
                self._left.discard((database, key))
