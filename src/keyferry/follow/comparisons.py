"""What is to be compared, and the passes that do it: a new generation's rescan, slots that moved, extra keys.

A comparison only reads; what differs becomes dirty, and is settled like every other dirty key. So it can be broken
off, repeated, and run beside everything else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from keyferry.verify.passes import CompareContext, KeyPass, open_compare, open_extras

PASSES_MAX = 4
"""At once; more wait."""


@dataclass(frozen=True, slots=True)
class Job:
    """One pass: over a source shard's keys, or over a target primary's for those that the source does not have."""

    kind: Literal["keys", "extras"]
    shard: str
    database: int
    slots: frozenset[int] | None = None


class Comparisons:
    """Jobs that wait, and passes that run.

    Args:
        may_turn: Whether what passes find can be taken now; else they rest.
    """

    def __init__(self, may_turn: Callable[[], bool]) -> None:
        self._may_turn = may_turn
        self._waiting: dict[Job, str] = {}
        """With the cursor to begin at."""
        self._running: dict[KeyPass, Job] = {}
        self._ended = (0, 0, 0)
        self._keys_before = 0
        self.keys_total = 0
        self.paused = False
        """None is opened or turned; those that run are closed, and go on at their cursors afterwards."""

    @property
    def idle(self) -> bool:
        return not (self._waiting or self._running)

    @property
    def keys_done(self) -> int:
        return self._keys_before + sum(running.keys_done for running in self._running)

    @property
    def running(self) -> list[KeyPass]:
        return list(self._running)

    def is_busy(self, slots: bool) -> bool:
        """Whether a job over slots, or one over everything, is left."""
        jobs = [*self._waiting, *self._running.values()]
        return any((job.slots is not None) == slots for job in jobs)

    def request(self, jobs: list[Job], keys_total: int) -> None:
        """These are to be done from the beginning, also where they are half done: what they saw may be old.

        Args: keys_total: Keys that all these jobs together go over.
        """
        if self.idle:
            self._keys_before = self.keys_total = 0
        present = {*self._waiting, *self._running.values()}
        if not present.issuperset(jobs):
            self.keys_total += keys_total
        for running, job in list(self._running.items()):
            if job in jobs:
                self._close(running)
        for job in jobs:
            self._waiting[job] = "0"

    def drop(self, unwanted: Callable[[Job], bool]) -> None:
        """Forgets jobs, of shards that are gone."""
        for running, job in list(self._running.items()):
            if unwanted(job):
                self._close(running)
        self._waiting = {job: cursor for job, cursor in self._waiting.items() if not unwanted(job)}

    def asked(self) -> tuple[int, int, int]:
        """Keys that came, their bytes, keys that are asked for; of all passes."""
        keys, size, asked = self._ended
        for running in self._running:
            its = running.asked
            keys, size, asked = keys + its[0], size + its[1], asked + its[2]
        return keys, size, asked

    def turn(
        self,
        ready: dict[int, int],
        now_s: float,
        context: Callable[[Job], CompareContext],
        *,
        house: bool,
        startable: Callable[[Job], bool],
    ) -> bool:
        """Lets every pass do its share; True when one ended. Raises as a pass does."""
        if self.paused:
            self.close()
            return False
        if not self._may_turn():
            return False
        self._start(context, startable)
        ended = False
        for running in list(self._running):
            if house or running.buffered or running.concerns(ready):
                running.turn(ready, now_s)
                if running.done:
                    self._keys_before += running.keys_done
                    self._remember_asked(running)
                    running.close()
                    del self._running[running]
                    ended = True
            if house and running in self._running:
                running.check_silence(now_s)
        return ended

    def _start(self, context: Callable[[Job], CompareContext], startable: Callable[[Job], bool]) -> None:
        busy = {(job.kind, job.shard) for job in self._running.values()}
        for job in list(self._waiting):
            if len(self._running) >= PASSES_MAX:
                return
            if (job.kind, job.shard) in busy or not startable(job):
                continue
            cursor = self._waiting[job]
            opener = open_compare if job.kind == "keys" else open_extras
            its = opener(context(job), job.shard, job.database, cursor=cursor, slots=job.slots)
            del self._waiting[job]
            self._running[its] = job
            busy.add((job.kind, job.shard))
            its.begin()

    def close(self) -> None:
        """Breaks off; what runs goes on at its cursor when it is opened again."""
        for running, job in list(self._running.items()):
            cursor = running.cursor
            self._keys_before += running.keys_done
            self._close(running)
            self._waiting[job] = cursor

    def _close(self, running: KeyPass) -> None:
        self._remember_asked(running)
        running.close()
        del self._running[running]

    def _remember_asked(self, running: KeyPass) -> None:
        keys, size, _ = running.asked
        self._ended = (self._ended[0] + keys, self._ended[1] + size, 0)
