"""Between the dirty keys of one database and the pipeline that carries them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from keyferry.capture.dirty import DirtyKeys
from keyferry.copy.settled import SettledPages
from keyferry.copy.supply import BigEnd, BigTask
from keyferry.follow.biggest import Biggest
from keyferry.telemetry.following import BigKey
from keyferry.telemetry.report import Counts
from keyferry.transfer.config import Outcome

FAILURES_MAX = 10_000
"""Keys whose failure is remembered by name; more are only counted."""


class ForeignKeys(Protocol):
    """Of one database: keys that the target held, and the source did not, when the sync began."""

    def holds(self, key: bytes) -> bool: ...

    def forget(self, keys: list[bytes]) -> None:
        """The source has them now."""
        ...


class DirtySupply:
    """A ``Supply`` and a ``BigSupply`` (copy.supply) of dirty keys. Survives the pipelines that it feeds.

    Args:
        on_taken: Gets the keys whose marks are taken off.
    """

    def __init__(self, dirty: DirtyKeys, on_taken: Callable[[list[bytes]], None], database: int = 0) -> None:
        self.dirty, self._on_taken, self._database = dirty, on_taken, database
        self.biggest = Biggest()
        self.same_bigs: set[bytes] | None = None
        """Gets big keys that both servers held alike when they were compared in pieces, for who wants to know."""
        self.failures: dict[bytes, str] = {}
        """Keys that cannot be carried, with the reason, until they can."""
        self.counts = Counts()
        self.notes: Counter[str] = Counter()
        self.deleted = 0
        self.foreign: ForeignKeys | None = None
        """Where keys that only the target has are kept."""
        self._kept: set[bytes] = set()
        self._pages: dict[int, list[bytes]] = {}

    @property
    def open(self) -> bool:
        return True

    def presses(self, now_s: float) -> bool:
        return self.dirty.presses(now_s)

    def take(self, limit: int, now_s: float) -> list[bytes]:
        keys = self.dirty.take(limit, now_s)
        if keys:
            self._on_taken(keys)
        return keys

    def sent(self, page: int, keys: list[bytes]) -> None:
        self._pages[page] = keys

    def carried(self, pages: SettledPages, now_s: float) -> None:
        for failure in pages.failures:
            self._failed(failure.key, failure.reason)
        for number in pages.settled.pages:
            keys = self._pages.pop(number)
            if self.failures:
                self._healed(keys, {failure.key for failure in pages.failures})
            self.dirty.arrived(keys, now_s)
            if self.foreign is not None:
                self.foreign.forget([key for key in keys if key not in self._kept])
                self._kept.difference_update(keys)
        outcomes = pages.settled.outcomes
        self.counts.copied += outcomes[Outcome.COPIED]
        self.counts.vanished += outcomes[Outcome.VANISHED]
        self.counts.bytes += pages.settled.payload_bytes
        self.deleted += outcomes[Outcome.VANISHED]
        self.notes.update(pages.notes)

    def keeps(self, key: bytes) -> bool:
        """Whether a key that the source does not have stays: only the target ever had it.

        A feed may name it all the same, when another database has a key of that name.
        """
        if self.foreign is None or not self.foreign.holds(key):
            return False
        self._kept.add(key)
        return True

    def _failed(self, key: bytes, reason: str) -> None:
        self.dirty.failed(key)
        self.remember(key, reason)

    def remember(self, key: bytes, reason: str) -> None:
        """The key cannot be carried."""
        if len(self.failures) < FAILURES_MAX:
            self.failures[key] = reason

    def _healed(self, keys: list[bytes], failed: set[bytes]) -> None:
        for key in keys:
            if key not in failed:
                self.failures.pop(key, None)

    def broke(self) -> None:
        """The pipeline is gone; what was under way is dirty still."""
        self._pages.clear()
        self.dirty.returned()

    # Big keys

    def meet(self, key: bytes, size_bytes: int, kind: str, members: int | None) -> None:
        self.biggest.meet(BigKey(key, self._database, size_bytes, members, kind))

    def hand_over(self, key: bytes, size_bytes: int) -> None:
        self.dirty.hand_over(key, size_bytes, time.monotonic())

    def has_big(self, now_s: float) -> bool:
        return bool(self.dirty.bigs) and self.dirty.bigs.has(now_s)

    def take_big(self, now_s: float) -> BigTask | None:
        taken = self.dirty.bigs.take(now_s)
        if taken is None:
            return None
        self._on_taken([taken[0]])
        return BigTask(*taken)

    def ended_big(self, key: bytes, end: BigEnd, now_s: float) -> None:
        bigs = self.dirty.bigs
        if end.settled:
            bigs.ended(key, now_s, seconds=end.seconds, size_bytes=end.size_bytes)
            if end.same and self.same_bigs is not None:
                self.same_bigs.add(key)
            self.failures.pop(key, None)
            self.deleted += end.gone
            if end.gone:
                self.biggest.forget(key)
            self.counts.copied += not end.gone
            self.counts.bytes += end.size_bytes
        elif end.torn:
            bigs.torn(key, now_s)
        else:
            bigs.failed(key)
            self.remember(key, end.refused.reason if end.refused else "refused")

    def forget_big(self, key: bytes) -> None:
        self.dirty.bigs.forget(key)

    def give_back(self, key: bytes) -> None:
        self.dirty.give_back(key, time.monotonic())
