"""Which keys anything has happened to since somebody last proved all of them equal.

A switch cannot wait for a comparison of everything. It compares what was touched since the last one: every key that was
named for whatever reason, remembered when it is taken to be settled, so that a key that is named a thousand times costs
one entry. What is dirty still is not in here yet; it comes when it is taken.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

Place = tuple[int, bytes]
"""Source database and key."""


class Touched:
    """Of one run.

    Args:
        keys_max: With more names than this all are forgotten, and ``overflowed`` says so until ``forget``.
    """

    def __init__(self, keys_max: int) -> None:
        self._keys_max = keys_max
        self._keys: dict[int, set[bytes]] = {}
        self._on = False
        self.overflowed = False

    def __len__(self) -> int:
        return sum(map(len, self._keys.values()))

    def note(self, on: bool) -> None:
        """Whether keys are remembered from now on; what was remembered is forgotten when they are not."""
        self._on = on
        if not on:
            self.forget()

    def forget(self) -> None:
        """All keys have been proved equal, as they were when this proof began."""
        self._keys.clear()
        self.overflowed = False

    def add(self, database: int, keys: Iterable[bytes]) -> None:
        """These are taken to be settled."""
        if not self._on or self.overflowed:
            return
        self._keys.setdefault(database, set()).update(keys)
        if len(self) > self._keys_max:
            self._keys.clear()
            self.overflowed = True

    def add_places(self, places: Iterable[Place]) -> None:
        """The same of several databases."""
        for database, key in places:
            self.add(database, (key,))

    def discard(self, places: Iterable[Place]) -> None:
        """These have been proved equal while nobody wrote: it was we who touched them."""
        for database, key in places:
            self._keys.get(database, set()).discard(key)

    def take(self) -> dict[int, set[bytes]]:
        """All of them by database; a new set begins."""
        taken, self._keys = self._keys, {}
        return taken


class Names(Protocol):
    """Documented at ``verify.named_pass.Names``."""

    def take(self, limit: int, now_s: float) -> list[bytes]: ...
    def arrived(self, keys: list[bytes], now_s: float) -> None: ...


class TouchedNames:
    """Names of one database that a pass takes; they are remembered as they are taken."""

    def __init__(self, names: Names, touched: Touched, database: int) -> None:
        self._names, self._touched, self._database = names, touched, database

    def take(self, limit: int, now_s: float) -> list[bytes]:
        keys = self._names.take(limit, now_s)
        if keys:
            self._touched.add(self._database, keys)
        return keys

    def arrived(self, keys: list[bytes], now_s: float) -> None:
        self._names.arrived(keys, now_s)
