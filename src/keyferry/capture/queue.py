"""Keys that wait in the order in which they were named; taken off in front, however many there are."""

from __future__ import annotations

from collections import deque


class KeyQueue:
    """Names with the moment since which each waits. A name is in it once.

    The order is kept in batches that share one moment. A name that is discarded stays in its batch, and is passed
    over when its turn comes.
    """

    __slots__ = ("_batches", "names")

    def __init__(self) -> None:
        self.names: set[bytes] = set()
        """What waits; to be looked at from outside, not changed."""
        self._batches: deque[tuple[float, list[bytes]]] = deque()

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, key: bytes) -> bool:
        return key in self.names

    def put(self, keys: list[bytes], since_s: float) -> None:
        """Keys that do not wait yet; the list is the queue's from now on."""
        if keys:
            self.names.update(keys)
            self._batches.append((since_s, keys))

    def take(self, limit: int, taken: dict[bytes, float]) -> list[bytes]:
        """The oldest, at most ``limit``; ``taken`` gets them with the moment since which they waited."""
        names = self.names
        found: list[bytes] = []
        while self._batches and len(found) < limit:
            since_s, keys = self._batches[0]
            part = keys[-(limit - len(found)) :]
            del keys[-len(part) :]
            for key in part:
                if key in names:
                    names.discard(key)
                    taken[key] = since_s
                    found.append(key)
            if not keys:
                self._batches.popleft()
        return found

    def discard(self, key: bytes) -> float | None:
        """Takes one out; since when the first of its neighbours waited, at the latest. None: it was not in it."""
        if key not in self.names:
            return None
        oldest_s = self.oldest_s()
        self.names.discard(key)
        return oldest_s

    def oldest_s(self) -> float | None:
        """Since when the first has waited; None when none waits."""
        if not self.names:
            self._batches.clear()
            return None
        return self._batches[0][0]

    def clear(self) -> None:
        self.names.clear()
        self._batches.clear()
