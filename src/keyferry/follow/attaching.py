"""Feeds and watchers: chosen once, attached before anything is read, and again after every gap."""

from __future__ import annotations

import time

from keyferry.capture.choice import BEST_FIRST, Availability, choose
from keyferry.capture.feed import open_feed
from keyferry.capture.kinds import FeedKind
from keyferry.capture.probe import probe
from keyferry.capture.watcher import Watcher
from keyferry.copy.connect import Sides
from keyferry.follow.engine import Engine
from keyferry.follow.ground import Ground
from keyferry.follow.notify import Notifying
from keyferry.follow.settings import SyncSettings
from keyferry.follow.source import Followed
from keyferry.model.errors import ServerAway, ServerError
from keyferry.telemetry.progress import Alert, Teller
from keyferry.wire.session import Session

FEEDLESS = (FeedKind.SWEEPS, FeedKind.WRITERS)
"""No connection of the source's names keys."""


class Attaching:
    """Of one run."""

    def __init__(
        self,
        settings: SyncSettings,
        sides: Sides,
        ground: Ground,
        engine: Engine,
        sources: dict[str, Followed],
        tell: Teller,
    ) -> None:
        self._settings, self._sides, self._ground = settings, sides, ground
        self._engine, self._sources, self._tell = engine, sources, tell
        self._notifying = Notifying(ground, tell)
        self.kind: FeedKind | None = None
        self.gaps: set[str] = set()
        """Shards whose feeds were attached after something of theirs had been carried: to be compared."""
        self._told_blind = False

    def choose(self) -> FeedKind:
        """Finds the best feed that every server of the source allows, and says what it means.

        Raises:
            RefusedError: The one that was asked for is not available.
        """
        wanted = self._settings.feed
        # The next best is only tried where the best is missing: that may write a key.
        found = self._probe((wanted,) if wanted else (FeedKind.TRACKING,))
        if wanted is None and not all(one.available for server in found for one in server):
            found = self._probe(BEST_FIRST)
        choice = choose(found, wanted)
        self.kind = choice.kind
        for sentence in choice.sentences:
            self._tell(sentence)
        self._tell(f"Changes are followed by {choice.kind.value}.")
        return choice.kind

    def _probe(self, kinds: tuple[FeedKind, ...]) -> list[list[Availability]]:
        found = []
        for shard in self._sides.source.shards:
            with self._sides.session("source", shard=shard.id) as session:
                found.append(probe(session, self._settings.enable_notifications, kinds))
        return found

    def attach(self) -> None:
        """Feeds of the shards that have none; what was carried of them before is a gap.

        Raises:
            ServerAway: A server cannot be reached now.
            ServerBusy: It does not notify of every change now.
            ServerError: One refuses us.
        """
        kind = self.kind
        selection = self._settings.copy.selection
        databases = None if selection.databases is None else self._ground.databases
        for source in self._sources.values():
            if source.attached:
                continue
            session = self._sides.session("source", shard=source.shard)
            if kind is FeedKind.NOTIFICATIONS:
                self._notify(session, source.shard)
            if kind is None or kind in FEEDLESS:
                session.close()
            else:
                source.feed = open_feed(kind, session, databases)
                self._engine.poller.watch(source.feed.fileno(), source.feed.events)
            try:
                source.watcher = self._open_watcher(source)
            except BaseException:
                self._engine.detach(source)
                raise
            if not self._ground.is_new(source.shard):
                self.gaps.add(source.shard)

    def _notify(self, session: Session, shard: str) -> None:
        try:
            self._notifying.enable(session, shard, self._settings.enable_notifications)
            self._notifying.check(session)
        except BaseException:
            session.close()
            raise

    def _open_watcher(self, source: Followed) -> Watcher:
        notifications = self.kind is FeedKind.NOTIFICATIONS
        watcher = Watcher(self._sides.session("source", shard=source.shard), notifications=notifications)
        self._engine.poller.watch(watcher.fileno(), watcher.events)
        now = time.monotonic()
        for database, keys in source.streams.items():
            watcher.add_streams(database, keys)
            if database in source.supplies:
                source.mark(database, keys, now)
        return watcher

    @property
    def hears_target(self) -> bool:
        """Whether the target's feeds are attached, or cannot be."""
        # Without a feed of the source nobody could tell its changes from those of the target; sweeps find those
        # all the same, and writers report them.
        return self.kind in FEEDLESS or bool(self._engine.target_feeds) or self._told_blind

    def attach_target(self) -> None:
        """Only to notice writes of others; a target that allows no feed is followed all the same.

        Raises:
            ServerAway: It cannot be reached now.
        """
        for shard in self._sides.target.shards:
            if shard.id in self._engine.target_feeds:
                continue
            session = self._sides.session("target", shard=shard.id)
            try:
                feed = open_feed(FeedKind.TRACKING, session)
            except ServerAway:
                raise
            except ServerError as error:
                if not self._told_blind:
                    self._told_blind = True
                    self._tell(Alert(f"Writes of others to the target will not be noticed: {error.message}"))
                continue
            self._engine.target_feeds[shard.id] = feed
            self._engine.poller.watch(feed.fileno(), feed.events)

    def restore(self) -> None:
        """Puts back what was set on the source, where it can be reached."""
        if self._ground.checkpoint.notifications:
            self._notifying.restore(self._sides)
            self._ground.save(force=True)
