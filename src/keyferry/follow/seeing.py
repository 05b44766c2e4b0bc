"""What the watchers of the source have seen that no feed names, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from keyferry.capture.kinds import FeedKind
from keyferry.capture.watcher import Seen
from keyferry.copy.replies import ServerBusy
from keyferry.copy.settings import CopySettings
from keyferry.follow.attaching import Attaching
from keyferry.follow.engine import Engine
from keyferry.follow.ground import Ground
from keyferry.follow.notify import SWITCHED_OFF
from keyferry.follow.source import Followed
from keyferry.telemetry.progress import Alert, Teller


@dataclass(frozen=True, slots=True)
class SeeingAsks:
    """What follows.

    Attributes:
        gap: Anything of a shard may have changed, for this reason.
        functions: A function library may have changed.
        compare_later: Everything is to be compared when it is opened anew.
    """

    gap: Callable[[str, str], None]
    functions: Callable[[], None]
    compare_later: Callable[[], None]


class Seeing:
    """Of one run."""

    def __init__(
        self,
        settings: CopySettings,
        ground: Ground,
        engine: Engine,
        sources: dict[str, Followed],
        attaching: Attaching,
        asks: SeeingAsks,
        tell: Teller,
    ) -> None:
        self._settings, self._ground, self._engine = settings, ground, engine
        self._sources, self._attaching, self._asks, self._tell = sources, attaching, asks, tell
        self._told_streams = False

    def take_all(self, now: float) -> None:
        """Of every shard. Raises as ``take``."""
        for source in list(self._sources.values()):
            self.take(source, now)

    def take(self, source: Followed, now: float) -> None:
        """Marks what one watcher has seen.

        Raises:
            ServerBusy: Notifications were switched off, or databases have come: everything is to be opened anew.
        """
        if source.watcher is None:
            return
        seen, shard = source.watcher.take(), source.shard
        if seen.run_id:
            self._ground.count_keys({shard: sum(seen.keys.get(db, 0) for db in self._ground.databases)})
        if seen.swapped:
            self._asks.gap(shard, "Databases were swapped on the source (SWAPDB)")
        elif self._evicts(source, seen):
            self._asks.gap(shard, "The source has evicted keys, which no writer reports")
        elif seen.flushed and self._attaching.kind is not FeedKind.TRACKING:
            self._asks.gap(shard, "The source was flushed")
        elif seen.silent:
            self._engine.detach(source)
            raise ServerBusy("source", SWITCHED_OFF)
        if seen.functions and self._settings.functions:
            self._asks.functions()
        if seen.blind and not self._told_streams:
            self._told_streams = True
            self._tell(Alert("Stream groups cannot all be watched: " + "; ".join(seen.blind)))
        for database, key in seen.streams:
            if database in source.supplies:
                source.mark(database, [key], now)
        if self._settings.selection.databases is None:
            self._meet_databases(set(seen.keys) | source.databases_met)

    def _evicts(self, source: Followed, seen: Seen) -> bool:
        """Whether keys are gone that only a server's own feed would have named."""
        comparing = not self._engine.comparisons.idle
        if self._attaching.kind is not FeedKind.WRITERS or not seen.run_id or comparing:
            return False
        before, source.evicted_keys = source.evicted_keys, seen.evicted_keys
        return before is not None and seen.evicted_keys > before

    def _meet_databases(self, databases: set[int]) -> None:
        """Databases that were empty when the sync began."""
        new = sorted(databases - set(self._ground.databases))
        if not new:
            return
        self._ground.add_databases(new)
        names = ", ".join(map(str, new))
        self._tell(f"The source uses database {names} now: following it, too.")
        self._asks.compare_later()
        raise ServerBusy("source", "a new database is to be followed")
