"""The biggest keys that were met on the way: each costs both servers more than thousands of others."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator

from keyferry.telemetry.following import BigKey

BIGGEST_MAX = 5


class Biggest:
    """Of one database of one shard: a handful, however many are met."""

    def __init__(self) -> None:
        self._met: dict[bytes, BigKey] = {}

    def meet(self, big: BigKey) -> None:
        """A key was measured; what was known of it before does not count any more."""
        met = self._met
        if big.key not in met and len(met) >= BIGGEST_MAX:
            smallest = min(met.values(), key=_size)
            if smallest.size_bytes >= big.size_bytes:
                return
            del met[smallest.key]
        met[big.key] = big

    def forget(self, key: bytes) -> None:
        """It is gone."""
        self._met.pop(key, None)

    def __iter__(self) -> Iterator[BigKey]:
        return iter(self._met.values())


def biggest_of(found: Iterable[BigKey]) -> tuple[BigKey, ...]:
    """The biggest, the biggest first; of a key that is there twice the last counts."""
    last = {(big.database, big.key): big for big in found}
    return tuple(heapq.nlargest(BIGGEST_MAX, last.values(), key=_size))


def _size(big: BigKey) -> int:
    return big.size_bytes
