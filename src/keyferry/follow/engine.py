"""The loop that follows: feeds are heard first, then pipelines carry what changed, comparisons look, probes measure.

One thread, one poll(). Feeds live longer than everything else here: when a server is away, pipelines, passes, watchers
and probes are closed and made anew, while ``pump`` goes on hearing the feeds, so that no gap opens.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from typing import Protocol

from keyferry.capture.feed import Feed, Heard
from keyferry.capture.watcher import Watcher
from keyferry.copy.connect import Sides
from keyferry.copy.house import House
from keyferry.copy.pace import Pace
from keyferry.copy.passes import Following, PassContext, Task, open_pass
from keyferry.copy.pipeline import POLL_MS, Pipeline
from keyferry.copy.poller import Poller
from keyferry.copy.probe import Probe
from keyferry.copy.settled import SettledPages
from keyferry.follow.comparisons import Comparisons, Job
from keyferry.follow.ledgers import Ledgers
from keyferry.follow.looks import Looks
from keyferry.follow.source import Followed
from keyferry.model.errors import ServerAway
from keyferry.verify.passes import CompareContext

PUMP_MS = 50.0
EAGER_MS = 1.0
"""So long poll() waits while writers wait: what was named behind everybody's turn is taken up in the next one."""
MORE_THAN_REMEMBERED = "More keys changed than are remembered (--dirty-max)"


class Beside(Protocol):
    """Passes over named keys that run beside the comparisons. Documented at ``looks.Looks``."""

    def turn(self, ready: dict[int, int], now: float, *, house: bool) -> None: ...
    def asked(self) -> tuple[int, int, int]: ...
    def close(self) -> None: ...


class Engine:
    """Everything that has a socket, for one run.

    Args:
        on_scanned: Called for pages of the first copy that are settled.
        on_gap: Called with the shard whose feed says that anything may have changed.
        comparing: Makes the context of a comparison.

    Attributes:
        on_target: Takes what the target's feeds name.
        ledgers: What writers report, where that is read; heard like the feeds.
        looks: At keys that changed on the target while clients write to both servers.
        beside: Other looks.
        eager: Every turn is a whole one, and soon followed by the next: somebody waits.
    """

    def __init__(
        self,
        sides: Sides,
        pace: Pace,
        sources: dict[str, Followed],
        comparisons: Comparisons,
        *,
        on_scanned: Callable[[Task, SettledPages], None],
        on_gap: Callable[[str, str], None],
        comparing: Callable[[Job], CompareContext],
    ) -> None:
        self._sides, self._sources = sides, sources
        self.comparisons = comparisons
        self._on_scanned, self._on_gap = on_scanned, on_gap
        self._comparing = comparing
        self.poller = Poller()
        self._house = House(self.poller, pace.guard)
        self.pipelines: dict[tuple[str, int], Pipeline] = {}
        self._tasks: dict[Pipeline, Task] = {}
        self.target_feeds: dict[str, Feed] = {}
        self.on_target: Callable[[Heard], None] | None = None
        self.ledgers: Ledgers | None = None
        self.looks: Looks | None = None
        self.beside: list[Beside] = []
        self._eager = self._at_once = False
        self._ended = (0, 0)
        self._comparing_first = False
        self.open = False

    @property
    def probes(self) -> list[Probe]:
        """Those that run now; closed with the workers."""
        return self._house.probes

    @probes.setter
    def probes(self, probes: list[Probe]) -> None:
        self._house.probes = probes

    def reopen_probes(self, probes: list[Probe]) -> None:
        """Others in their place."""
        self._house.close_probes()
        self._house.probes = probes

    @property
    def eager(self) -> bool:
        return self._eager

    @eager.setter
    def eager(self, on: bool) -> None:
        self._eager = self._at_once = on
        for pipeline in self.pipelines.values():
            pipeline.eager = on

    def wake(self) -> None:
        """Something was put in for the next turn: it need not wait for a server."""
        self._at_once = self._eager

    # Opening and closing

    def open_pipeline(self, context: PassContext, task: Task, following: Following) -> None:
        """Begins to carry one database of one shard. Args: task: its cursor "" has nothing left to be scanned."""
        pipeline = open_pass(context, task, self.poller, self.totals, self._on_scanned, following)
        pipeline.eager = self._eager
        self.pipelines[task.shard, task.database] = pipeline
        self._tasks[pipeline] = task
        pipeline.begin(task.cursor or None)

    def close_workers(self) -> None:
        """All but the feeds. What was under way is dirty still."""
        for pipeline in self.pipelines.values():
            keys, size = self._ended
            self._ended = keys + pipeline.relay.fetched_keys, size + pipeline.relay.fetched_bytes
            pipeline.close()
        self.pipelines.clear()
        self._tasks.clear()
        self.comparisons.close()
        for its in self._named:
            its.close()
        self._house.close_probes()
        for shard in list(self.target_feeds):
            self._close_target_feed(shard)
        for source in self._sources.values():
            source.broke()
        self.open = False

    def close(self) -> None:
        self.close_workers()
        if self.ledgers is not None:
            self.ledgers.close()
        for source in self._sources.values():
            self.detach(source)

    def detach(self, source: Followed) -> None:
        """Ends the feed of a shard, and the watch over what it does not name."""
        for its in (source.feed, source.watcher):
            if its is not None:
                self.poller.forget(its.fileno())
        source.detach()

    # Turning

    def turn(self) -> None:
        """One turn of everything.

        Raises:
            ConnectionLost, ServerAway, ServerBusy: A server is to be met anew.
            ServerError: One refuses for good.
            ProtocolError: A peer does not speak RESP.
        """
        for source in self._sources.values():
            if not source.attached:  # lost while something else was waited for
                raise ServerAway("source", "The connection that names changes on the source is lost.")
        buffered, self._at_once = self._buffered or self._at_once, False
        ready = self._house.wait(buffered=buffered, wait_ms=EAGER_MS if self._eager else POLL_MS)
        now = time.monotonic()
        due = self._house.is_due(now)
        house = due or self._eager
        self._hear(ready, now, house=house)
        # Another one first each time: what a limit leaves is not to be used up by either.
        self._comparing_first = not self._comparing_first
        if self._comparing_first:
            self._compare(ready, now, house=house)
        for pipeline in list(self.pipelines.values()):
            if house or pipeline.buffered or pipeline.concerns(ready):
                pipeline.turn(ready, now)
        if not self._comparing_first:
            self._compare(ready, now, house=house)
        if due:
            self._house.keep(now, self.pipelines.values())

    def _compare(self, ready: dict[int, int], now: float, *, house: bool) -> None:
        self.comparisons.turn(ready, now, self._comparing, house=house, startable=self._is_scanned)
        for its in self._named:
            its.turn(ready, now, house=house)

    @property
    def _named(self) -> list[Beside]:
        return self.beside if self.looks is None else [self.looks, *self.beside]

    def _is_scanned(self, job: Job) -> bool:
        """A first copy goes on where it is; what it has carried already is compared after it."""
        return all(
            pipeline.is_copied
            for (shard, database), pipeline in self.pipelines.items()
            if database == job.database and (shard == job.shard or job.kind == "extras")
        )

    @property
    def scanning(self) -> bool:
        return not all(pipeline.is_copied for pipeline in self.pipelines.values())

    def pump(self, timeout_ms: float = PUMP_MS) -> None:
        """Hears the feeds, and does nothing else; never raises for a feed that is lost, it is gone then."""
        ready = self.poller.wait(timeout_ms)
        self._hear(ready, time.monotonic(), house=True, raises=False)

    def _hear(self, ready: dict[int, int], now: float, *, house: bool, raises: bool = True) -> None:
        for source in self._sources.values():
            try:
                if source.feed is not None:
                    self._listen(source, source.feed, ready, now, house=house)
                if source.watcher is not None:
                    self._look(source.watcher, ready, now, house=house)
            except ServerAway:
                self.detach(source)
                if raises:
                    raise
        if self.ledgers is not None:
            try:
                self.ledgers.hear(ready, now, house=house)
            except ServerAway:
                if raises:
                    raise
        for shard, feed in list(self.target_feeds.items()):
            try:
                self._listen_to_target(feed, ready, now, house=house)
            except ServerAway:
                if raises:
                    raise
                self._close_target_feed(shard)

    def _listen_to_target(self, feed: Feed, ready: dict[int, int], now: float, *, house: bool) -> None:
        if feed.fileno() in ready or feed.buffered:
            heard = feed.receive(now)
            if self.on_target is not None:
                self.on_target(heard)
        if house:
            feed.turn(now)
            self.poller.watch(feed.fileno(), feed.events)

    def _close_target_feed(self, shard: str) -> None:
        feed = self.target_feeds.pop(shard)
        self.poller.forget(feed.fileno())
        feed.close()

    def _listen(
        self, source: Followed, feed: Feed, ready: dict[int, int], now: float, *, house: bool
    ) -> None:
        if feed.buffered or ready.get(feed.fileno(), 0) & ~select.POLLOUT:
            heard = feed.receive(now)
            source.hear(heard, now)
            if heard.everything:
                self._on_gap(source.shard, "Everything on the source was flushed, or may have been")
            if source.overflowed:
                source.forgive_overflow()
                self._on_gap(source.shard, MORE_THAN_REMEMBERED)
        if house:
            feed.turn(now)
            self.poller.watch(feed.fileno(), feed.events)

    def _look(self, watcher: Watcher, ready: dict[int, int], now: float, *, house: bool) -> None:
        if watcher.buffered or ready.get(watcher.fileno(), 0) & ~select.POLLOUT:
            watcher.read(now)
        if house:
            watcher.turn(now)
            self.poller.watch(watcher.fileno(), watcher.events)

    @property
    def _buffered(self) -> bool:
        """Something is there to be worked on."""
        return any(pipeline.buffered for pipeline in self.pipelines.values()) or any(
            source.feed and source.feed.buffered for source in self._sources.values()
        )

    def totals(self) -> tuple[int, int, int]:
        """Keys and bytes that came, keys asked for: of pipelines and comparisons together."""
        keys, size = self._ended
        asked = 0
        for pipeline in self.pipelines.values():
            relay = pipeline.relay
            keys, size = keys + relay.fetched_keys, size + relay.fetched_bytes
            asked += relay.fetching_keys
        for more in (self.comparisons.asked(), *(its.asked() for its in self._named)):
            keys, size, asked = keys + more[0], size + more[1], asked + more[2]
        return keys, size, asked

    # Fences

    def fenced(self, shards: dict[str, int]) -> bool:
        """Whether the fences that ``fence`` began have passed; False also when a feed is gone."""
        for shard, number in shards.items():
            feed = self._sources[shard].feed
            if feed is None or not feed.passed(number):
                return False
        return True

    def fence_target(self) -> Callable[[], bool]:
        """Begins one on every feed of the target; what it gives says whether they have passed."""
        self.wake()
        fences = {shard: (feed, feed.fence()) for shard, feed in self.target_feeds.items()}
        return lambda: all(
            self.target_feeds.get(shard) is feed and feed.passed(number)
            for shard, (feed, number) in fences.items()
        )

    def fence(self) -> dict[str, int]:
        """Begins one on every source feed; empty where there are no feeds."""
        self.wake()
        return {
            shard: source.feed.fence() for shard, source in self._sources.items() if source.feed is not None
        }
