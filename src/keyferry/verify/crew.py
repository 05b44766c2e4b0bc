"""Turns the passes of all shards in one loop, with the probes that watch every server.

A pass that breaks ends the crew; whoever made it decides what follows.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from keyferry.copy.house import House, take_startable
from keyferry.copy.poller import Poller
from keyferry.copy.probe import Probe
from keyferry.verify.books import PassTask
from keyferry.verify.passes import KeyPass
from keyferry.verify.watch import VerifyWatch

OpenPass = Callable[[PassTask], KeyPass]


@dataclass(frozen=True, slots=True)
class CrewEvents:
    """What the run hears.

    Attributes:
        on_moved_on: A task's settled cursor, and how many keys came with it since the last call.
        on_done: A task has come to its end.
        on_turn: Every few milliseconds; ends the run by raising.
        enough: Whether the passes should rest, where they are, for something else.
    """

    on_moved_on: Callable[[PassTask, str, int], None]
    on_done: Callable[[PassTask], None]
    on_turn: Callable[[], None]
    enough: Callable[[], bool]


@dataclass(slots=True)
class _Running:
    task: PassTask
    keys_told: int = 0


class PassCrew:
    """Use as a context: everything is closed at its end."""

    def __init__(
        self, poller: Poller, open_pass: OpenPass, watch: VerifyWatch, probes: list[Probe], events: CrewEvents
    ) -> None:
        """
        Args:
            poller: The passes' own.
            open_pass: Connects a pass.
            probes: Are closed with the crew.
        """
        self._open, self._watch, self._events = open_pass, watch, events
        self._house = House(poller, watch.pace.guard, probes)
        self._running: dict[KeyPass, _Running] = {}
        self._ended = (0, 0)
        watch.probes = probes
        watch.pace.begin_pass()

    def __enter__(self) -> PassCrew:
        return self

    def __exit__(self, *_: object) -> None:
        self._watch.probes = []
        for key_pass in self._running:
            key_pass.close()
        self._house.close_probes()

    def run(self, tasks: Iterable[PassTask]) -> None:
        """Does all tasks, those of different shards beside each other, or as many as come before ``enough``.

        Raises:
            ConnectionLost, ServerBusy: Try again what is not done.
            ServerError: A server refuses for good.
            ProtocolError: A peer does not speak RESP.
        """
        waiting = deque(tasks)
        while (waiting or self._running) and not self._events.enough():
            self._start(waiting)
            ready = self._house.wait(buffered=any(key_pass.buffered for key_pass in self._running))
            now = time.monotonic()
            house = self._house.is_due(now)
            for key_pass in self._house.in_turn(self._running):
                if house or key_pass.buffered or key_pass.concerns(ready):
                    key_pass.turn(ready, now)
                    self._tell(key_pass)
                    if key_pass.done:
                        self._end(key_pass)
            if house:
                self._house.keep(now, self._running)
                self._events.on_turn()

    def totals(self) -> tuple[int, int, int]:
        """Of all passes: keys that came, their bytes, keys that are asked for."""
        keys, size = self._ended
        asked = 0
        for key_pass in self._running:
            came, came_bytes, waiting = key_pass.asked
            keys, size, asked = keys + came, size + came_bytes, asked + waiting
        return keys, size, asked

    def _start(self, waiting: deque[PassTask]) -> None:
        for task in take_startable(waiting, [running.task for running in self._running.values()]):
            key_pass = self._open(task)
            self._running[key_pass] = _Running(task)
            self._watch.database = task.database
            key_pass.begin()

    def _tell(self, key_pass: KeyPass) -> None:
        running = self._running[key_pass]
        keys = key_pass.keys_done
        self._events.on_moved_on(running.task, key_pass.cursor, keys - running.keys_told)
        running.keys_told = keys

    def _end(self, key_pass: KeyPass) -> None:
        running = self._running.pop(key_pass)
        keys, size, _ = key_pass.asked
        self._ended = self._ended[0] + keys, self._ended[1] + size
        key_pass.close()
        self._events.on_done(running.task)
