"""What an application did and was told, as it is recorded and read back.

An operation is written down before it is sent and again when its outcome is known, each with one write of its own to
a file: of a process that is killed at any moment what it had begun is there, and counts as unknown. Times are of the
machine's monotonic clock, which is one for all of its processes.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

FOREVER = math.inf


class Outcome(StrEnum):
    """What an application knows of an operation of its own."""

    DONE = "done"
    FAILED = "failed"
    """It was not done, surely."""
    UNKNOWN = "unknown"
    """It was done or not, or will still be."""


@dataclass(frozen=True, slots=True)
class Op:
    """One operation.

    Attributes:
        family: By which it is judged.
        key: What it is about: in ``registers`` and ``counters`` a key, with its field or member after "|"; else the
            name of what is judged together.
        action: What it does there, in a word that the family knows.
        value: The unique value that it writes.
        commands: Words of one command, or of several that run in one transaction.
        extra: What else the family has to know.
    """

    family: str
    key: str
    action: str
    value: str
    commands: tuple[tuple[str, ...], ...]
    extra: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """One operation of a history.

    Attributes:
        worker: Name of the process; ``number`` is the operation's there.
        begun: Before it was sent, in seconds.
        ended: After its reply had come; ``FOREVER`` when its outcome is unknown, because it may be carried out late.
        heard: When the application knew that.
        reply: Everything that was answered, flat, as texts.
    """

    worker: str
    number: int
    family: str
    key: str
    action: str
    value: str
    extra: str
    begun: float
    ended: float
    heard: float
    outcome: Outcome
    reply: tuple[str, ...] = ()
    error: str = ""

    @property
    def done(self) -> bool:
        return self.outcome is Outcome.DONE

    @property
    def maybe(self) -> bool:
        """Whether it may have been done."""
        return self.outcome is not Outcome.FAILED

    def __str__(self) -> str:
        what = f"{self.action} {self.value or ','.join(self.reply[:4])!r}"
        return f"{what} by {self.worker}#{self.number} at {self.begun:.4f}-{self.heard:.4f} ({self.outcome})"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that must not be."""

    family: str
    key: str
    what: str

    def __str__(self) -> str:
        return f"{self.family} {self.key}: {self.what}"


class Recorder:
    """Writes a history; any number of threads may use it."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._numbers = itertools.count()

    def begin(self, op: Op) -> int:
        """To be called before the operation is sent; its number for ``end``."""
        number = next(self._numbers)
        self._write(["b", number, time.monotonic(), op.family, op.key, op.action, op.value, op.extra])
        return number

    def end(self, number: int, outcome: Outcome, reply: Sequence[str] = (), error: str = "") -> None:
        self._write(["e", number, time.monotonic(), outcome, list(reply), error])

    def _write(self, record: list[object]) -> None:
        line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        if os.write(self._file, line) != len(line):
            raise OSError("a line of the history was written in part")


@dataclass(slots=True)
class History:
    """All that applications did, in no order."""

    events: list[Event] = field(default_factory=list)

    @classmethod
    def read(cls, paths: Iterable[Path]) -> History:
        """Of files, one for each process, named after it. A last line that is cut off is left out."""
        return cls([event for path in paths for event in _read(path)])

    def acknowledged(self) -> int:
        return sum(event.done for event in self.events)

    def longest_s(self) -> float:
        """How long an operation took at most, blocked ones left out."""
        waits = (event.heard - event.begun for event in self.events if "blocks" not in event.extra)
        return max((wait for wait in waits if wait < FOREVER), default=0.0)


def _read(path: Path) -> list[Event]:
    begun: dict[int, list[object]] = {}
    ended: dict[int, list[object]] = {}
    for line in path.read_bytes().splitlines(keepends=True):
        if line.endswith(b"\n"):
            kind, number, *rest = json.loads(line)
            (begun if kind == "b" else ended)[number] = rest
    return [_event(path.stem, number, first, ended.get(number)) for number, first in begun.items()]


def _event(worker: str, number: int, first: list[object], last: list[object] | None) -> Event:
    at, family, key, action, value, extra = first
    heard, outcome, reply, error = last or (FOREVER, Outcome.UNKNOWN, [], "the process ended")
    found = Outcome(str(outcome))
    assert isinstance(at, float) and isinstance(heard, float) and isinstance(reply, list)
    ended = FOREVER if found is Outcome.UNKNOWN else heard
    texts = str(family), str(key), str(action), str(value), str(extra)
    return Event(worker, number, *texts, at, ended, heard, found, tuple(reply), str(error))
