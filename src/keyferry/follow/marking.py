"""Which shard of the source a key belongs to, so that its mark is where its pipeline looks."""

from __future__ import annotations

import time
from collections.abc import Callable

from keyferry.copy.connect import Sides
from keyferry.follow.source import Followed
from keyferry.payload.names import slot


class Marking:
    """Of one run.

    Args:
        names_max: With more names in one of the sources there is no room for what is not urgent.
        on_slot_moved: Takes the slot of a key whose owner is not followed (yet): it is compared there.
    """

    def __init__(
        self,
        sides: Sides,
        sources: dict[str, Followed],
        names_max: int,
        on_slot_moved: Callable[[int], None],
    ) -> None:
        self._sides, self._sources = sides, sources
        self._names_max, self._on_slot_moved = names_max, on_slot_moved

    def has_room(self) -> bool:
        """Whether what comparisons and ledgers name can be remembered."""
        return all(source.names < self._names_max for source in self._sources.values())

    def owner(self, key: bytes) -> str | None:
        """The shard that has the key; None, when that has to be found by its slot."""
        if not self._sides.source.cluster:
            return self._sides.source.shards[0].id
        owner = self._sides.source.topology.owner(slot(key))
        if owner is not None and owner.id in self._sources:
            return owner.id
        self._on_slot_moved(slot(key))
        return None

    def by_shard(self, keys: list[bytes]) -> dict[str, list[bytes]]:
        """The keys by the shard that has them, without those that are found by slot."""
        if not self._sides.source.cluster:
            return dict.fromkeys(self._sources, keys)
        found: dict[str, list[bytes]] = {}
        for key in keys:
            owner = self.owner(key)
            if owner is not None:
                found.setdefault(owner, []).append(key)
        return found

    def mark(self, database: int, keys: list[bytes]) -> None:
        """These are dirty, for whatever reason."""
        now_s = time.monotonic()
        for shard, its in self.by_shard(keys).items():
            self._sources[shard].mark(database, its, now_s)

    def report(self, database: int, keys: list[bytes]) -> None:
        """Writers have named these: they are dirty, and count as changes that a feed has named."""
        now_s = time.monotonic()
        for shard, its in self.by_shard(keys).items():
            self._sources[shard].mark(database, its, now_s)
            self._sources[shard].changes += len(its)

    def add_streams(self, database: int, keys: list[bytes]) -> None:
        """These hold streams. One whose slot is moving is met again where it goes."""
        for key in keys:
            for shard in self.by_shard([key]):
                self._sources[shard].add_stream(database, key)
