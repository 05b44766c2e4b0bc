"""How long a service waited, out of the times of all its calls, without I/O.

The gate is seen from outside: from the beginning of the first write that had to wait until the first write that came
back. Calls of all processes are on one clock (monotonic, of one machine).
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from keyferry.testing.service import CallKind, Outcome


@dataclass(frozen=True, slots=True)
class Window:
    """A time, monotonic nanoseconds."""

    begun_ns: int
    ended_ns: int


@dataclass(frozen=True, slots=True)
class Gap:
    """A time in which writes were under way and none came back.

    Attributes:
        held: How many writes were waiting when the first one came back.
    """

    begun_ns: int
    ended_ns: int
    held: int

    @property
    def seconds(self) -> float:
        return (self.ended_ns - self.begun_ns) / 1e9


@dataclass(frozen=True, slots=True)
class Timed:
    """One call."""

    begun_ns: int
    ended_ns: int
    kind: CallKind
    outcome: Outcome

    @property
    def wait_ns(self) -> int:
        return self.ended_ns - self.begun_ns


class Calls:
    """Every call of a service, in the order of their ends."""

    def __init__(self, calls: Iterable[Timed]) -> None:
        self._calls = sorted(calls, key=lambda call: call.ended_ns)

    @classmethod
    def of_numbers(cls, numbers: array[int]) -> Calls:
        """As ``service_process`` writes them: begin, end, kind + 8 * outcome."""
        return cls(
            Timed(begun, ended, CallKind(what % 8), Outcome(what // 8))
            for begun, ended, what in zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True)
        )

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[Timed]:
        return iter(self._calls)

    def within(self, window: Window) -> Calls:
        """Those of which any part lies in the window."""
        return Calls(
            call
            for call in self._calls
            if call.ended_ns >= window.begun_ns and call.begun_ns <= window.ended_ns
        )

    def outside(self, windows: Sequence[Window]) -> Calls:
        """Those of which no part lies in any of the windows."""
        return Calls(
            call
            for call in self._calls
            if not any(call.ended_ns >= one.begun_ns and call.begun_ns <= one.ended_ns for one in windows)
        )

    def waits_ns(self) -> list[int]:
        """Sorted."""
        return sorted(call.wait_ns for call in self._calls)

    def longest_s(self) -> float:
        """0.0 of no call."""
        return max((call.wait_ns for call in self._calls), default=0) / 1e9

    def errors(self) -> int:
        """Calls that came back with an error."""
        return sum(call.outcome in (Outcome.FAILED, Outcome.UNKNOWN) for call in self._calls)

    def gap(self) -> Gap | None:
        """The longest time in which no write came back although one had been sent; None when that never was.

        It ends when a write comes back. It begins when the first of those was sent that were still under way then, or
        when the write before it came back, whichever is later.
        """
        writes = [call for call in self._calls if call.kind is not CallKind.READ]
        best: Gap | None = None
        for before, after in itertools.pairwise(writes):
            if best is not None and after.ended_ns - before.ended_ns <= best.ended_ns - best.begun_ns:
                continue
            held = [call.begun_ns for call in writes if call.begun_ns < after.ended_ns <= call.ended_ns]
            begun_ns = max(min(held), before.ended_ns)
            if best is None or after.ended_ns - begun_ns > best.ended_ns - best.begun_ns:
                best = Gap(begun_ns, after.ended_ns, len(held))
        return best
