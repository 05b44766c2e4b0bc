"""Turns the pipelines of all shards in one loop, with the probes that watch every server.

One shard's loop is N shards' loop: each turn moves the bytes of those whose sockets are ready. A pipeline that breaks
ends the crew; whoever made it decides what follows.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable

from keyferry.copy.house import House, take_startable
from keyferry.copy.passes import PassContext, Task, open_pass
from keyferry.copy.pipeline import Pipeline
from keyferry.copy.poller import Poller
from keyferry.copy.probe import Probe
from keyferry.copy.settled import SettledPages
from keyferry.copy.watch import Watch


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
        self._context, self._watch = context, watch
        self._on_settled, self._on_done, self._on_turn = on_settled, on_done, on_turn
        self._house = House(Poller(), watch.pace.guard, probes)
        self._running: dict[Pipeline, Task] = {}
        self._ended = (0, 0)
        watch.use(probes)
        watch.pace.begin_pass()

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        self._watch.use([])
        for pipeline in self._running:
            pipeline.close()
        self._house.close_probes()

    def run(self, tasks: Iterable[Task]) -> None:
        """Does all tasks, those of different shards beside each other.

        Raises:
            ConnectionLost, ServerBusy: Try again what is not done.
            ExpiryMoved: Try again, asking for expiries.
            ServerError: A server refuses for good.
            ProtocolError: A peer does not speak RESP.
        """
        waiting = deque(tasks)
        while waiting or self._running:
            self._start(waiting)
            ready = self._house.wait(buffered=any(pipeline.buffered for pipeline in self._running))
            now = time.monotonic()
            house = self._house.is_due(now)
            for pipeline in self._house.in_turn(self._running):
                if house or pipeline.buffered or pipeline.concerns(ready):
                    pipeline.turn(ready, now)
                    if pipeline.done:
                        self._end(pipeline)
            if house:
                self._house.keep(now, self._running)
                self._on_turn()

    def _start(self, waiting: deque[Task]) -> None:
        for task in take_startable(waiting, self._running.values()):
            pipeline = open_pass(self._context, task, self._house.poller, self._totals, self._on_settled)
            self._running[pipeline] = task
            self._watch.database = task.database
            pipeline.begin(None if task.keys is not None else task.cursor)

    def _end(self, pipeline: Pipeline) -> None:
        task = self._running.pop(pipeline)
        keys, size = self._ended
        self._ended = keys + pipeline.relay.fetched_keys, size + pipeline.relay.fetched_bytes
        pipeline.close()
        self._on_done(task)

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


__all__ = ["Crew"]
