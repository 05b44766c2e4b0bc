"""Begins to follow the other way round while both servers are still being made equal, so that nothing is missed.

The feed on the side that is going to gain authority is attached before the commit (PROTOCOL, rule 17), while the run
that follows towards that side goes on. Everything that run writes is named, too; once both servers are proved equal under
the gate, all that was named until then is dropped:

    1. attach; 2. hear, while the other run works; 3. gate; 4. both are proved equal; 5. fence, drop; 6. commit; 7. follow
    a write after the commit is named after 5, one before it is among what was proved equal

A later run that finds this one's checkpoint believes nothing of it: it compares everything.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from keyferry.follow.attaching import FEEDLESS, Attaching
from keyferry.follow.engine import Engine
from keyferry.follow.ground import Ground
from keyferry.follow.marking import Marking
from keyferry.follow.source import Followed
from keyferry.follow.target_side import TargetSide
from keyferry.model.errors import ServerAway

DROP_S_MAX = 2.0
"""Fences take less than a millisecond."""
PUMP_MS = 1.0


class Opposite(Protocol):
    """The run that makes both servers equal: its target is our source."""

    @property
    def mirrored(self) -> bool:
        """Whether clients write to both servers."""

    @property
    def target_databases(self) -> list[int]:
        """Databases of its target that it moves keys to."""

    def target_streams(self) -> Iterable[tuple[int, list[bytes]]]:
        """Keys of its target that hold, or held, streams, by database."""


@dataclass(frozen=True, slots=True)
class EqualParts:
    """Of the follower that begins."""

    ground: Ground
    engine: Engine
    sources: dict[str, Followed]
    attaching: Attaching
    marking: Marking
    target: TargetSide


class EqualBegin:
    """Of one run. Attributes: hearing: Feeds are attached, and nothing is carried yet."""

    def __init__(self, parts: EqualParts) -> None:
        self._parts = parts
        self._opposite: Opposite | None = None
        self.hearing = False

    def attach(self, opposite: Opposite, know_shards: Callable[[], None]) -> None:
        """Attaches the feeds of both servers. ``parts.ground`` has looked at both, and the feed is chosen.

        Raises:
            ServerAway: A server cannot be reached now.
            ServerError: One refuses us.
        """
        parts = self._parts
        self._opposite = opposite
        know_shards()
        self._add_databases(opposite)
        self.hearing = True
        self._attach_feeds()
        parts.target.cover(mirrored=opposite.mirrored)

    def _attach_feeds(self) -> None:
        attaching = self._parts.attaching
        attaching.attach()
        attaching.gaps.clear()
        if attaching.kind not in FEEDLESS:
            attaching.attach_target()

    def _add_databases(self, opposite: Opposite) -> None:
        parts = self._parts
        parts.ground.add_databases(opposite.target_databases)
        for source in parts.sources.values():
            for database in parts.ground.databases:
                source.add_database(database)

    def end(self) -> None:
        """From now on it is followed like every other run. Harmless when it was not begun here."""
        if self.hearing and self._opposite is not None:
            self._learn(self._opposite)
        self.hearing = False
        self._opposite = None

    def _learn(self, opposite: Opposite) -> None:
        """What a copy or a comparison would have met."""
        self._add_databases(opposite)
        for database, keys in opposite.target_streams():
            self._parts.marking.add_streams(database, keys)

    def gap(self, shard: str) -> None:
        """Something of a shard may have been missed while we only heard: everything is compared, unless it is dropped."""
        self._parts.attaching.gaps.add(shard)

    def drop_marks(self, until_s: float | None = None) -> None:
        """Forgets what was named until now. Nobody writes, and both servers have been proved equal since the last write.

        Args:
            until_s: By the monotonic clock; None is ``DROP_S_MAX`` from now.

        Raises:
            ServerAway: A server did not answer until then, or a feed that was lost cannot be attached again.
        """
        assert self._opposite is not None and self.hearing
        parts, opposite = self._parts, self._opposite
        self._attach_feeds()  # one that was lost: nobody writes, so that nothing was missed since the proof
        self._hear_all(time.monotonic() + DROP_S_MAX if until_s is None else until_s)
        for source in parts.sources.values():
            if source.watcher is not None:
                source.watcher.take()
            source.forget()
        self._learn(opposite)
        parts.target.cover(mirrored=opposite.mirrored)
        parts.attaching.gaps.clear()

    def _hear_all(self, until_s: float) -> None:
        """What was done before is named before this ends, not after it.

        Watchers are not waited for, nobody has the time: a stream that they name too much is settled once more.
        """
        engine = self._parts.engine
        fences, target_named = engine.fence(), engine.fence_target()
        wait_ms = 0.0
        while not (engine.fenced(fences) and target_named()):
            if time.monotonic() > until_s:
                raise ServerAway("source", "A server does not answer in the time that there is.")
            engine.pump(wait_ms)
            wait_ms = PUMP_MS
