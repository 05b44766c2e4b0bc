"""Keys whose value is being built under a temporary name: never one key twice at a time.

SCAN may name a key twice, and a key whose slot moves may be met on two shards:
  1. two carries build the same temporary name in step; 2. the first puts it in the key's place; 3. the second
  finds it gone, takes the value for expired, and removes the key.
"""

from __future__ import annotations

from collections.abc import Callable

from keyferry.copy.later import Later

PAUSE_S = 0.01


class KeysUnderWay:
    """Of one pipeline, with the keys of all that run beside it.

    Args:
        keys: By target database, common to all pipelines of a crew.
        later: Of this pipeline.
    """

    def __init__(self, keys: set[tuple[int, bytes]], database: int, later: Later) -> None:
        self._keys, self._database, self._later = keys, database, later

    def begin(self, key: bytes) -> bool:
        """False: it is under way already; ``later`` is when to ask again."""
        place = (self._database, key)
        if place in self._keys:
            return False
        self._keys.add(place)
        return True

    def end(self, key: bytes) -> None:
        self._keys.discard((self._database, key))

    def later(self, work: Callable[[], None]) -> None:
        self._later.put(PAUSE_S, work)
