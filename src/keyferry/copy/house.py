"""What every loop that turns pipelines or passes has in common: one poll(), the probes beside it, and whose turn it is.

A probe's answer counts from the earliest time at which it can have come, or our own work would look like the server's
slowness. So the poll and the probes belong together:

    1. poll() returns at once: something was there already; an answer may have come since poll() last returned.
    2. poll() sleeps, then returns: had the answer been there before, it would not have slept; it came just now.
"""

from __future__ import annotations

import contextlib
import select
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from keyferry.copy.connect import Sides
from keyferry.copy.pace import Guard
from keyferry.copy.pipeline import POLL_MS
from keyferry.copy.poller import Poller
from keyferry.copy.probe import Probe
from keyferry.model.errors import Side

HOUSE_EVERY_S = 0.005
SLEPT_S = 0.0002
WAITING_MS = 20.0
"""A ping that has waited so long counts before it is answered: a server that stands still must not look calm."""
WORKERS_MAX = 64
"""More shards than these wait for their turn."""
PROBED_AT_ONCE = 8
"""With more servers than this each is asked less often: the probes are not to become the load."""


class OnShard(Protocol):
    """A task."""

    @property
    def shard(self) -> str: ...


class Turned(Protocol):
    """A pipeline or a pass."""

    def check_silence(self, now: float, /) -> None: ...


TaskT = TypeVar("TaskT", bound=OnShard)
WorkerT = TypeVar("WorkerT")


class House:
    """Of one loop.

    Args:
        poller: That of whatever is turned in the loop.
        guard: Takes the probes' samples.
        probes: Belong to the house from here on; others may come later.
    """

    def __init__(self, poller: Poller, guard: Guard, probes: Iterable[Probe] = ()) -> None:
        self.poller, self._guard = poller, guard
        self.probes = list(probes)
        self._polled_s = time.monotonic()
        self._due_s = 0.0
        self._first = 0

    def wait(self, *, buffered: bool, wait_ms: float = POLL_MS) -> dict[int, int]:
        """Polls, and hands the probes what came.

        Args:
            buffered: Something is there to be worked on: poll() does not wait.
            wait_ms: So long it waits at most.

        Returns:
            Which descriptors are ready for what.

        Raises:
            ConnectionLost, ProtocolError: Of a probe.
        """
        before = time.monotonic()
        ready = self.poller.wait(0 if buffered else wait_ms)
        after = time.monotonic()
        came = after if after - before > SLEPT_S else self._polled_s
        self._polled_s = after
        for probe in self.probes:
            if ready.get(probe.fileno(), 0) & ~select.POLLOUT:
                probe.read(came)
        return ready

    def is_due(self, now: float) -> bool:
        """Whether it is time for what need not be done in every turn."""
        return now >= self._due_s

    def keep(self, now: float, workers: Iterable[Turned]) -> None:
        """Does it: probes, the guard's samples, dead servers. Raises ConnectionLost."""
        self._due_s = now + HOUSE_EVERY_S
        for probe in self.probes:
            probe.turn(now)
            self.poller.watch(probe.fileno(), probe.events)
            for sample in probe.take_samples():
                self._guard.sample(sample)
            if (waiting_ms := probe.waiting_ms(now)) > WAITING_MS:
                self._guard.sample(waiting_ms)
        for worker in workers:
            worker.check_silence(now)

    def in_turn(self, workers: Iterable[WorkerT]) -> list[WorkerT]:
        """Another one first each time: a limit is not to be used up by the first shard."""
        found = list(workers)
        self._first = (self._first + 1) % max(1, len(found))
        return found[self._first :] + found[: self._first]

    def close_probes(self) -> None:
        for probe in self.probes:
            self.poller.forget(probe.fileno())
            probe.close()
        self.probes = []


def take_startable(waiting: deque[TaskT], running: Iterable[TaskT]) -> list[TaskT]:
    """Takes out of ``waiting`` what can begin beside what is running: one task per shard at a time."""
    busy = [task.shard for task in running]
    found = []
    for _ in range(len(waiting)):
        task = waiting.popleft()
        if task.shard in busy or len(busy) >= WORKERS_MAX:
            waiting.append(task)
            continue
        busy.append(task.shard)
        found.append(task)
    return found


def open_probes(sides: Sides, *, guarded: bool, nodes_of: Sequence[Side] = ("source",)) -> list[Probe]:
    """One for each server, even without the guard: displays show latencies, evictions must be noticed.

    Args:
        guarded: The latency guard listens to them: they ask more often.
        nodes_of: The sides whose slots are followed, where they are clusters.

    Raises:
        As ``Sides.session``.
    """
    deployments = {"source": sides.source, "target": sides.target}
    both: tuple[Side, Side] = ("source", "target")
    servers = [(side, shard.id) for side in both for shard in deployments[side].shards]
    every_s = (0.01 if guarded else 0.2) * max(1.0, len(servers) / PROBED_AT_ONCE)
    found: list[Probe] = []
    with contextlib.ExitStack() as stack:
        for side, shard in servers:
            session = sides.session(side, shard=shard)
            stack.callback(session.close)
            asks_nodes = side in nodes_of and deployments[side].cluster
            found.append(Probe(session, every_s, shard=shard, cluster=asks_nodes))
        stack.pop_all()
    return found
