"""What one process of a service does all day, decided without I/O: writes of which it keeps account, reads that it judges.

The service moves with its servers: the demo and the benchmark let several such processes run through a whole
migration. A process never has more than one call under way, so what it reads of its own keys is exactly known; what
it reads of another process's beacon must be no older than what that one had been acknowledged before the read began.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from keyferry.testing.ledger import Ledger
from keyferry.testing.workload_ops import Command
from keyferry.testing.workload_owned import KEYS_PER_FAMILY, Owned, Task
from keyferry.wire.resp import Reply

NOT_HERE = ("handle", "order")
"""Tasks of ``Owned`` that need a reader of their own, or are refused now and then."""
WIDE_VALUE_BYTES = 64


class CallKind(IntEnum):
    """What was sent in one go."""

    READ = 0
    WRITE = 1
    PIPELINE = 2
    """Several commands, at least one of which writes."""


class Outcome(IntEnum):
    """What became of a call."""

    DONE = 0
    FAILED = 1
    """An error that says that nothing was done."""
    UNKNOWN = 2
    """An error that does not say whether it was done."""
    STALE = 3
    """A read that was answered with less than had been acknowledged before it began."""


@dataclass(frozen=True, slots=True)
class Call:
    """Commands that go out together.

    Attributes:
        writes: How many acknowledged writes it stands for when it is done.
        note: Called with the replies; says whether they were as they have to be.
        unknown: Called when nobody knows whether it was done.
    """

    kind: CallKind
    commands: Sequence[Command]
    writes: int
    note: Callable[[Sequence[Reply]], bool]
    unknown: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Habits:
    """How a process spends its time.

    Attributes:
        ticks_per_s: In each: one pipeline, then so many single writes and so many reads.
        pipeline: Tasks in the pipeline; 0 is none.
        wide_keys: Of all processes together: ``string:0`` and so on, as ``fill_strings`` names them; 0 is none.
        wide_share: Of the pipeline's tasks, those that write to them.
    """

    ticks_per_s: float = 25.0
    pipeline: int = 6
    singles: int = 2
    reads: int = 3
    wide_keys: int = 0
    wide_share: float = 0.0


class Beacons(Protocol):
    """What every process was last acknowledged for its beacon, for all of them to see."""

    def __getitem__(self, worker: int, /) -> int: ...

    def __setitem__(self, worker: int, acknowledged: int, /) -> None: ...


class Worker:
    """One process's calls and accounts.

    Args:
        number: From 0, of ``workers``; its keys are its own.
    """

    def __init__(self, number: int, workers: int, habits: Habits, beacons: Beacons, seed: int = 1) -> None:
        self._number, self._workers, self._habits = number, workers, habits
        self._beacons = beacons
        self._rng = random.Random(f"{seed} {number}")
        self._owned = Owned(number, self._rng, without=NOT_HERE)
        self._serial = 0

    @property
    def ledger(self) -> Ledger:
        """What was acknowledged, by key."""
        return self._owned.ledger

    def tick(self) -> Iterator[Call]:
        """The calls of one tick, each to be made before the next one is asked for."""
        if self._habits.pipeline:
            yield self._together([self._task() for _ in range(self._habits.pipeline)])
        for number in range(self._habits.singles):
            yield self._beacon() if number % 2 else self._together([self._owned.task()])
        for number in range(self._habits.reads):
            yield self._other_beacon() if number % 2 else self._own_count()

    def last(self) -> Iterator[Call]:
        """What has to be done before the ledger is counted: what would expire is made to last."""
        for task in self._owned.last_tasks():
            yield self._together([task])

    def _task(self) -> Task:
        if self._rng.random() < self._habits.wide_share:
            return self._wide()
        return self._owned.task()

    def _wide(self) -> Task:
        """SET of one of many keys, those whose number is ours modulo the number of processes."""
        self._serial += 1
        share = self._habits.wide_keys // self._workers
        key = b"string:%d" % (self._rng.randrange(share) * self._workers + self._number)
        value = (b"%d %d " % (self._number, self._serial)).ljust(WIDE_VALUE_BYTES, b".")
        return self._set(key, value)

    def _set(self, key: bytes, value: bytes) -> Task:
        def note(replies: Sequence[Reply]) -> None:
            account = self.ledger.account(key, "text")
            account.items[:] = [value]
            account.writes += 1

        def unknown() -> None:
            self.ledger.account(key, "text").doubtful += 1

        return Task([("SET", key, value)], note, unknown)

    def _together(self, tasks: Sequence[Task]) -> Call:
        commands = [command for task in tasks for command in task.commands]

        def note(replies: Sequence[Reply]) -> bool:
            at = 0
            for task in tasks:
                task.note(replies[at : at + len(task.commands)])
                at += len(task.commands)
            return True

        def unknown() -> None:
            for task in tasks:
                task.unknown()

        kind = CallKind.WRITE if len(commands) == 1 else CallKind.PIPELINE
        return Call(kind, commands, len(commands), note, unknown)

    def _beacon(self) -> Call:
        self._serial += 1
        task = self._set(beacon(self._number), b"%d" % self._serial)
        serial = self._serial

        def note(replies: Sequence[Reply]) -> bool:
            task.note(replies)
            self._beacons[self._number] = serial
            return True

        return Call(CallKind.WRITE, task.commands, 1, note, task.unknown)

    def _other_beacon(self) -> Call:
        other = self._rng.randrange(self._workers)
        least = self._beacons[other]

        def note(replies: Sequence[Reply]) -> bool:
            return _number(replies[0]) >= least

        return Call(CallKind.READ, [("GET", beacon(other))], 0, note, _nothing)

    def _own_count(self) -> Call:
        """A counter of our own: what is there has to be what we were told is there."""
        accounts = self.ledger.accounts
        key = b"own:%d:count:%d" % (self._number, self._rng.randrange(KEYS_PER_FAMILY))

        def note(replies: Sequence[Reply]) -> bool:
            account = accounts.get(key)
            if account is None or account.doubtful:
                return True
            return replies[0] == account.items[0]

        return Call(CallKind.READ, [("GET", key)], 0, note, _nothing)


def beacon(worker: int) -> bytes:
    """The key that a process counts upwards in, for the others to read."""
    return b"beacon:%d" % worker


def _number(reply: Reply) -> int:
    return int(reply) if isinstance(reply, bytes) else 0


def _nothing() -> None:
    """A read that failed changes no account."""
