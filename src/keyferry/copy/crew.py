"""Turns the pipelines of all shards in one loop, with the probes that watch every server.

One shard's loop is N shards' loop: each turn moves the bytes of those whose sockets are ready. A pipeline that breaks
ends the crew; whoever made it decides what follows.
"""

from __future__ import annotations

import select
import time
from collections import deque
from collections.abc import Callable, Iterable

from keyferry.copy.passes import PassContext, Task, open_pass
from keyferry.copy.pipeline import POLL_MS, Pipeline
from keyferry.copy.poller import Poller
from keyferry.copy.probe import Probe
from keyferry.copy.settled import SettledPages
from keyferry.copy.watch import Watch

HOUSE_EVERY_S = 0.005
SLEPT_S = 0.0002
WAITING_MS = 20.0
"""A ping that has waited so long counts before it is answered: a server that stands still must not look calm."""
PIPELINES_MAX = 64
"""More shards than these wait for their turn."""


class Crew:
    """Use as a context: everything is closed at its end."""

    def __init__(
        self,
        context: PassContext,
        watch: Watch,
        probes: list[Probe],
        *,
        on_settled: Callable[[Task, SettledPages], None],
        on_done: Callable[[Task], None],
        on_turn: Callable[[], None],
    ) -> None:
        """
        Args:
            probes: Are closed with the crew.
            on_settled: Called for pages that the target has acknowledged, in order per task.
            on_turn: Called every few milliseconds; ends the run by raising.
        """
        self._context, self._watch, self._probes = context, watch, probes
        self._on_settled, self._on_done, self._on_turn = on_settled, on_done, on_turn
        self._poller = Poller()
        self._running: dict[Pipeline, Task] = {}
        self._ended = (0, 0)
        self._polled_s = time.monotonic()
        self._first = 0
        watch.use(probes)
        watch.pace.begin_pass()

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        self._watch.use([])
        for pipeline in self._running:
            pipeline.close()
        for probe in self._probes:
            probe.close()

    def run(self, tasks: Iterable[Task]) -> None:
        """Does all tasks, those of different shards beside each other.

        Raises:
            ConnectionLost, ServerBusy: Try again what is not done.
            ExpiryMoved: Try again, asking for expiries.
            ServerError: A server refuses for good.
            ProtocolError: A peer does not speak RESP.
        """
        waiting = deque(tasks)
        house_s = 0.0
        while waiting or self._running:
            self._start(waiting)
            ready = self._wait()
            now = time.monotonic()
            house = now >= house_s
            for pipeline in self._in_turn():
                if house or pipeline.buffered or pipeline.concerns(ready):
                    pipeline.turn(ready, now)
                    if pipeline.done:
                        self._end(pipeline)
            if house:
                house_s = now + HOUSE_EVERY_S
                self._keep_house(now)
                self._on_turn()

    def _start(self, waiting: deque[Task]) -> None:
        """Begins what can be begun: one task per shard at a time."""
        busy = {task.shard for task in self._running.values()}
        for _ in range(len(waiting)):
            task = waiting.popleft()
            if task.shard in busy or len(self._running) >= PIPELINES_MAX:
                waiting.append(task)
                continue
            busy.add(task.shard)
            pipeline = open_pass(self._context, task, self._poller, self._totals, self._on_settled)
            self._running[pipeline] = task
            self._watch.database = task.database
            pipeline.begin(None if task.keys is not None else task.cursor)

    def _end(self, pipeline: Pipeline) -> None:
        task = self._running.pop(pipeline)
        keys, size = self._ended
        self._ended = keys + pipeline.relay.fetched_keys, size + pipeline.relay.fetched_bytes
        pipeline.close()
        self._on_done(task)

    def _in_turn(self) -> list[Pipeline]:
        """Another one first each time: a limit is not to be used up by the first shard."""
        pipelines = list(self._running)
        self._first = (self._first + 1) % max(1, len(pipelines))
        return pipelines[self._first :] + pipelines[: self._first]

    def _wait(self) -> dict[int, int]:
        """Polls; hands the probes what came, with the earliest time at which it can have come."""
        buffered = any(pipeline.buffered for pipeline in self._running)
        before = time.monotonic()
        ready = self._poller.wait(0 if buffered else POLL_MS)
        after = time.monotonic()
        # Had a probe's answer been there before, poll() would not have slept; had it not slept, the answer may
        # have come at any time since it last returned: then the earliest is taken.
        came = after if after - before > SLEPT_S else self._polled_s
        self._polled_s = after
        for probe in self._probes:
            if ready.get(probe.fileno(), 0) & ~select.POLLOUT:
                probe.read(came)
        return ready

    def _totals(self) -> tuple[int, int, int]:
        """Of this very moment: what one pipeline has just asked for is not to be asked for by the next one again."""
        keys, size = self._ended
        asked = 0
        for pipeline in self._running:
            relay = pipeline.relay
            keys += relay.fetched_keys
            size += relay.fetched_bytes
            asked += relay.fetching_keys
        return keys, size, asked

    def _keep_house(self, now: float) -> None:
        """What need not be done in every turn: probes, the guard's samples, dead servers."""
        guard = self._watch.pace.guard
        for probe in self._probes:
            probe.turn(now)
            self._poller.watch(probe.fileno(), probe.events)
            for sample in probe.take_samples():
                guard.sample(sample)
            if (waiting_ms := probe.waiting_ms(now)) > WAITING_MS:
                guard.sample(waiting_ms)
        for pipeline in self._running:
            pipeline.check_silence(now)


__all__ = ["Crew"]
