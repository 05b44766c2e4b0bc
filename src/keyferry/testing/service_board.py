"""What the processes of a service tell each other and whoever watches: numbers in one file that all map into memory."""

from __future__ import annotations

import mmap
from pathlib import Path
from types import TracebackType

SLOTS = 8
"""Of 8 bytes per process: a cache line, so that no process slows another down."""
BEACON, WRITES, READS, STALE, FAILED, UNKNOWN = range(6)
_BYTES = 8


class Board:
    """One row of numbers per process, plus one for whoever leads the service. A context manager.

    Args:
        file: Made and filled with zeros by ``create``.
    """

    def __init__(self, file: Path) -> None:
        with file.open("r+b") as opened:
            self._map = mmap.mmap(opened.fileno(), 0)
        self._numbers = memoryview(self._map).cast("q")

    def __enter__(self) -> Board:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._numbers.release()
        self._map.close()

    @staticmethod
    def create(file: Path, workers: int) -> Board:
        file.write_bytes(bytes((workers + 1) * SLOTS * _BYTES))
        return Board(file)

    # As ``service.Beacons``: a process's beacon, by its number.
    def __getitem__(self, worker: int) -> int:
        return self._numbers[worker * SLOTS + BEACON]

    def __setitem__(self, worker: int, acknowledged: int) -> None:
        self._numbers[worker * SLOTS + BEACON] = acknowledged

    def add(self, worker: int, slot: int, number: int) -> None:
        """Only the process itself adds to its row."""
        self._numbers[worker * SLOTS + slot] += number

    def total(self, slot: int) -> int:
        """Of all processes."""
        return sum(self._numbers[slot::SLOTS][:-1])

    @property
    def lead(self) -> int:
        """A number of the leader's own, for processes that look at it before every call."""
        return self._numbers[len(self._numbers) - SLOTS]

    @lead.setter
    def lead(self, number: int) -> None:
        self._numbers[len(self._numbers) - SLOTS] = number
